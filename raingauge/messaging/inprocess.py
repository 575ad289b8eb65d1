"""The hand-off inside one process, without Kafka. Its messages are gone when the process ends.

It must not pretend to be durable: the database is the truth, and the relay republishes unsettled batches.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final
from zlib import crc32

from raingauge.messaging.port import Delivery, Headers, Subscription
from raingauge.messaging.window import Window

MAX_DEAD_LETTERS: Final = 1000


class InProcessBroker:
    """Publisher and subscription of one topic.

    Messages for any other topic are kept in `dead_letters` for inspection; the oldest are dropped first.
    """

    connected = True

    def __init__(self, topic: str, window: int, partitions: int = 1) -> None:
        self.dead_letters: deque[Delivery] = deque(maxlen=MAX_DEAD_LETTERS)
        self._topic = topic
        self._partitions = partitions
        self._window = Window(window)
        self._arrived = asyncio.Event()
        self._ends: Counter[int] = Counter()
        self._unsettled: dict[tuple[int, int], Delivery] = {}
        self._unfetched: deque[Delivery] = deque()
        self._subscribed = False

    async def publish(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        """Store the message immediately."""
        if topic != self._topic:
            self.dead_letters.append(Delivery(topic, 0, len(self.dead_letters), key, value, headers))
            return
        partition = crc32(key or b"") % self._partitions
        message = Delivery(topic, partition, self._ends[partition], key, value, headers)
        self._ends[partition] += 1
        self._unsettled[partition, message.offset] = message
        self._unfetched.append(message)
        self._arrived.set()

    @asynccontextmanager
    async def subscription(self) -> AsyncIterator[Subscription]:
        """The receiving side, one at a time. Deliveries left unacknowledged at its end go to the next one."""
        if self._subscribed:
            raise RuntimeError("the in-process hand-off has one subscription at a time")
        self._subscribed = True
        try:
            yield self
        finally:
            self._subscribed = False
            self._window.begin_epoch()
            self._unfetched = deque(self._unsettled.values())

    async def receive(self) -> Sequence[Delivery]:
        """Wait for at least one delivery."""
        while not (deliveries := self._fetch()):
            self._arrived.clear()
            await self._arrived.wait()
        return deliveries

    async def lag(self) -> Mapping[int, int]:
        """Messages that are not acknowledged."""
        counts = Counter(partition for partition, _ in self._unsettled)
        return {partition: counts[partition] for partition in range(self._partitions)}

    def _fetch(self) -> Sequence[Delivery]:
        while self._unfetched and not self._window.full:
            self._window.take(replace(self._unfetched.popleft(), epoch=self._window.epoch))
        return self._window.hand_out()

    def acknowledge(self, delivery: Delivery) -> None:
        """Mark the delivery as completely processed."""
        if self._window.acknowledge(delivery):
            del self._unsettled[delivery.partition, delivery.offset]
            self._arrived.set()

    def hold(self, delivery: Delivery) -> None:
        """Keep a delivery that this version cannot process; its partition waits behind it."""
        self._window.hold(delivery)
        self._arrived.set()

    @property
    def held(self) -> Sequence[Delivery]:
        """The deliveries that are held; their partitions wait behind them."""
        return self._window.held
