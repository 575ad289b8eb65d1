"""Enqueues the cities of delivered batches, and acknowledges the deliveries of settled ones.

A delivery is acknowledged last, and kept in memory only for that: after a crash or a rebalance it is delivered again.
It must not call the provider: that is the caller's work.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Final, TypeVar

from prometheus_client import Counter
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from consumer.metrics import dead_letter_counter
from consumer.retry import INTERNAL_ERROR
from raingauge.clock import Clock, happens_within
from raingauge.contracts import BatchMessage, dead_letter_topic, decode, newer_version
from raingauge.database.transactions import Transactions
from raingauge.errors import (
    DatabaseUnavailable,
    HandoffUnavailable,
    NewerMessage,
    Permanent,
    UndecodableMessage,
)
from raingauge.messaging.port import Delivery, Publisher, Subscription
from raingauge.model import BatchKey
from raingauge.observability.tracing import Tracing
from raingauge.storage import enqueueing, events, quota
from raingauge.storage.events import NewEvent
from raingauge.storage.settling import Settled

log = logging.getLogger("raingauge.intake")

BATCHES_AT_ONCE: Final = 25
"""Batches enqueued in one transaction."""
LOOK_EVERY_S: Final = 1.0
"""How often to look which batches other consumers have settled."""
REMIND_EVERY_S: Final = 60.0
"""How often to log which messages partitions wait behind, and to look whether those were buried."""
RETRY_S: Final = 1.0
ATTEMPTS: Final = 5

T = TypeVar("T")
_Requested = tuple[datetime, Delivery]
"""A delivery, and when its message says that the collection was requested."""
FindBuried = Callable[[Sequence[Delivery]], Awaitable[Sequence[Delivery]]]
"""Which of these deliveries a person has copied to the dead letters. Raises HandoffUnavailable."""


class UnknownBatch(Permanent):
    """The database has no such batch."""


class Intake:
    """Receives the deliveries of one subscription."""

    def __init__(  # noqa: PLR0913
        self,
        subscription: Subscription,
        dead_letters: Publisher,
        transactions: Transactions,
        clock: Clock,
        account: str,
        topic: str,
        buried: Counter | None = None,
        *,
        streams: bool = False,
    ) -> None:
        self._subscription = subscription
        self._dead_letters = dead_letters
        self._dead_letter_topic = dead_letter_topic(topic)
        self._transactions = transactions
        self._clock = clock
        self._account = account
        self._buried = buried or dead_letter_counter()
        self._streams = streams
        self._deliveries: dict[BatchKey, list[_Requested]] = {}
        self._stop = asyncio.Event()
        self._failover = asyncio.Event()
        self.on_enqueued: Callable[[], None] = lambda: None
        self.find_buried: FindBuried = _none_buried
        self.tracing = Tracing()

    @property
    def unacknowledged(self) -> int:
        """Batches whose deliveries are not acknowledged."""
        return len(self._deliveries)

    @property
    def obstacles(self) -> list[str]:
        """The message behind which each held partition waits, in one line."""
        return [
            f"partition {delivery.partition} waits at offset {delivery.offset}: {_why_held(delivery)}"
            for delivery in self._first_held.values()
        ]

    @property
    def _first_held(self) -> Mapping[int, Delivery]:
        """By partition, the first delivery that is held."""
        held = sorted(self._subscription.held, key=lambda delivery: (delivery.partition, -delivery.offset))
        return {delivery.partition: delivery for delivery in held}

    def stop(self) -> None:
        """Receive nothing more."""
        self._stop.set()

    def enqueue_again(self) -> None:
        """Enqueue all batches in hand once more: a failover may have lost the transaction that enqueued them."""
        self._failover.set()

    async def run(self) -> None:
        """Receive deliveries until stopped. What is not settled by then is delivered again."""
        async with asyncio.TaskGroup() as tasks:
            endless = [tasks.create_task(one()) for one in (self._receive, self._watch_held, self._recover)]
            await self._watch()
            for task in endless:
                task.cancel()

    def acknowledge(self, settled: Settled) -> None:
        """Acknowledge the batches that need no further work; log the collections whose last city was settled."""
        for done in settled.collections:
            log.info("collection.done", extra=done.facts)
        for key, requested_at in settled.batches.items():
            self._acknowledge_until(key, requested_at)

    async def _receive(self) -> None:
        while True:
            deliveries = await self._subscription.receive()
            for start in range(0, len(deliveries), BATCHES_AT_ONCE):
                await self._take(deliveries[start : start + BATCHES_AT_ONCE])

    async def _recover(self) -> None:
        while True:
            await self._failover.wait()
            self._failover.clear()
            held = list(self._latest().items())
            for start in range(0, len(held), BATCHES_AT_ONCE):
                await self._enqueue(dict(held[start : start + BATCHES_AT_ONCE]))

    async def _take(self, deliveries: Sequence[Delivery]) -> None:
        keys: dict[BatchKey, datetime] = {}
        traces: list[str | None] = []
        for delivery in deliveries:
            message = await self._read(delivery)
            if message is not None:
                key = BatchKey(message.collection_id, message.batch)
                self._deliveries.setdefault(key, []).append((message.requested_at, delivery))
                keys[key] = max(message.requested_at, keys.get(key, message.requested_at))
                traces.append(message.traceparent)
        if keys:
            with self.tracing.linked("batches.enqueue", traces):
                await self._enqueue(keys)

    async def _read(self, delivery: Delivery) -> BatchMessage | None:
        """The message of a delivery; None if it was buried or held."""
        try:
            return decode(delivery.value)
        except UndecodableMessage as error:
            await self._bury(delivery, error)
        except NewerMessage:
            self._hold(delivery)
        return None

    async def _enqueue(self, keys: Mapping[BatchKey, datetime]) -> None:
        """Enqueue batches; after an unexpected error each by itself, so that one cannot stop the others.

        `keys`: each batch, and when its collection was requested, as its message says.
        """
        if await self._enqueued(keys):
            return
        for key, requested_at in keys.items():
            if len(keys) == 1 or not await self._enqueued({key: requested_at}):
                await self._retry(key, requested_at)

    async def _enqueued(self, keys: Mapping[BatchKey, datetime]) -> bool:
        """Enqueue batches in one transaction; return False after an unexpected error."""
        try:
            settled = await self._transactions.persist(lambda connection: self._transaction(connection, keys))
        except Exception:
            log.exception("intake.unexpected", extra={"batches": len(keys)})
            return False
        await self._finish(settled, keys)
        return True

    async def _retry(self, key: BatchKey, requested_at: datetime) -> None:
        """Try a batch again after pauses; after a few attempts fail what is left of it."""
        while await self._count_attempt(key) < ATTEMPTS:
            if await happens_within(self._stop, RETRY_S) or await self._enqueued({key: requested_at}):
                return
        await self._give_up(key, requested_at)

    async def _count_attempt(self, key: BatchKey) -> int:
        try:
            return await self._transactions.persist(lambda connection: enqueueing.count_attempt(connection, key))
        except Exception:
            log.exception("intake.unexpected", extra={"batches": 1})
            return 0

    async def _give_up(self, key: BatchKey, requested_at: datetime) -> None:
        log.error("batch.given_up", extra={"collection_id": key.collection_id, "batch": key.batch})
        deliveries = self._deliveries.pop(key, ())
        this = {key: requested_at}
        try:
            self.acknowledge(await self._transactions.persist(lambda c: self._transaction(c, this, INTERNAL_ERROR)))
        except Exception:
            log.exception("intake.cannot_fail", extra={"collection_id": key.collection_id, "batch": key.batch})
        for _, delivery in deliveries:
            await self._bury(delivery, Permanent(INTERNAL_ERROR))

    def _transaction(
        self, connection: Connection, keys: Mapping[BatchKey, datetime], failing: str | None = None
    ) -> Settled:
        gate = quota.find_gate(connection, self._account)
        turn = 0 if gate is None else gate.turn
        now, account = self._transactions.now(connection), self._account
        return enqueueing.enqueue(
            connection, now, account, turn, keys, failing, requested_at=keys, streams=self._streams
        )

    async def _finish(self, settled: Settled, keys: Mapping[BatchKey, datetime]) -> None:
        """Acknowledge what needs no further work, or was deleted; bury what the database does not know."""
        self.acknowledge(settled)
        for key in settled.outdated:
            log.info("message.dropped", extra={"collection_id": key.collection_id, "batch": key.batch})
            self._acknowledge_until(key, keys[key])
        self.on_enqueued()
        await self._bury_unknown(settled.unknown)

    async def _bury_unknown(self, keys: Iterable[BatchKey]) -> None:
        for key in keys:
            for _, delivery in self._deliveries.pop(key, ()):
                await self._bury(delivery, UnknownBatch("the database knows no such batch"))

    def _acknowledge_until(self, key: BatchKey, until: datetime) -> None:
        """Acknowledge the deliveries of a batch; those of a collection that was requested later by this id stay."""
        deliveries = self._deliveries.pop(key, [])
        for requested_at, delivery in deliveries:
            if requested_at <= until:
                self._subscription.acknowledge(delivery)
        if later := [one for one in deliveries if one[0] > until]:
            self._deliveries[key] = later

    async def _bury(self, delivery: Delivery, error: Permanent) -> None:
        """Send a delivery to the dead letters, whole; then acknowledge it."""
        headers = delivery.dead_letter_headers(error)
        log.warning("message.buried", extra={**_where(delivery), "error": type(error).__name__})
        while True:
            try:
                await self._dead_letters.publish(self._dead_letter_topic, delivery.key, delivery.value, headers)
            except HandoffUnavailable:
                continue  # it may be stored: twice is better than never
            except Permanent:
                self._hold(delivery)
            else:
                self._buried.inc()
                with suppress(IntegrityError):  # another consumer buried it, too, and recorded it a moment ago
                    await self._transactions.persist(lambda c: self._record_buried(c, delivery, error))
                self._subscription.acknowledge(delivery)
            return

    def _record_buried(self, connection: Connection, delivery: Delivery, error: Permanent) -> None:
        what = f"message at offset {delivery.offset} of partition {delivery.partition} went to the dead letters"
        event = NewEvent("dead_letter", delivery.topic, f"{what}: {type(error).__name__}", delivery.identity)
        events.record(connection, self._transactions.now(connection), [event])

    def _hold(self, delivery: Delivery) -> None:
        held = delivery.partition in self._first_held
        self._subscription.hold(delivery)
        if not held:
            _log_held(delivery)

    async def _watch_held(self) -> None:
        """Log regularly what partitions wait behind; acknowledge what a person has buried."""
        while True:
            await self._clock.sleep(REMIND_EVERY_S)
            if not (held := self._subscription.held):
                continue
            try:
                for delivery in await self.find_buried(held):
                    log.warning("message.passed", extra=_where(delivery))
                    self._subscription.acknowledge(delivery)
            except HandoffUnavailable as error:
                log.warning("message.letters_unread", extra={"error": str(error)})
            for delivery in self._first_held.values():
                _log_held(delivery)

    def _latest(self) -> dict[BatchKey, datetime]:
        """When the collection of each batch was requested, as its latest message says."""
        return {key: max(moment for moment, _ in some) for key, some in self._deliveries.items()}

    async def _watch(self) -> None:
        """Acknowledge what other consumers settled, and bury what a failover lost, until stopped."""
        while not await happens_within(self._stop, LOOK_EVERY_S):
            if not self._deliveries:
                continue
            keys = self._latest()
            try:
                over, unknown = await self._transactions.read(partial(_over_and_unknown, requested_at=keys))
            except DatabaseUnavailable as error:
                log.warning("database.unavailable", extra={"error": str(error)})
            else:
                for key in over:
                    self._acknowledge_until(key, keys[key])
                await self._bury_unknown(unknown)


def _over_and_unknown(
    connection: Connection, requested_at: Mapping[BatchKey, datetime]
) -> tuple[set[BatchKey], set[BatchKey]]:
    over = enqueueing.settled_batches(connection, requested_at)
    left = {key: moment for key, moment in requested_at.items() if key not in over}
    return over, enqueueing.unknown_batches(connection, left) if left else set()


async def _none_buried(_: Sequence[Delivery]) -> Sequence[Delivery]:
    """For a hand-off whose dead letters nobody can add to."""
    return ()


def _why_held(delivery: Delivery) -> str:
    return str(newer_version(delivery.value) or "it is too large for the dead letters")


def _where(delivery: Delivery) -> dict[str, int]:
    return {"partition": delivery.partition, "offset": delivery.offset}


def _log_held(delivery: Delivery) -> None:
    log.error("message.held", extra={**_where(delivery), "error": _why_held(delivery)})
