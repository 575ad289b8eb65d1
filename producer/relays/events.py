"""Publishes events: those that are due, again and again until they are processed.

Publishing twice is harmless, losing is not. It knows neither what events mean nor who is notified.
"""

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from raingauge.background import repeated
from raingauge.clock import happens_within
from raingauge.contracts import EventMessage
from raingauge.database.transactions import Transactions
from raingauge.errors import RaingaugeError
from raingauge.messaging.port import Publisher
from raingauge.model import EventState
from raingauge.settings import RelaySettings
from raingauge.storage import events

log = logging.getLogger("raingauge.relay")

LEASE: Final = timedelta(seconds=30)
MAX_AT_ONCE: Final = 100
PAUSE_FACTOR: Final = 5
"""Pause after a round, as a multiple of `relay.every_s`: what consumers report is less urgent than batches."""


class EventRelay:
    """Publishes what the database says is due: every few seconds, and at once when woken."""

    def __init__(self, transactions: Transactions, publisher: Publisher, settings: RelaySettings, topic: str) -> None:
        self._transactions = transactions
        self._publisher = publisher
        self._every_s = PAUSE_FACTOR * settings.every_s
        self._again_after = timedelta(seconds=settings.republish_after_s)
        self._topic = topic
        self._due = asyncio.Event()

    def wake(self) -> None:
        """There is a new event."""
        self._due.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        await repeated(self._round, self._pause)

    async def _pause(self) -> None:
        await happens_within(self._due, self._every_s)
        self._due.clear()

    async def _round(self) -> bool:
        """Publish what is due, up to `MAX_AT_ONCE` events; return whether there may be more."""
        until, due = await self._transactions.write(self._lease)
        published = [event for event in due if await self._publish(event)]
        if published:
            again_at = until - LEASE + self._again_after
            await self._transactions.write(lambda connection: events.reschedule(connection, published, until, again_at))
        return len(published) == MAX_AT_ONCE

    def _lease(self, connection: Connection) -> tuple[datetime, Sequence[EventState]]:
        now = self._transactions.now(connection)
        return now + LEASE, events.lease(connection, now, now + LEASE, MAX_AT_ONCE)

    async def _publish(self, event: EventState) -> bool:
        """Whether the event is stored in the hand-off for sure; otherwise it is due again when its lease expires."""
        message = EventMessage.model_validate(event, from_attributes=True)
        try:
            await self._publisher.publish(self._topic, event.event_id.encode(), message.model_dump_json().encode())
        except RaingaugeError as error:
            log.warning("events.not_published", extra={"event_id": event.event_id, "error": str(error)})
            return False
        return True
