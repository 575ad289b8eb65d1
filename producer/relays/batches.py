"""The relay: the only one who publishes batches. It leases rows, publishes, marks them, publishes again what got lost.

Publishing twice is harmless, losing is not. It never sends a batch while an earlier send of it is pending.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import Connection

from raingauge.clock import happens_within
from raingauge.contracts import BatchMessage
from raingauge.database.transactions import Transactions
from raingauge.errors import DatabaseUnavailable, RaingaugeError
from raingauge.messaging.port import Publisher
from raingauge.model import BatchKey
from raingauge.quota.pacing import Terms, month_allows
from raingauge.settings import RelaySettings
from raingauge.storage import outbox
from raingauge.storage.outbox import Lease, Leased
from raingauge.storage.quota import consumers_alive, find_gate

log = logging.getLogger("raingauge.relay")

LEASE: Final = timedelta(seconds=30)
AFTER_CLOSURE: Final = timedelta(minutes=5)
"""A gate that was closed this recently explains why batches made no progress."""
RENEW_EVERY_S: Final = 10.0
MAX_PENDING: Final = 500
MAX_AT_ONCE: Final = 50
"""Batches of one round: requests need the time, too."""
GATHER_S: Final = 0.005
"""Shortest pause after a round: collections accepted within this time share the next one."""
REST_FACTOR: Final = 2
"""Pause after a round, as a multiple of its duration, so that requests are not starved."""
MAX_REST_S: Final = 0.1
"""Longest such pause, and the pause after a round that failed."""


class Sending(NamedTuple):
    """A publication under way."""

    requested_at: datetime
    """Of the collection: a later one may have its id."""
    task: asyncio.Task[bool]


class Relay:
    """Publishes what the database says is due: every `relay.every_s`, and at once when woken."""

    def __init__(
        self,
        transactions: Transactions,
        publisher: Publisher,
        settings: RelaySettings,
        *,
        topic: str,
        account: str,
        terms: Terms,
        holder: str,
    ) -> None:
        self._transactions = transactions
        self._publisher = publisher
        self._settings = settings
        self._topic = topic
        self._account = account
        self._terms = terms
        self._holder = holder
        self._due = asyncio.Event()
        self._check_at = 0.0
        self._renew_at = 0.0
        self._pending: dict[BatchKey, Sending] = {}
        self._unreadable: set[BatchKey] = set()

    @property
    def pending(self) -> int:
        """Batches whose publication is under way."""
        return len(self._pending)

    def details(self) -> Mapping[str, int]:
        """What it reports in health."""
        return {"publishing": self.pending}

    def wake(self) -> None:
        """There is something new to publish, or to mark as published."""
        self._due.set()

    async def run(self) -> None:
        """Publish until cancelled; then give up what is pending: its leases run out by themselves."""
        loop = asyncio.get_running_loop()
        pause_s, never = 0.0, asyncio.Event()
        try:
            while True:
                self._due.clear()
                began, rest_s, busy = loop.time(), MAX_REST_S, False
                try:
                    busy = await self._round()
                    rest_s = min(MAX_REST_S, max(GATHER_S, REST_FACTOR * (loop.time() - began)))
                except DatabaseUnavailable as error:
                    log.warning("database.unavailable", extra={"error": str(error)})
                except Exception:
                    log.exception("relay.unexpected")  # and try again: without the relay nothing is published
                # What is published is soon settled, and releases more; so it looks often at first, then seldom.
                pause_s = rest_s if busy else min(2 * max(pause_s, rest_s), self._settings.every_s)
                await happens_within(never, rest_s)
                await happens_within(self._due, pause_s - rest_s)
        finally:
            tasks = [sending.task for sending in self._pending.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _round(self) -> bool:
        """Mark what was published, lease what is due, and begin to publish it.

        Returns whether there was something to do, and no publication failed.
        """
        ended = {key: sending.task.result() for key, sending in self._pending.items() if sending.task.done()}
        leased = await self._lease(ended, asyncio.get_running_loop().time())
        for key in ended:
            del self._pending[key]
        for message in leased.messages:
            self._send(message)
        self._complain(leased.unreadable)
        return bool(leased.messages or ended) and all(ended.values())

    def _send(self, message: BatchMessage) -> None:
        """Begin to publish a message, unless it is under way: a failover or a clock that jumps may end its lease."""
        key = BatchKey(message.collection_id, message.batch)
        if (earlier := self._pending.get(key)) is not None:
            if earlier.requested_at == message.requested_at:
                return
            earlier.task.cancel()  # its collection was deleted
        self._pending[key] = Sending(message.requested_at, asyncio.create_task(self._publish(message)))

    async def _lease(self, ended: Mapping[BatchKey, bool], moment: float) -> Leased:
        """Mark what was published, keep the leases of what is pending, lease what is due."""
        pending = [key for key in self._pending if key not in ended]
        checks, renews = moment >= self._check_at, moment >= self._renew_at

        def work(connection: Connection) -> Leased:
            now = self._transactions.now(connection)
            lease = Lease(self._holder, now + LEASE)
            if checks:
                self._republish(connection, now)  # first: collections are locked before batches
            outbox.mark_published(connection, now, [key for key, stored in ended.items() if stored], self._holder)
            outbox.give_back(connection, [key for key, stored in ended.items() if not stored], self._holder)
            if renews:
                outbox.renew(connection, pending, lease)
            return outbox.lease(connection, now, lease, min(MAX_AT_ONCE, MAX_PENDING - len(pending)))

        leased = await self._transactions.write(work)
        self._check_at = moment + self._settings.every_s if checks else self._check_at
        self._renew_at = moment + RENEW_EVERY_S if renews else self._renew_at
        return leased

    def _complain(self, unreadable: Sequence[BatchKey]) -> None:
        """Once of each: a person has to mend the row, or to cancel the collection."""
        for key in unreadable:
            if key not in self._unreadable:
                self._unreadable.add(key)
                log.error("relay.unreadable", extra={"collection_id": key.collection_id, "batch": key.batch})

    def _republish(self, connection: Connection, now: datetime) -> None:
        """Republish batches that made no progress although a consumer could have worked on them."""
        stalled_since = now - timedelta(seconds=self._settings.republish_after_s)
        gate = find_gate(connection, self._account)
        if gate is None or gate.blocked_until > max(stalled_since, now - AFTER_CLOSURE):
            return
        if consumers_alive(connection, now, self._account)[0] == 0:
            return
        if month_allows(now, gate.spent(now), self._terms) == 0:
            return
        count = outbox.republish_stalled(connection, now, stalled_since)
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
