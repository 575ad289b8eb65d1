"""A consumer's metrics. It decides nothing: intake and caller get the objects that they count with."""

from collections.abc import Mapping
from typing import Final, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from consumer.provider.port import Reason, Refusal, Reply, Weather
from raingauge.errors import NotSent, ProviderUnavailable, Unreadable
from raingauge.messaging.port import Subscription
from raingauge.model import DeliveryStatus
from raingauge.observability.metrics import Telemetry

CALL_BUCKETS_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0)
OUTCOMES: Final = ("answered", "unreadable", "silent", "unsent", *(reason.value for reason in Reason))


class CallMetrics:
    """What the caller counts. With `registry=None` it is not exported."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._calls = Histogram(
            "raingauge_provider_call_duration_seconds",
            "Calls to the provider, by what became of them.",
            ["outcome"],
            registry=registry,
            buckets=CALL_BUCKETS_S,
        )
        self.outcomes: Mapping[str, Histogram] = {outcome: self._calls.labels(outcome) for outcome in OUTCOMES}
        self.requested = Counter(
            "raingauge_provider_cities_requested", "Cities in calls: what they cost.", registry=registry
        )
        self.collected = Counter("raingauge_cities_collected", "Cities that were answered.", registry=registry)

    def ended(self, reply: Reply | ProviderUnavailable, seconds: float) -> None:
        """Record a finished call and how long it took."""
        self.outcomes[_outcome(reply)].observe(seconds)


def _outcome(reply: Reply | ProviderUnavailable) -> str:
    if isinstance(reply, Refusal):
        return reply.reason.value
    if isinstance(reply, Weather):
        return "unreadable" if reply.unreadable else "answered"
    if isinstance(reply, Unreadable):
        return "unreadable"
    return "unsent" if isinstance(reply, NotSent) else "silent"


def dead_letter_counter(registry: CollectorRegistry | None = None) -> Counter:
    """What the intake counts. With `registry=None` it is not exported."""
    return Counter("raingauge_dead_letters", "Messages that this process has buried.", registry=registry)


def webhook_counter(registry: CollectorRegistry | None = None) -> Counter:
    """What a webhook's sender counts: attempts by what the delivery became. With `registry=None` it is not exported."""
    counter = Counter(
        "raingauge_webhook_attempts",
        "Attempts to deliver an event to a webhook, by what the delivery is then; waiting: it is attempted again.",
        ["status"],
        registry=registry,
    )
    for status in get_args(DeliveryStatus):
        counter.labels(status)
    return counter


class ConsumerMetrics:
    """All of a consumer's metrics."""

    def __init__(self, telemetry: Telemetry) -> None:
        registry = telemetry.registry
        self._telemetry = telemetry
        self.calls = CallMetrics(registry)
        self.dead_letters = dead_letter_counter(registry)
        self.webhook_attempts = webhook_counter(registry)
        self.batches_held = Gauge(
            "raingauge_batches_held", "Batches whose deliveries are not acknowledged yet.", registry=registry
        )
        self.partitions_held = Gauge(
            "raingauge_partitions_held", "Partitions that wait behind a message of a newer version.", registry=registry
        )
        self.caller_quiet = Gauge(
            "raingauge_caller_quiet_seconds", "Time since the caller last tried to do something.", registry=registry
        )
        self._lag = Gauge(
            "raingauge_handoff_lag_messages",
            "Messages of the partitions assigned to this consumer that are not settled.",
            ["partition"],
            registry=registry,
        )

    def watch_lag(self, subscription: Subscription) -> None:
        """Read the subscription's lag for scrapes; what is not known is not shown."""

        async def read() -> None:
            self._lag.clear()
            for partition, messages in (await subscription.lag()).items():
                self._lag.labels(partition).set(messages)

        self._telemetry.read_before_scrapes(read)
