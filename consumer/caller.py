"""Reserve, fetch, settle: one charge after another, as the ledger allows, up to `lanes` group calls under way at once.

What an answer means is the settler's work. It holds no lock and no transaction while it calls the provider or sleeps.
It knows nothing of deliveries or the hand-off: it takes wanted cities from the pool and says which batches are settled.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from consumer.admission import Grant, LeftOut, NotNow, Over
from consumer.calls import Result, Silence, combine
from consumer.look import NEVER, Candidate
from consumer.means import Listener, Means, Tally
from consumer.offers import Offers
from consumer.patience import Patience
from consumer.pool import Pool, Turn
from consumer.provider.port import Reply
from consumer.settler import Settler
from raingauge.clock import happens_within
from raingauge.errors import DatabaseUnavailable, ProviderUnavailable
from raingauge.pacing import CALL_SIZE, SEND_DELAY_S
from raingauge.storage.batches import BatchRef

log = logging.getLogger("raingauge.caller")

LONGEST_WAIT_S: Final = 60.0
"""A gate may be opened by hand (`quota set-month`), so nobody sleeps longer."""
CLAIM_RECHECK_S: Final = 0.5
DATABASE_RETRY_S: Final = 2.0


class Caller:
    """Calls the provider for what the pool wants."""

    def __init__(self, pool: Pool, means: Means, listener: Listener) -> None:
        self._pool = pool
        self._means = means
        self._clock = means.clock
        self._listener = listener
        self._lanes = asyncio.Semaphore(means.lanes)
        self._patience = Patience()
        self._stop = asyncio.Event()
        self._wanted = asyncio.Event()
        self._newcomer = asyncio.Event()
        self._ended = asyncio.Event()
        self._turned_at = self._clock.monotonic()
        self.tally = Tally()
        self._offers = Offers(pool, means, self._patience)
        self._settler = Settler(pool, means, self._patience, self.tally)
        self.waiting_for: str | None = None
        """Why nothing goes now: quota, key, provider, database, terms, month, pace, turn, probe; None when calls go."""

    @property
    def quiet_s(self) -> float:
        """Seconds since it last tried to do something. It tries at least every minute, unless all lanes are stuck."""
        return self._clock.monotonic() - self._turned_at

    def wake(self, *, newcomer: bool) -> None:
        """The pool has something new; `newcomer`: of a collection that was not there before."""
        self._wanted.set()
        if newcomer:
            self._newcomer.set()

    def stop(self) -> None:
        """Reserve nothing more; what is under way is finished."""
        self._stop.set()
        self._wanted.set()
        self._newcomer.set()
        self._ended.set()

    async def call_ended(self) -> None:
        """Return when the next call under way has ended, or the next attempt to get quota for one."""
        self._ended.clear()
        await self._ended.wait()

    async def run(self) -> None:
        """Call until stopped, and until what is under way is settled."""
        async with asyncio.TaskGroup() as calls:
            while not self._stop.is_set():
                lanes = await self._free_lanes()
                began = self._turned_at = self._clock.monotonic()
                reserved = await self._reserve(lanes)
                needed = 0 if reserved is None else reserved[0].group_calls
                self._give_up_lanes(lanes - needed)
                if reserved is not None:
                    calls.create_task(self._call(*reserved, began))

    async def _free_lanes(self) -> int:
        """Wait for a lane, and take as many more as one charge can use."""
        await self._lanes.acquire()
        taken = 1
        while taken < self._means.ledger.terms.calls_at_once and not self._lanes.locked():
            await self._lanes.acquire()
            taken += 1
        return taken

    def _give_up_lanes(self, number: int) -> None:
        for _ in range(number):
            self._lanes.release()

    # -- reserve -------------------------------------------------------------------------------------------------

    async def _reserve(self, calls: int) -> tuple[Grant, Sequence[int]] | None:
        """One attempt to get quota for so many calls: a grant, and the cities that are out of the pool for it.

        None, after a wait where there is reason to, when none came.
        """
        self._wanted.clear()
        self._newcomer.clear()
        self._pool.wake(self._clock.monotonic())
        turns, together = self._offers.take(calls)
        if not turns:
            await self._until_wanted()
            return None
        candidates = self._offers.candidates(turns, may_be_lent=together)
        good = await self._offers.good_city(turns)
        if good is not None:
            self._pool.give_back(turns)
            turns, together, candidates = [], False, [Candidate(good, NEVER)]
        try:
            avoid = self._patience.failing | self._settler.spurned.at(self._clock.monotonic())
            reserve = partial(self._means.ledger.reserve, candidates, together=together, calls=calls, avoid=avoid)
            answer = await self._means.run_database(reserve)
        except DatabaseUnavailable:
            answer = NotNow(DATABASE_RETRY_S * random.uniform(0.5, 1.0), "database")
        except BaseException:
            self._pool.give_back(turns)
            raise
        if isinstance(answer, Grant):
            return answer, self._granted(turns, answer)
        await self._refused(turns, answer)
        return None

    def _granted(self, turns: Sequence[Turn], grant: Grant) -> Sequence[int]:
        """Give back what may not go yet; answer what is out for this grant, borrowed cities too."""
        granted = set(grant.city_ids)
        self._pool.give_back([turn for turn in turns if turn.city_id not in granted])
        taken = [turn.city_id for turn in turns if turn.city_id in granted]
        self._ended.set()
        self.waiting_for = None
        return [*taken, *self._pool.borrow(sorted(granted.difference(taken)))]

    async def _refused(self, turns: Sequence[Turn], answer: NotNow | LeftOut | Over) -> None:
        """Do what a refusal asks for; wait where it says so."""
        if isinstance(answer, LeftOut):
            await self._leave_out(turns, answer)
            return
        self._pool.give_back(turns)
        if isinstance(answer, Over):
            self._listener.settled(self._pool.drop_collections(answer.collection_ids))
        self._ended.set()
        if isinstance(answer, NotNow):
            await self._pause(answer)

    async def _until_wanted(self) -> None:
        """Sleep until the pool has something new, or a resting city wakes."""
        self.waiting_for = None
        wake = self._pool.next_wake
        seconds = LONGEST_WAIT_S if wake is None else wake - self._clock.monotonic()
        await happens_within(self._wanted, max(0.0, min(LONGEST_WAIT_S, seconds)))

    async def _pause(self, answer: NotNow) -> None:
        if answer.reason not in {"pace", "turn", "probe", self.waiting_for}:
            log.info("caller.waiting", extra={"reason": answer.reason, "seconds": round(answer.seconds, 3)})
        self.waiting_for = answer.reason
        # A probe is most likely our own and answered soon. A new collection may be the first in line.
        self._ended.clear()
        ends_it = self._ended if answer.reason == "probe" else self._newcomer
        await happens_within(ends_it, min(LONGEST_WAIT_S, answer.seconds))

    async def _leave_out(self, turns: Sequence[Turn], answer: LeftOut) -> None:
        """Settle what was fetched meanwhile, wait for what others are fetching, go on with the rest."""
        self._pool.give_back([turn for turn in turns if turn.city_id not in answer.fresh | answer.claimed])
        self._pool.put_back(sorted(answer.claimed), self._clock.monotonic() + CLAIM_RECHECK_S)
        self._pool.come_back(sorted(answer.claimed))
        if not turns:  # a good city, which another consumer is fetching: the pool would not wait for it
            await happens_within(self._stop, CLAIM_RECHECK_S)
        wants = self._pool.wants(sorted(answer.fresh))
        try:
            copied = await self._means.persist(partial(self._means.store.copy_fresh, wants))
            self._listener.settled(self._pool.settle(copied))
        finally:
            self._pool.come_back(sorted(answer.fresh))
            self._ended.set()

    # -- fetch ---------------------------------------------------------------------------------------------------

    async def _call(self, grant: Grant, out: Sequence[int], began: float) -> None:
        """Fetch and settle one grant. Whatever happens, its cities are settled or wanted again."""
        broken: Sequence[BatchRef] = ()
        try:
            reserved = self._clock.monotonic()
            result = await self._fetch(grant, began + SEND_DELAY_S)
            took = timedelta(seconds=self._clock.monotonic() - reserved)
            settled, broken = await self._settler.settle(grant, result, grant.reserved_at + took)
            self._listener.settled(settled)
        finally:
            self._pool.come_back(out)
            self._give_up_lanes(grant.group_calls)
            self._wanted.set()
            self._ended.set()
        if broken:
            await self._listener.broken(broken)

    async def _fetch(self, grant: Grant, send_by: float) -> Result:
        size = CALL_SIZE if grant.together else 1
        calls = [grant.city_ids[start : start + size] for start in range(0, len(grant.city_ids), size)]
        self.tally.calls += len(calls)
        self.tally.cities_asked += len(grant.city_ids)
        replies = await asyncio.gather(*(self._ask(grant, city_ids, send_by) for city_ids in calls))
        return combine(zip(calls, replies, strict=True))

    async def _ask(self, grant: Grant, city_ids: tuple[int, ...], send_by: float) -> Reply | Silence:
        provider = self._means.provider
        work = (
            partial(provider.group, city_ids, send_by)
            if grant.call.endpoint == "group"
            else partial(provider.single, city_ids[0], send_by)
        )
        try:
            return await self._means.run_provider(work)
        except ProviderUnavailable as error:
            log.warning("provider.silent", extra={"cities": len(city_ids), "error": str(error)})
        except Exception:
            log.exception("provider.unexpected", extra={"cities": len(city_ids)})
        self.tally.silences += 1
        return Silence()
