"""Deliveries in, acknowledgements out: what arrives becomes wanted cities in the pool, what is settled is acknowledged.

Acknowledge last. It never calls the provider: that is the caller's work.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from consumer.caller import Caller
from consumer.means import Means
from consumer.pool import Pool
from raingauge.clock import happens_within
from raingauge.contracts import BATCH_SIZE, BatchMessage, dead_letter_topic, decode
from raingauge.errors import DatabaseUnavailable, HandoffUnavailable, NewerMessage, Permanent, UndecodableMessage
from raingauge.messaging.port import Delivery, Publisher, Subscription
from raingauge.storage.batches import BatchRef
from raingauge.storage.consumers import BEAT_S

log = logging.getLogger("raingauge.worker")

INTAKE: Final = 500 // BATCH_SIZE
"""Deliveries looked up in one transaction."""
RETRY_S: Final = 1.0
ATTEMPTS: Final = 5
STALLED_AFTER_S: Final = 180.0
"""Longer than its longest sleep and a call's timeout together: something holds all lanes."""
PRUNE_EVERY_BEATS: Final = 120


class UnknownBatch(Permanent):
    """The database knows no such batch."""


class Worker:
    """One consumer: a subscription, a pool, a caller."""

    def __init__(self, subscription: Subscription, dead_letters: Publisher, means: Means, topic: str) -> None:
        self._subscription = subscription
        self._dead_letters = dead_letters
        self._dead_letter_topic = dead_letter_topic(topic)
        self._means = means
        self._pool = Pool()
        self._arriving: dict[BatchRef, list[Delivery]] = {}
        """Received, but not in the pool yet: what the pool still holds of a batch says nothing about these."""
        self._deliveries: dict[BatchRef, list[Delivery]] = {}
        self._stop = asyncio.Event()
        self.caller = Caller(self._pool, means, self)

    @property
    def wanted(self) -> int:
        """Cities in the pool."""
        return len(self._pool)

    def stop(self) -> None:
        """Take nothing more; finish the calls under way."""
        self._stop.set()
        self.caller.stop()

    async def run(self) -> None:
        """Work until stopped. What is not settled by then is delivered again."""
        async with asyncio.TaskGroup() as tasks:
            intake = tasks.create_task(self._take_in())
            beating = tasks.create_task(self._beat())
            calling = tasks.create_task(self.caller.run())
            await calling
            intake.cancel()
            await beating

    async def lost(self, deliveries: Sequence[Delivery]) -> None:
        """The hand-off takes these away: what has no charge is dropped at once, the rest is waited for."""
        taken = set(deliveries)
        self._arriving = _without(self._arriving, taken)
        kept = _without(self._deliveries, taken)
        gone = self._deliveries.keys() - kept.keys()
        while [ref for ref in sorted(gone) if self._drop(ref)]:
            await self.caller.call_ended()
        self._deliveries = _without(self._deliveries, taken)

    def _drop(self, ref: BatchRef) -> bool:
        """Want a batch no more, as far as it is not in a call; whether some of it is."""
        if not self._pool.in_calls(ref):
            # Part of it is dropped: what the calls settle is not the whole batch and must not acknowledge it.
            self._deliveries.pop(ref, None)
        return self._pool.drop(ref)

    # -- what the caller says ------------------------------------------------------------------------------------

    def settled(self, refs: Sequence[BatchRef]) -> None:
        """All of these batches is stored, or not wanted any more: acknowledge them."""
        for ref in refs:
            for delivery in self._deliveries.pop(ref, ()):
                self._subscription.acknowledge(delivery)

    async def broken(self, refs: Sequence[BatchRef]) -> None:
        """These met an error that nobody expected: after a few of them they are given up."""
        for ref in refs:
            if await self._means.persist(partial(self._means.store.count_attempt, ref)) >= ATTEMPTS:
                await self._give_up(ref)

    async def _give_up(self, ref: BatchRef) -> None:
        log.error("batch.given_up", extra={"collection_id": ref.collection_id, "batch": ref.batch})
        await self._means.persist(partial(self._means.store.fail, ref))
        self._pool.drop(ref)
        for delivery in (*self._arriving.pop(ref, ()), *self._deliveries.pop(ref, ())):
            await self._bury(delivery, Permanent("internal error"))

    # -- intake --------------------------------------------------------------------------------------------------

    async def _take_in(self) -> None:
        while not self._stop.is_set():
            deliveries = await self._subscription.receive()
            for start in range(0, len(deliveries), INTAKE):
                await self._take_in_some(deliveries[start : start + INTAKE])

    async def _take_in_some(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            message = await self._read(delivery)
            if message is not None:
                ref = BatchRef(message.collection_id, message.batch)
                self._arriving.setdefault(ref, []).append(delivery)
        if self._arriving:
            await self._want_each(list(self._arriving))

    async def _want_each(self, refs: Sequence[BatchRef]) -> None:
        """Want these batches; when something unexpected happens, each by itself, so that one cannot stop the others."""
        try:
            await self._want(refs)
        except Exception:
            log.exception("worker.unexpected", extra={"batches": len(refs)})
            if len(refs) > 1:
                for ref in refs:
                    await self._want_each([ref])
                return
            await self.broken(refs)
            if refs[0] in self._arriving and not await happens_within(self._stop, RETRY_S):
                await self._want_each(refs)

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

    async def _want(self, refs: Sequence[BatchRef]) -> None:
        """Put what is left of these batches into the pool; copy what is fresh; acknowledge what is settled."""
        batches, fresh = await self._means.persist(partial(self._means.store.open_batches, refs))
        copied = await self._means.persist(partial(self._means.store.copy_fresh, fresh)) if fresh else []
        unknown = [delivery for ref in refs if ref not in batches for delivery in self._arriving.pop(ref, ())]
        newcomer = False
        for ref, batch in batches.items():
            if arrived := self._arriving.pop(ref, None):  # else it was taken away meanwhile
                self._deliveries.setdefault(ref, []).extend(arrived)
                newcomer |= self._pool.add(batch)
        self.settled(self._pool.settle(copied))
        self.settled([ref for ref in batches if ref not in self._pool])
        self.caller.wake(newcomer=newcomer)
        for delivery in unknown:
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

    # -- the rest ------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        """Say every few seconds that this consumer is alive, and clean up now and then."""
        beats = 0
        while True:
            work = self._means.store.beat if beats % PRUNE_EVERY_BEATS else self._beat_and_prune
            try:
                await self._means.run_database(work)
            except DatabaseUnavailable as error:
                log.warning("database.unavailable", extra={"error": str(error)})
            if self.caller.quiet_s > STALLED_AFTER_S:
                log.error("caller.stalled", extra={"seconds": round(self.caller.quiet_s), "wanted": self.wanted})
            beats += 1
            if await happens_within(self._stop, BEAT_S):
                return

    def _beat_and_prune(self) -> None:
        self._means.store.beat()
        self._means.ledger.prune()


def _without(deliveries: Mapping[BatchRef, list[Delivery]], taken: set[Delivery]) -> dict[BatchRef, list[Delivery]]:
    """The same without some deliveries, and without batches of which none is left."""
    left = {ref: [delivery for delivery in held if delivery not in taken] for ref, held in deliveries.items()}
    return {ref: held for ref, held in left.items() if held}
