"""The hand-off inside one process, without Kafka. Its messages are gone when the process ends.

It must not pretend to be durable: the database is the truth, and the relay republishes unsettled batches.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Final, Self
from zlib import crc32

from raingauge.messaging.port import Delivery, Headers
from raingauge.messaging.window import Window

MAX_DEAD_LETTERS: Final = 1000


class InProcessBroker:
    """The publisher of one topic, with one subscription at a time.

    Messages for any other topic are kept in `dead_letters` for inspection; the oldest are dropped first.
    """

    connected = True

    def __init__(self, topic: str, window: int, partitions: int = 1) -> None:
        self.dead_letters: deque[Delivery] = deque(maxlen=MAX_DEAD_LETTERS)
        self._topic = topic
        self._log = _Log(window, partitions)

    async def publish(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        """Store the message immediately."""
        if topic == self._topic:
            self._log.append(Delivery(topic, crc32(key or b"") % self._log.partitions, 0, key, value, headers))
        else:
            self.dead_letters.append(Delivery(topic, 0, len(self.dead_letters), key, value, headers))

    def subscription(self) -> "InProcessSubscription":
        """The receiving side, an async context manager. It never loses deliveries to another member."""
        return InProcessSubscription(self._log)


class InProcessSubscription:
    """Reads the broker's topic. Deliveries left unacknowledged at its end go to the next subscription."""

    connected = True

    def __init__(self, log: "_Log") -> None:
        self._log = log

    async def __aenter__(self) -> Self:
        self._log.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.close()

    async def receive(self) -> Sequence[Delivery]:
        """Wait for at least one delivery."""
        while not (deliveries := self._log.fetch()):
            self._log.arrived.clear()
            await self._log.arrived.wait()
        return deliveries

    def acknowledge(self, delivery: Delivery) -> None:
        """Mark the delivery as completely processed."""
        self._log.settle(delivery)

    def hold(self, delivery: Delivery) -> None:
        """Keep a delivery that this version cannot process; its partition waits behind it."""
        self._log.window.hold(delivery)
        self._log.arrived.set()

    @property
    def held(self) -> Sequence[Delivery]:
        """The deliveries that this version cannot process."""
        return self._log.window.held


class _Log:
    """The unsettled messages of the topic, and which of them were not fetched yet."""

    def __init__(self, window: int, partitions: int) -> None:
        self.partitions = partitions
        self.window = Window(window)
        self.arrived = asyncio.Event()
        self._ends = [0] * partitions
        self._unsettled: dict[tuple[int, int], Delivery] = {}
        self._unfetched: deque[Delivery] = deque()
        self._open = False

    def append(self, message: Delivery) -> None:
        message = replace(message, offset=self._ends[message.partition])
        self._ends[message.partition] += 1
        self._unsettled[message.partition, message.offset] = message
        self._unfetched.append(message)
        self.arrived.set()

    def open(self) -> None:
        if self._open:
            raise RuntimeError("the in-process hand-off has one subscription at a time")
        self._open = True

    def close(self) -> None:
        self._open = False
        self.window.begin_epoch()
        self._unfetched = deque(self._unsettled.values())

    def fetch(self) -> list[Delivery]:
        while self._unfetched and not self.window.full:
            self.window.take(replace(self._unfetched.popleft(), epoch=self.window.epoch))
        return self.window.hand_out()

    def settle(self, delivery: Delivery) -> None:
        if self.window.acknowledge(delivery):
            del self._unsettled[delivery.partition, delivery.offset]
            self.arrived.set()
