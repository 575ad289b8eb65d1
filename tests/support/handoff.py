"""A hand-off in memory: subscription and publisher in one, so that the order of what is done to a delivery shows."""

import asyncio
from collections.abc import Mapping, Sequence

from raingauge.messaging.port import Delivery, Headers


class FakeHandoff:
    """Delivers the rounds it is given, and records what becomes of them; publishing meets the given errors first."""

    def __init__(self, *rounds: Sequence[Delivery]) -> None:
        self.rounds = list(rounds)
        self.done: list[tuple[str, int]] = []
        self.buried: list[tuple[str, bytes | None, bytes | None, Headers]] = []
        self.publish_errors: list[Exception] = []
        self.held: list[Delivery] = []

    async def receive(self) -> Sequence[Delivery]:
        if not self.rounds:
            await asyncio.Event().wait()
        return self.rounds.pop(0)

    async def lag(self) -> Mapping[int, int]:
        return {}

    def acknowledge(self, delivery: Delivery) -> None:
        self.done.append(("acknowledged", delivery.offset))
        self.held = [other for other in self.held if other != delivery]

    def hold(self, delivery: Delivery) -> None:
        self.done.append(("held", delivery.offset))
        self.held.append(delivery)

    async def publish(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        self.done.append(("published", len(self.buried)))
        if self.publish_errors:
            raise self.publish_errors.pop(0)
        self.buried.append((topic, key, value, headers))
