"""Storing in the consumer group how far a subscription has come.

It must never store an offset past an unsettled delivery, nor one of an epoch that is over: `Window` sees to both.
"""

import asyncio
from typing import Any, NoReturn

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from raingauge.clock import Clock
from raingauge.messaging.kafka_client import Patience, log, said
from raingauge.messaging.window import Window


class Commits:
    """Commits soon after something moved, many acknowledgements at once. `consumer` is the client in use, if any."""

    def __init__(self, topic: str, window: Window, clock: Clock, patience: Patience) -> None:
        self.consumer: Any | None = None
        self._topic = topic
        self._window = window
        self._clock = clock
        self._patience = patience
        self._moved = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()

    def moved(self) -> None:
        """Say that there may be something to commit."""
        self._moved.set()

    async def run(self) -> NoReturn:
        """Commit whenever something moved, for ever."""
        while True:
            await self._moved.wait()
            self._moved.clear()
            if await self.commit(self._patience.commit_s):
                await self._clock.sleep(self._patience.commit_every_s)
            else:
                self._moved.set()
                await self._clock.sleep(self._patience.first_pause_s)

    async def commit(self, within_s: float) -> bool:
        """Commit what moved; False when that failed: then the deliveries may come again, which does no harm."""
        async with self._one_at_a_time:
            offsets, epoch = self._window.to_commit(), self._window.epoch
            if not offsets or self.consumer is None:
                return not offsets
            try:
                async with asyncio.timeout(within_s):  # aiokafka tries for ever
                    await self.consumer.commit(
                        {TopicPartition(self._topic, p): offset for p, offset in offsets.items()}
                    )
            except (KafkaError, TimeoutError) as error:
                log.warning("handoff.commit_failed", extra={"partitions": sorted(offsets), "error": said(error)})
                return False
            if epoch == self._window.epoch:
                self._window.committed(offsets)
            return True
