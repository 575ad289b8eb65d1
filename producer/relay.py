"""The relay: the only one who publishes outbox. It leases rows, publishes, marks them, publishes again what got lost.

Publishing twice is harmless, losing is not. It never sends a batch while an earlier send of it is pending.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from sqlalchemy import Connection

from raingauge.blocking import RunBlocking
from raingauge.clock import happens_within
from raingauge.contracts import BatchMessage
from raingauge.errors import DatabaseUnavailable, RaingaugeError
from raingauge.messaging.port import Publisher
from raingauge.model import BatchKey
from raingauge.quota.pacing import Terms, month_allows
from raingauge.settings import RelaySettings
from raingauge.storage import outbox
from raingauge.storage.database import Database
from raingauge.storage.outbox import Lease, Leased
from raingauge.storage.quota import any_consumer_alive, find_gate

log = logging.getLogger("raingauge.relay")

LEASE: Final = timedelta(seconds=30)
RENEWED_BEFORE: Final = timedelta(seconds=20)
"""How long before its end a lease is renewed."""
MAX_PENDING: Final = 500
MAX_AT_ONCE: Final = 200
"""Batches of one round: the more of them arrive together, the less each costs the consumers."""
MAX_BESIDE_POSTS: Final = 50
"""The same while somebody posts: requests need the time."""
GATHER_S: Final = 0.005
"""Collections accepted within this time share a round."""
REST_FACTOR: Final = 2
"""Pause after a round, as a multiple of its duration, so that requests are not starved."""
MAX_REST_S: Final = 0.1
"""Between rounds that look at new collections only, however long they take."""
MAX_NEW: Final = 1000
"""New collections that are remembered."""


@dataclass(frozen=True, slots=True)
class _Done:
    """What a round has done in the database."""

    until: datetime
    """The end of the leases that it took or renewed."""
    renewed: Sequence[BatchKey]
    leased: Leased


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
        self._max_rest_s = min(MAX_REST_S, settings.every_s)
        self._due = asyncio.Event()
        self._wanted = False
        self._posted = False
        self._limit = MAX_AT_ONCE
        self._busy = False
        self._alarm: asyncio.TimerHandle | None = None
        self._rested_at = 0.0
        self._look_at = 0.0
        """When all open collections are looked at the next time."""
        self._looked_until = 0.0
        """Until then it rests from the last such look."""
        self._new: dict[str, None] = {}
        self._pending: dict[BatchKey, asyncio.Task[bool]] = {}
        self._until: dict[BatchKey, datetime] = {}
        """How long the leases of those last."""
        self._unreadable: set[BatchKey] = set()

    @property
    def pending(self) -> int:
        """Batches whose publication is under way."""
        return len(self._pending)

    def wake(self, collection_id: str | None = None) -> None:
        """There may be something new to publish: of that collection, or of any."""
        if collection_id is None or len(self._new) >= MAX_NEW:
            self._look_at = 0.0
        else:
            self._new[collection_id] = None
        self._posted = True
        self._have_round()

    def _have_round(self) -> None:
        """Have a round soon: what comes meanwhile shares it."""
        self._wanted = True
        if self._alarm is None and not self._busy:
            loop = asyncio.get_running_loop()
            self._alarm = loop.call_at(max(loop.time() + GATHER_S, self._rested_at), self._due.set)

    async def run(self) -> None:
        """Publish until cancelled; then give up what is pending: its leases run out by themselves."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._begin()
                began, rest_s = loop.time(), self._max_rest_s
                try:
                    await self._round()
                    rest_s = min(rest_s, _rest_s(loop.time() - began))
                except DatabaseUnavailable as error:
                    log.warning("database.unavailable", extra={"error": str(error)})
                except Exception:
                    log.exception("relay.unexpected")  # and try again: without the relay nothing is published
                self._busy = False
                self._rested_at = loop.time() + rest_s
                if self._wanted:
                    self._have_round()
                await happens_within(self._due, max(self._look_at, self._rested_at) - loop.time())
        finally:
            self._begin()
            for task in self._pending.values():
                task.cancel()
            await asyncio.gather(*self._pending.values(), return_exceptions=True)

    def _begin(self) -> None:
        self._busy, self._wanted = True, False
        self._limit, self._posted = MAX_BESIDE_POSTS if self._posted else MAX_AT_ONCE, False
        self._due.clear()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    async def _round(self) -> None:
        """Mark what was published, lease what is due, and begin to publish it."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        looks_at_all = began >= self._look_at
        if looks_at_all:
            self._look_at = began + self._settings.every_s
        new = list(self._new) if looks_at_all else list(self._new)[: self._limit]
        ended = {ref: task.result() for ref, task in self._pending.items() if task.done()}
        done = await self._run_database(partial(self._lease, ended, None if looks_at_all else new))
        for ref in ended:
            del self._pending[ref], self._until[ref]
        for collection_id in new:
            del self._new[collection_id]
        self._until |= dict.fromkeys(done.renewed, done.until)
        for message in done.leased.messages:
            ref = BatchKey(message.collection_id, message.batch)
            self._until[ref] = done.until
            self._pending[ref] = asyncio.create_task(self._publish(message))
        self._complain(done.leased.unreadable)
        if done.leased.messages or ended:  # then there may be more, or more room
            if looks_at_all:
                self._looked_until = loop.time() + _rest_s(loop.time() - began)
            self._look_at = min(self._look_at, max(self._looked_until, loop.time() + GATHER_S))
        if self._new:
            self._have_round()

    def _lease(self, ended: Mapping[BatchKey, bool], among: Sequence[str] | None) -> _Done:
        """Mark what was published, keep the leases of what is pending, lease what is due of these or of all."""
        pending = [ref for ref in self._pending if ref not in ended]
        room = min(self._limit, MAX_PENDING - len(pending))

        def work(connection: Connection) -> _Done:
            now = self._database.now(connection)
            lease = Lease(self._holder, now + LEASE)
            if stored := [ref for ref, is_stored in ended.items() if is_stored]:
                outbox.mark_published(connection, now, stored, self._holder)
            outbox.release(connection, [ref for ref, is_stored in ended.items() if not is_stored], self._holder)
            renewed = [ref for ref in pending if self._until[ref] < now + RENEWED_BEFORE]
            outbox.renew(connection, renewed, lease)
            if among is None:
                self._republish(connection, now)
            if room <= 0 or (among is not None and not among):
                return _Done(lease.until, renewed, Leased([], []))
            leased = outbox.lease(connection, now, lease, self._outstanding, room, among)
            return _Done(lease.until, renewed, leased)

        return self._database.write(work)

    def _complain(self, unreadable: Sequence[BatchKey]) -> None:
        """Once of each: a person has to mend the row, or to cancel the collection."""
        for ref in unreadable:
            if ref not in self._unreadable:
                self._unreadable.add(ref)
                log.error("relay.unreadable", extra={"collection_id": ref.collection_id, "batch": ref.batch})

    def _republish(self, connection: Connection, now: datetime) -> None:
        """Have published again what stood still for long although somebody could have worked on it all the while."""
        stalled_since = now - timedelta(seconds=self._settings.republish_after_s)
        gate = find_gate(connection, self._account)
        if gate is None or gate.blocked_until > stalled_since:
            return
        if not any_consumer_alive(connection, now, self._account):
            return
        if month_allows(now, gate.spent(now), self._terms) == 0:
            return
        count = outbox.republish_stalled(connection, stalled_since)
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
        self._have_round()
        return True


def _rest_s(took_s: float) -> float:
    return max(GATHER_S, REST_FACTOR * took_s)
