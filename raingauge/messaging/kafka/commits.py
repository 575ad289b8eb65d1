"""Commits the offsets of a subscription in the consumer group.

It must never commit an offset past an unsettled delivery, nor one of an earlier epoch: `Window` ensures both.
"""

import asyncio
from typing import Any, NoReturn

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from raingauge.clock import Clock
from raingauge.messaging.kafka.client import Timeouts, log, one_line
from raingauge.messaging.window import Window


class Commits:
    """Commits shortly after an acknowledgement, many together. `consumer` is the current client, if there is one."""

    def __init__(self, topic: str, window: Window, clock: Clock, timeouts: Timeouts) -> None:
        self.consumer: Any | None = None
        self._topic = topic
        self._window = window
        self._clock = clock
        self._timeouts = timeouts
        self._requested = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()

    def request(self) -> None:
        """Note that there may be something to commit."""
        self._requested.set()

    async def run(self) -> NoReturn:
        """Commit on request, for ever."""
        while True:
            await self._requested.wait()
            self._requested.clear()
            if await self.commit(self._timeouts.commit_s):
                await self._clock.sleep(self._timeouts.commit_every_s)
            else:
                self._requested.set()
                await self._clock.sleep(self._timeouts.first_backoff_s)

    async def commit(self, timeout_s: float) -> bool:
        """Commit the offsets that moved. False if that failed: then deliveries may be repeated, which is harmless."""
        async with self._one_at_a_time:
            offsets, epoch = self._window.to_commit(), self._window.epoch
            if not offsets or self.consumer is None:
                return not offsets
            try:
                async with asyncio.timeout(timeout_s):  # aiokafka retries for ever
                    await self.consumer.commit(
                        {TopicPartition(self._topic, p): offset for p, offset in offsets.items()}
                    )
            except (KafkaError, TimeoutError) as error:
                log.warning("handoff.commit_failed", extra={"partitions": sorted(offsets), "error": one_line(error)})
                return False
            if epoch == self._window.epoch:
                self._window.committed(offsets)
            return True
