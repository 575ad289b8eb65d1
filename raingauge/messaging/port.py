"""The port of the hand-off. Adapters: `inprocess` (one process, nothing outside it) and `kafka`.

At least once: what is published is delivered, perhaps several times, perhaps in another order, until it is
acknowledged.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message with what its acknowledgement needs. `value` is None for a tombstone."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    epoch: int = 0
    """Which assignment of the partition this delivery came with; acknowledgements of an older one are void."""


Lost = Callable[[Sequence[Delivery]], Awaitable[None]]
"""Told which unacknowledged deliveries are being taken away; it may finish what it can and acknowledge it."""


class Publisher(Protocol):
    """The sending side."""

    async def publish(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        """Return when the message is stored safely.

        It may take as long as an outage lasts. An ended call means the outcome is known, except for a
        `HandoffUnavailable`: then the message may or may not be stored.

        Raises:
            HandoffUnavailable: the client had to be rebuilt while the message was under way.
            Permanent: the message can never be stored (too large).
        """


class Subscription(Protocol):
    """The receiving side, a member of the consumer group. At most `window` deliveries are held unacknowledged."""

    async def receive(self) -> Sequence[Delivery]:
        """Wait for deliveries: at least one. Waiting goes on through outages of the hand-off."""

    def acknowledge(self, delivery: Delivery) -> None:
        """Say that all of it is settled. Acknowledging twice, or after it was taken away, does nothing."""

    def hold(self, delivery: Delivery) -> None:
        """Say that this delivery cannot be worked on by this version: it stays, and its partition waits behind it."""
