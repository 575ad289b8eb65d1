"""Deliveries in, acknowledgements out: the cities of a delivered batch join the queue; what is settled is acknowledged.

Acknowledge last. A delivery is kept in memory only to be acknowledged: a crash or a rebalance forgets it, and it is
delivered again. It never calls the provider: that is the caller's work.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final, TypeVar

from sqlalchemy import Connection

from raingauge.blocking import RunBlocking, until_available
from raingauge.clock import Clock, happens_within
from raingauge.contracts import BatchMessage, dead_letter_topic, decode
from raingauge.errors import DatabaseUnavailable, HandoffUnavailable, NewerMessage, Permanent, UndecodableMessage
from raingauge.messaging.port import Delivery, Publisher, Subscription
from raingauge.model import BatchKey
from raingauge.storage import enqueueing, quota
from raingauge.storage.database import Database
from raingauge.storage.settling import Settled

log = logging.getLogger("raingauge.intake")

BATCHES_AT_ONCE: Final = 25
"""Batches enqueued in one transaction."""
LOOK_EVERY_S: Final = 1.0
"""How often to look which batches other consumers have settled."""
RETRY_S: Final = 1.0
ATTEMPTS: Final = 5
INTERNAL_ERROR: Final = "internal error"

T = TypeVar("T")


class UnknownBatch(Permanent):
    """The database has no such batch."""


class Intake:
    """Takes deliveries of one subscription."""

    def __init__(
        self,
        subscription: Subscription,
        dead_letters: Publisher,
        database: Database,
        run_database: RunBlocking,
        clock: Clock,
        account: str,
        topic: str,
    ) -> None:
        self._subscription = subscription
        self._dead_letters = dead_letters
        self._dead_letter_topic = dead_letter_topic(topic)
        self._database = database
        self._run_database = run_database
        self._clock = clock
        self._account = account
        self._deliveries: dict[BatchKey, list[Delivery]] = {}
        self._stop = asyncio.Event()
        self.on_enqueued: Callable[[], None] = lambda: None

    @property
    def held(self) -> int:
        """Batches whose deliveries are not acknowledged."""
        return len(self._deliveries)

    def stop(self) -> None:
        """Take nothing more."""
        self._stop.set()

    async def run(self) -> None:
        """Take deliveries until stopped. What is not settled by then is delivered again."""
        async with asyncio.TaskGroup() as tasks:
            receiving = tasks.create_task(self._receive())
            await self._watch()
            receiving.cancel()

    def acknowledge(self, settled: Settled) -> None:
        """Acknowledge the batches that need no further work."""
        for key in settled.batches:
            for delivery in self._deliveries.pop(key, ()):
                self._subscription.acknowledge(delivery)

    async def _receive(self) -> None:
        while True:
            deliveries = await self._subscription.receive()
            for start in range(0, len(deliveries), BATCHES_AT_ONCE):
                await self._take(deliveries[start : start + BATCHES_AT_ONCE])

    async def _take(self, deliveries: Sequence[Delivery]) -> None:
        keys: list[BatchKey] = []
        for delivery in deliveries:
            message = await self._read(delivery)
            if message is not None:
                key = BatchKey(message.collection_id, message.batch)
                self._deliveries.setdefault(key, []).append(delivery)
                keys.append(key)
        if keys:
            await self._enqueue(dict.fromkeys(keys))

    async def _read(self, delivery: Delivery) -> BatchMessage | None:
        """The message of a delivery; None when it went elsewhere."""
        try:
            return decode(delivery.value)
        except UndecodableMessage as error:
            await self._bury(delivery, error)
        except NewerMessage as error:
            log.error("message.newer", extra={"partition": delivery.partition, "error": str(error)})  # noqa: TRY400
            self._subscription.hold(delivery)
        return None

    async def _enqueue(self, keys: Collection[BatchKey]) -> None:
        """Enqueue batches; after an unexpected error each by itself, so that one cannot stop the others."""
        try:
            settled = await self._persist(lambda connection: self._transaction(connection, keys))
        except Exception:
            log.exception("intake.unexpected", extra={"batches": len(keys)})
        else:
            await self._finish(settled)
            return
        if len(keys) > 1:
            for key in keys:
                await self._enqueue([key])
        else:
            await self._retry(*keys)

    async def _retry(self, key: BatchKey) -> None:
        """Try a batch again later; after a few attempts fail what is left of it."""
        if await self._persist(lambda connection: enqueueing.count_attempt(connection, key)) < ATTEMPTS:
            if not await happens_within(self._stop, RETRY_S):
                await self._enqueue([key])
            return
        log.error("batch.given_up", extra={"collection_id": key.collection_id, "batch": key.batch})
        try:
            _log_finished(await self._persist(lambda c: self._transaction(c, [key], INTERNAL_ERROR)))
        except Exception:
            log.exception("intake.cannot_fail", extra={"collection_id": key.collection_id, "batch": key.batch})
        for delivery in self._deliveries.pop(key, ()):
            await self._bury(delivery, Permanent(INTERNAL_ERROR))

    def _transaction(self, connection: Connection, keys: Collection[BatchKey], failing: str | None = None) -> Settled:
        gate = quota.find_gate(connection, self._account)
        turn = 0 if gate is None else gate.turn
        return enqueueing.enqueue(connection, self._database.now(connection), self._account, turn, keys, failing)

    async def _finish(self, settled: Settled) -> None:
        """Acknowledge what needs no further work; bury what the database does not know."""
        self.acknowledge(settled)
        _log_finished(settled)
        self.on_enqueued()
        for key in settled.unknown:
            for delivery in self._deliveries.pop(key, ()):
                await self._bury(delivery, UnknownBatch("the database knows no such batch"))

    async def _bury(self, delivery: Delivery, error: Permanent) -> None:
        """Send a delivery to the dead letters, whole; then acknowledge it."""
        headers = (
            *delivery.headers,
            ("raingauge-topic", delivery.topic.encode()),
            ("raingauge-partition", str(delivery.partition).encode()),
            ("raingauge-offset", str(delivery.offset).encode()),
            ("raingauge-error", f"{type(error).__name__}: {error}".encode()[:1000]),
        )
        where = {"partition": delivery.partition, "offset": delivery.offset, "error": type(error).__name__}
        log.warning("message.buried", extra=where)
        while True:
            try:
                await self._dead_letters.publish(self._dead_letter_topic, delivery.key, delivery.value, headers)
            except HandoffUnavailable:
                continue  # perhaps it is stored: twice is better than never
            except Permanent:
                log.exception("message.too_large_to_bury", extra=where)
                self._subscription.hold(delivery)
                return
            self._subscription.acknowledge(delivery)
            return

    async def _watch(self) -> None:
        """Acknowledge what other consumers settled, until stopped."""
        while not await happens_within(self._stop, LOOK_EVERY_S):
            keys = list(self._deliveries)
            if not keys:
                continue
            try:
                over = await self._run_database(partial(self._settled, keys))
            except DatabaseUnavailable as error:
                log.warning("database.unavailable", extra={"error": str(error)})
            else:
                self.acknowledge(Settled(batches=over))

    def _settled(self, keys: Collection[BatchKey]) -> set[BatchKey]:
        return self._database.read(lambda connection: enqueueing.settled_batches(connection, keys))

    async def _persist(self, work: Callable[[Connection], T]) -> T:
        return await until_available(self._run_database, lambda: self._database.write(work), self._clock)


def _log_finished(settled: Settled) -> None:
    """Log the collections whose last city was settled."""
    for done in settled.collections:
        log.info("collection.done", extra={"collection_id": done.collection_id})
