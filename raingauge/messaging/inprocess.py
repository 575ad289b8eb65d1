"""The hand-off inside one process: no Kafka, nothing outside. What it holds is gone when the process ends.

It must not pretend to be durable: the database is the truth, and the relay publishes again what was not settled.
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

DEAD_LETTERS_KEPT: Final = 1000


class InProcessBroker:
    """One topic with one subscription at a time; itself the publisher.

    Messages for any other topic (dead letters) are kept for inspection in `dead_letters`, the oldest dropped first.
    """

    connected = True

    def __init__(self, topic: str, window: int, partitions: int = 1) -> None:
        self.dead_letters: deque[Delivery] = deque(maxlen=DEAD_LETTERS_KEPT)
        self._topic = topic
        self._log = _Log(window, partitions)

    async def publish(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        """Store the message at once."""
        if topic == self._topic:
            self._log.append(Delivery(topic, crc32(key or b"") % self._log.partitions, 0, key, value, headers))
        else:
            self.dead_letters.append(Delivery(topic, 0, len(self.dead_letters), key, value, headers))

    def subscription(self) -> "InProcessSubscription":
        """The receiving side, to be entered. There is nobody to lose deliveries to, so nobody is told of any."""
        return InProcessSubscription(self._log)


class InProcessSubscription:
    """Reads the broker's topic. What is unacknowledged when it closes is delivered again to the next."""

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
        """Wait for deliveries: at least one."""
        while not (deliveries := self._log.fetch()):
            self._log.news.clear()
            await self._log.news.wait()
        return deliveries

    def acknowledge(self, delivery: Delivery) -> None:
        """Say that all of it is settled."""
        self._log.settle(delivery)

    def hold(self, delivery: Delivery) -> None:
        """Say that this delivery cannot be worked on by this version."""
        self._log.window.hold(delivery)
        self._log.news.set()

    @property
    def held(self) -> Sequence[Delivery]:
        """The deliveries that this version cannot work on."""
        return self._log.window.held


class _Log:
    """The messages of the topic that are not settled, and how far they were fetched."""

    def __init__(self, window: int, partitions: int) -> None:
        self.partitions = partitions
        self.window = Window(window)
        self.news = asyncio.Event()
        self._ends = [0] * partitions
        self._unsettled: dict[tuple[int, int], Delivery] = {}
        self._unfetched: deque[Delivery] = deque()
        self._open = False

    def append(self, message: Delivery) -> None:
        message = replace(message, offset=self._ends[message.partition])
        self._ends[message.partition] += 1
        self._unsettled[message.partition, message.offset] = message
        self._unfetched.append(message)
        self.news.set()

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
            self.news.set()
