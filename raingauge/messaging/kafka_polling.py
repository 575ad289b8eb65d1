"""Polling one client of the group: always, also while nothing may be fetched, and no more than the window takes.

It must not commit, and not stop: a member that does not poll loses its partitions.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from itertools import chain
from typing import Any, NoReturn

from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import KafkaError

from raingauge.messaging.kafka_client import log
from raingauge.messaging.port import Delivery
from raingauge.messaging.window import Window

POLL_MS = 1000


class OffsetsFellBackError(Exception):
    """A partition goes on below what it delivered: the topic was made anew. What is in hand means other messages."""


class Polling(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Fills the window from one subscribed client. `arrived` is set when something came.

    `taken_away` is awaited before partitions go to another member.
    """

    def __init__(
        self, consumer: Any, window: Window, arrived: asyncio.Event, taken_away: Callable[[], Awaitable[None]]
    ) -> None:
        self.heard = True
        self._consumer = consumer
        self._window = window
        self._arrived = arrived
        self._taken_away = taken_away
        self._assigned = False
        self._fetched_at: dict[Any, int | None] = {}

    async def run(self) -> NoReturn:
        """Poll for ever.

        Raises:
            Exception: whatever aiokafka says. Some of what it had fetched may then be gone: take a new client.
        """
        while True:
            self.arrange()
            # When nothing is free all is paused, so that the one record asked for cannot come.
            fetched = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=max(1, self._window.free))
            for record in chain.from_iterable(fetched.values()):
                if not self._window.take(self._delivery(record)):
                    raise OffsetsFellBackError(f"partition {record.partition}, offset {record.offset}")
            if fetched:
                self._arrived.set()

    def arrange(self) -> None:
        """Pause what may not be fetched now, resume what may."""
        paused, assigned = self._consumer.paused(), self._consumer.assignment()
        held = self._window.held_partitions
        wait = {tp for tp in assigned if self._window.full or tp.partition in held}
        self._consumer.pause(*(wait - paused))
        self._consumer.resume(*(paused - wait))

    async def listen(self, within_s: float) -> bool:
        """Whether the brokers answered since the last time, or do now. Sets `heard` when they did."""
        fetching = self._consumer.assignment() - self._consumer.paused()
        if self._assigned and fetching:  # each fetch leaves its time, also when it brought nothing
            stamps = {tp: self._consumer.last_poll_timestamp(tp) for tp in fetching}
            answered = any(stamp not in {None, self._fetched_at.get(tp)} for tp, stamp in stamps.items())
            self._fetched_at.update(stamps)
        else:
            answered = await self._brokers_answer(within_s)
        self.heard = self.heard or answered
        return answered

    async def _brokers_answer(self, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                await self._consumer.topics()
        except (KafkaError, TimeoutError):
            return False
        return True

    async def on_partitions_revoked(self, _revoked: Collection[Any]) -> None:
        """Called by aiokafka before the group is shared out anew: all partitions are taken away."""
        self._assigned = False
        await self._taken_away()

    def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        """Called by aiokafka with fresh partitions, none of them paused."""
        self._assigned = True
        log.info("handoff.assigned", extra={"partitions": sorted(tp.partition for tp in assigned)})
        self.arrange()

    def _delivery(self, record: Any) -> Delivery:
        headers = tuple((name, value or b"") for name, value in record.headers)
        return Delivery(
            record.topic, record.partition, record.offset, record.key, record.value, headers, self._window.epoch
        )
