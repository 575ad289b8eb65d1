"""The port of the hand-off between producer and consumer. Adapters: `inprocess`, `kafka` and, to publish only,
`files`. It does no I/O itself.

Delivery is at least once: a published message is delivered until it is acknowledged, possibly several times and in any
order.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

Headers = tuple[tuple[str, bytes], ...]
ADDED_HEADERS: Final = "raingauge-"
"""The prefix of the headers that are added when a message becomes a dead letter."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message together with what its acknowledgement needs. `value` is None for a tombstone.

    `epoch` is the assignment of partitions under which it was delivered; acknowledgements from an older one are void.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    epoch: int = 0

    @property
    def identity(self) -> str:
        """A UUID that it keeps when it is delivered again."""
        where = f"{self.topic}/{self.partition}/{self.offset}/{(self.value or b'').hex()}"
        return str(uuid.uuid5(uuid.NAMESPACE_OID, where))

    def dead_letter_headers(self, error: Exception) -> Headers:
        """The headers of its dead letter: its own, then where it was and why it was buried."""
        return (
            *self.headers,
            (f"{ADDED_HEADERS}topic", self.topic.encode()),
            (f"{ADDED_HEADERS}partition", str(self.partition).encode()),
            (f"{ADDED_HEADERS}offset", str(self.offset).encode()),
            (f"{ADDED_HEADERS}error", f"{type(error).__name__}: {error}".encode()[:1000]),
        )


class Publisher(Protocol):
    """The sending side."""

    async def publish(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        """Return when the message is stored durably. May take as long as an outage lasts.

        Raises:
            HandoffUnavailable: the client was replaced during the call; whether the message was stored is unknown.
            Permanent: the message can never be stored (too large).
        """


class Subscription(Protocol):
    """The receiving side, a member of the consumer group. At most `window` deliveries are unacknowledged at a time."""

    @property
    def held(self) -> Sequence[Delivery]:
        """The deliveries that are held; their partitions wait behind them."""

    async def lag(self) -> Mapping[int, int]:
        """Messages that are not settled, held ones and those behind them too, of each partition assigned to it.

        Raises:
            HandoffUnavailable: it is not known now.
        """

    async def receive(self) -> Sequence[Delivery]:
        """Wait for at least one delivery. Keeps waiting through outages of the hand-off."""

    def acknowledge(self, delivery: Delivery) -> None:
        """Mark the delivery as completely processed. Acknowledging twice, or after it was taken away, has no effect."""

    def hold(self, delivery: Delivery) -> None:
        """Keep a delivery that this version cannot process; its partition waits behind it."""
