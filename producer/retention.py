"""Deletes collections on request, and prunes what is older than the settings allow.

What is deleted is marked at once and removed in the background: in steps of a few milliseconds with pauses between,
by one process at a time, which holds a lease. It speaks no HTTP and decides nothing about open collections.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from sqlalchemy import Connection

from producer.collections import DEADLINE_S
from raingauge.background import repeated
from raingauge.clock import happens_within
from raingauge.database.transactions import Transactions
from raingauge.settings import RetentionSettings
from raingauge.storage import retention, streams
from raingauge.storage.retention import Cursor, Removed

log = logging.getLogger("raingauge.retention")

EVERY_S: Final = 60.0
LEASE: Final = timedelta(minutes=3)
"""Longer than a pause and any step, so that the lease stays with a process that is alive."""
REST_FACTOR: Final = 3
"""Pause after a step, as a multiple of its duration, so that requests are not starved."""
SHORTEST_REST_S: Final = 0.02
DELETIONS_KEPT: Final = timedelta(days=30)
"""For so long a message of a deleted collection is recognized; later it would become a dead letter."""


class Retention:
    """Deletion on request, and the background task that removes what is deleted or old."""

    def __init__(
        self, transactions: Transactions, settings: RetentionSettings, *, streams: bool = False, holder: str = ""
    ) -> None:
        self._transactions = transactions
        self._readings = timedelta(days=settings.readings_days)
        self._collections = timedelta(days=settings.collections_days)
        self._streams = streams
        self._holder = holder
        self._due = asyncio.Event()
        self.on_removed: Callable[[Mapping[str, int]], None] = lambda _: None
        """Called after each step with the number of rows by table."""

    async def delete(self, collection_id: str) -> bool:
        """Delete a collection that has ended; False: there is none. Rows of a large one are removed soon after.

        Raises:
            StillOpen: it is open.
            DatabaseUnavailable: in time.
        """

        def work(connection: Connection) -> Removed | None:
            return retention.delete_collection(connection, self._transactions.now(connection), collection_id)

        removed = await self._transactions.write(work, DEADLINE_S)
        if removed is None:
            return False
        self.on_removed(removed.rows)
        self._due.set()
        return True

    async def run(self) -> None:
        """Remove what is deleted or old until cancelled: a look each minute, and at once after a deletion here."""
        await repeated(self._round, self._pause)

    async def _pause(self) -> None:
        await happens_within(self._due, EVERY_S)
        self._due.clear()

    async def _round(self) -> bool:
        """Remove everything that is due, unless another process does. Returns False: a pause follows."""
        removed: Counter[str] = Counter()
        try:
            while await self._step(self._mark, removed) and await self._remove_marked(removed):
                pass
            if self._collections:
                await self._remove_events(removed)
            while (step := await self._step(_old_deletions, removed)) and step.has_more:
                pass
        finally:
            if removed := +removed:
                log.info("retention.removed", extra=dict(sorted(removed.items())))
        return False

    async def _step(self, work: Callable[[Connection, datetime], Removed], removed: Counter[str]) -> Removed | None:
        """One short transaction, then a rest; None: another process has the lease."""

        def leased(connection: Connection) -> Removed | None:
            now = self._transactions.now(connection)
            return work(connection, now) if retention.take_lease(connection, now, self._holder, now + LEASE) else None

        began = self._transactions.clock.monotonic()
        step = await self._transactions.write(leased)
        if step is not None and (step.has_more or step.rows):
            removed.update(step.rows)
            self.on_removed(step.rows)
            took_s = self._transactions.clock.monotonic() - began
            await self._transactions.clock.sleep(max(SHORTEST_REST_S, REST_FACTOR * took_s))
        return step

    def _mark(self, connection: Connection, now: datetime) -> Removed:
        """Mark what is too old, a few collections at a time."""
        # Keep what the streams still have to publish.
        waiting = streams.oldest_waiting(connection) if self._streams else None
        if self._collections:
            retention.mark_collections(connection, now, min(now - self._collections, waiting or now))
        if self._readings:
            retention.mark_readings(connection, now, min(now - self._readings, waiting or now))
        return Removed()

    async def _remove_marked(self, removed: Counter[str]) -> bool:
        """Remove all that is marked; return whether there was anything."""
        after: Cursor | None = None
        any_marked = False
        while (step := await self._step(partial(_marked, after=after), removed)) is not None and step.has_more:
            after, any_marked = step.after, True
        return any_marked and step is not None

    async def _remove_events(self, removed: Counter[str]) -> None:
        after = 0

        def work(connection: Connection, now: datetime) -> Removed:
            nonlocal after
            step, after = retention.remove_events(connection, now - self._collections, after)
            return step

        while (step := await self._step(work, removed)) is not None and step.has_more:
            pass


def _marked(connection: Connection, _now: datetime, after: Cursor | None) -> Removed:
    return retention.remove_some(connection, after)


def _old_deletions(connection: Connection, now: datetime) -> Removed:
    return retention.remove_deletions(connection, now - DELETIONS_KEPT)
