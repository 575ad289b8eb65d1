"""Publishes readings on the streams, each at least once, and with it the latest weather of its city.

Publishing twice is harmless, losing is not. It must not publish batches or events, nor decide what a reading is.
"""

import asyncio
import logging
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from sqlalchemy import Connection

from raingauge.background import repeated
from raingauge.clock import Clock
from raingauge.database.transactions import Transactions
from raingauge.errors import RaingaugeError
from raingauge.messaging.port import Publisher
from raingauge.settings import StreamSettings
from raingauge.storage import streams
from raingauge.storage.streams import Outgoing
from raingauge.streams import LatestMessage, ReadingMessage, encode, headers

log = logging.getLogger("raingauge.relay")

LEASE: Final = timedelta(seconds=30)
MAX_AT_ONCE: Final = 500


class StreamRelay:
    """Publishes what the database says is due, every `every_s` seconds."""

    def __init__(
        self, transactions: Transactions, publisher: Publisher, clock: Clock, settings: StreamSettings, every_s: float
    ) -> None:
        self._transactions = transactions
        self._publisher = publisher
        self._clock = clock
        self._settings = settings
        self._every_s = every_s

    async def run(self) -> None:
        """Publish until cancelled."""
        await repeated(self._round, lambda: self._clock.sleep(self._every_s))

    async def _round(self) -> bool:
        """Publish what is due, up to `MAX_AT_ONCE` readings; return whether there may be more."""
        until, due = await self._transactions.write(self._lease)
        stored = await asyncio.gather(*(self._publish(one) for one in due))
        published = [one for one, is_stored in zip(due, stored, strict=True) if is_stored]
        if published:
            await self._transactions.write(partial(self._remove, published=published, until=until))
        return len(published) == MAX_AT_ONCE

    def _lease(self, connection: Connection) -> tuple[datetime, list[Outgoing]]:
        now = self._transactions.now(connection)
        return now + LEASE, streams.lease_readings(connection, now, now + LEASE, MAX_AT_ONCE)

    def _remove(self, connection: Connection, published: list[Outgoing], until: datetime) -> None:
        streams.remove_published(connection, self._transactions.now(connection), published, until)

    async def _publish(self, one: Outgoing) -> bool:
        """Whether the hand-off has confirmed all of it; if not, it is published again when its lease expires."""
        try:
            if one.reading is not None:
                await self._send(self._settings.readings_topic, one.reading, one.stored_at)
            if one.latest is not None:
                await self._send(self._settings.latest_topic, one.latest, one.latest.fetched_at)
        except RaingaugeError as error:
            log.warning("streams.not_published", extra={"reading": one.id, "error": str(error)})
            return False
        return True

    async def _send(self, topic: str, message: ReadingMessage | LatestMessage, time: datetime) -> None:
        value = encode(message, self._settings.format)
        await self._publisher.publish(topic, message.key, value, headers(message, time))
