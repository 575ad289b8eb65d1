"""What stands for the provider when there is no key: refuses every call as the provider would, without making any."""

from collections.abc import Sequence

from consumer.provider.port import Reason, Refusal, Reply


class Keyless:
    """Everything waits, with the reason `key`, until somebody sets the key."""

    def group(self, city_ids: Sequence[int], send_by: float) -> Reply:  # noqa: ARG002
        """A refusal."""
        return _refusal()

    def single(self, city_id: int, send_by: float) -> Reply:  # noqa: ARG002
        """A refusal."""
        return _refusal()


def _refusal() -> Refusal:
    return Refusal(Reason.KEY, "there is no key: set OPENWEATHER_API_KEY")
