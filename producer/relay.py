"""The relay: the only one who publishes batches. It leases rows, publishes, marks them, publishes again what got lost.

Publishing twice is harmless, losing is not. It never sends a batch while an earlier send of it is pending.
"""

import asyncio
import logging
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from sqlalchemy import Connection

from raingauge.blocking import RunBlocking
from raingauge.clock import happens_within
from raingauge.contracts import BatchMessage
from raingauge.errors import DatabaseUnavailable, RaingaugeError
from raingauge.messaging.port import Publisher
from raingauge.pacing import Terms, month_allows
from raingauge.settings import RelaySettings
from raingauge.storage import batches
from raingauge.storage.batches import BatchRef, Lease
from raingauge.storage.consumers import any_alive
from raingauge.storage.database import Database
from raingauge.storage.gate import find_gate

log = logging.getLogger("raingauge.relay")

LEASE: Final = timedelta(seconds=30)
MOST_PENDING: Final = 500


class Relay:
    """Publishes what the database says is due: every `relay.every_s`, and at once when woken."""

    def __init__(  # noqa: PLR0913
        self,
        database: Database,
        run_database: RunBlocking,
        publisher: Publisher,
        settings: RelaySettings,
        *,
        topic: str,
        account: str,
        terms: Terms,
        outstanding: int,
        holder: str,
    ) -> None:
        self._database = database
        self._run_database = run_database
        self._publisher = publisher
        self._settings = settings
        self._topic = topic
        self._account = account
        self._terms = terms
        self._outstanding = outstanding
        self._holder = holder
        self._due = asyncio.Event()
        self._pending: dict[BatchRef, asyncio.Task[bool]] = {}

    @property
    def pending(self) -> int:
        """Batches whose publication is under way."""
        return len(self._pending)

    def wake(self) -> None:
        """There may be something new to publish."""
        self._due.set()

    async def run(self) -> None:
        """Publish until cancelled; then give up what is pending: its leases run out by themselves."""
        try:
            while True:
                self._due.clear()
                try:
                    await self._round()
                except DatabaseUnavailable as error:
                    log.warning("database.unavailable", extra={"error": str(error)})
                except Exception:
                    log.exception("relay.unexpected")  # and try again: without the relay nothing is published
                await happens_within(self._due, self._settings.every_s)
        finally:
            for task in self._pending.values():
                task.cancel()
            await asyncio.gather(*self._pending.values(), return_exceptions=True)

    async def _round(self) -> None:
        ended = {ref: task for ref, task in self._pending.items() if task.done()}
        published = [ref for ref, task in ended.items() if task.result()]
        unpublished = [ref for ref in ended if ref not in set(published)]
        messages = await self._run_database(partial(self._lease, published, unpublished))
        for ref in ended:
            del self._pending[ref]
        for message in messages:
            self._pending[BatchRef(message.collection_id, message.batch)] = asyncio.create_task(self._publish(message))

    def _lease(self, published: list[BatchRef], unpublished: list[BatchRef]) -> list[BatchMessage]:
        """Mark what was published, keep the leases of what is pending, lease what is due."""
        pending = [ref for ref in self._pending if ref not in {*published, *unpublished}]

        def work(connection: Connection) -> list[BatchMessage]:
            now = self._database.now(connection)
            lease = Lease(self._holder, now + LEASE)
            if published:
                batches.mark_published(connection, now, published, self._holder)
            if unpublished:
                batches.release(connection, unpublished, self._holder)
            if pending:
                batches.renew(connection, pending, lease)
            self._republish(connection, now)
            room = MOST_PENDING - len(pending)
            return batches.lease(connection, now, lease, self._outstanding, room) if room > 0 else []

        return self._database.write(work)

    def _republish(self, connection: Connection, now: datetime) -> None:
        """Have published again what stood still for long although somebody could have worked on it all the while."""
        stalled_since = now - timedelta(seconds=self._settings.republish_after_s)
        gate = find_gate(connection, self._account)
        if gate is None or gate.blocked_until > stalled_since or not any_alive(connection, now, self._account):
            return
        if month_allows(now, gate.spent(now), self._terms) == 0:
            return
        count = batches.republish_stalled(connection, stalled_since)
        if count:
            log.warning("relay.republished", extra={"batches": count})

    async def _publish(self, message: BatchMessage) -> bool:
        """Whether the message is stored in the hand-off for sure."""
        try:
            await self._publisher.publish(self._topic, message.key.encode(), message.encode())
        except RaingaugeError as error:
            log.warning(
                "relay.not_published",
                extra={"collection_id": message.collection_id, "batch": message.batch, "error": str(error)},
            )
            return False
        except Exception:
            log.exception("relay.unexpected")
            return False
        self._due.set()
        return True
