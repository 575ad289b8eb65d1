"""Reserve, fetch, settle: one call after another, as the ledger allows, up to `lanes` under way at once.

It holds no lock and no transaction while it calls the provider or sleeps. It knows nothing of deliveries or the
hand-off: it takes wanted cities from the pool and says which batches are settled.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, Protocol, TypeVar

from consumer.calls import Result, Silence, combine
from consumer.gate import Event
from consumer.patience import Patience
from consumer.pool import Pool, Turn
from consumer.provider import Provider, Reply
from consumer.quota import CALL_SIZE, Candidate, Grant, Ledger, LeftOut, NotNow
from consumer.store import Harvest, Store
from raingauge.blocking import RunBlocking, until_available
from raingauge.clock import Clock, happens_within
from raingauge.errors import DatabaseUnavailable, ProviderUnavailable
from raingauge.pacing import SEND_DELAY_S
from raingauge.storage.batches import BatchRef
from raingauge.storage.readings import Want

log = logging.getLogger("raingauge.caller")
T = TypeVar("T")

LONGEST_WAIT_S: Final = 60.0
"""A gate may be opened by hand (`quota set-month`), so nobody sleeps longer."""
CLAIM_RECHECK_S: Final = 0.5
NEVER: Final = datetime(9999, 1, 1, tzinfo=UTC)
"""No observation is as late as this."""
DATABASE_RETRY_S: Final = 2.0
UNEXPECTED_REST_S: Final = 5.0
GIVEN_UP: Final = "the provider failed for this city, again and again"


class Listener(Protocol):
    """Who is told what became of batches."""

    def settled(self, refs: Sequence[BatchRef]) -> None:
        """All of these batches is stored."""

    async def broken(self, refs: Sequence[BatchRef]) -> None:
        """Storing for these met an error that nobody expected."""


@dataclass(slots=True)
class Tally:
    """What this consumer has done since its start."""

    calls: int = 0
    cities_asked: int = 0
    cities_collected: int = 0
    refusals: int = 0
    silences: int = 0


@dataclass(frozen=True, slots=True)
class Means:
    """What a caller works with."""

    ledger: Ledger
    provider: Provider
    store: Store
    run_database: RunBlocking
    run_provider: RunBlocking
    clock: Clock
    lanes: int


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
        self._ended = asyncio.Event()
        self.tally = Tally()
        self.waiting_for: str | None = None
        """Why nothing goes at the moment: quota, key, provider, database, month or pace; None when calls go."""

    def wake(self) -> None:
        """The pool has something new."""
        self._wanted.set()

    def stop(self) -> None:
        """Reserve nothing more; what is under way is finished."""
        self._stop.set()
        self._wanted.set()

    async def call_ended(self) -> None:
        """Return when the next call under way has ended, or the next attempt to get quota for one."""
        self._ended.clear()
        await self._ended.wait()

    async def run(self) -> None:
        """Call until stopped, and until what is under way is settled."""
        async with asyncio.TaskGroup() as calls:
            while not self._stop.is_set():
                await self._lanes.acquire()
                began = self._clock.monotonic()
                grant = await self._reserve()
                if grant is None:
                    self._lanes.release()
                else:
                    calls.create_task(self._call(grant, began))

    # -- reserve -------------------------------------------------------------------------------------------------

    async def _reserve(self) -> Grant | None:
        """One attempt to get quota for the next call. None, after a wait where there is reason to, when none came."""
        self._wanted.clear()
        self._pool.wake(self._clock.monotonic())
        turns, together = self._pool.take(CALL_SIZE)
        if not turns:
            await self._until_wanted()
            return None
        candidates = [Candidate(turn.city_id, turn.since) for turn in turns]
        good = await self._good_city(turns)
        if good is not None:
            self._pool.give_back(turns)
            turns, together, candidates = [], False, [Candidate(good, NEVER)]
        try:
            answer = await self._means.run_database(partial(self._means.ledger.reserve, candidates, together=together))
        except DatabaseUnavailable:
            answer = NotNow(DATABASE_RETRY_S * random.uniform(0.5, 1.0), "database")
        except BaseException:
            self._pool.give_back(turns)
            raise
        if isinstance(answer, LeftOut):
            await self._leave_out(turns, answer)
            return None
        granted = set(answer.city_ids) if isinstance(answer, Grant) else set()
        self._pool.give_back([turn for turn in turns if turn.city_id not in granted])
        self._ended.set()
        if isinstance(answer, NotNow):
            await self._pause(answer)
            return None
        self.waiting_for = None
        return answer

    async def _good_city(self, turns: Sequence[Turn]) -> int | None:
        """A city to ask for instead, when all of these are suspects; None when they are not, or none is known."""
        if not all(self._patience.suspects(turn.city_id) for turn in turns):
            return None
        if self._patience.good is None:
            self._patience.good = await self._persist(self._means.store.good_city)
        good = self._patience.good
        return None if good is None or self._pool.wants([good]) else good

    async def _until_wanted(self) -> None:
        """Sleep until the pool has something new, or a resting city wakes."""
        self.waiting_for = None
        wake = self._pool.next_wake
        seconds = LONGEST_WAIT_S if wake is None else wake - self._clock.monotonic()
        await happens_within(self._wanted, max(0.0, min(LONGEST_WAIT_S, seconds)))

    async def _pause(self, answer: NotNow) -> None:
        if answer.reason not in {"pace", self.waiting_for}:
            log.info("caller.waiting", extra={"reason": answer.reason, "seconds": round(answer.seconds, 3)})
        self.waiting_for = answer.reason
        await happens_within(self._stop, min(LONGEST_WAIT_S, answer.seconds))

    async def _leave_out(self, turns: Sequence[Turn], answer: LeftOut) -> None:
        """Settle what was fetched meanwhile, wait for what others are fetching, go on with the rest."""
        self._pool.give_back([turn for turn in turns if turn.city_id not in answer.fresh | answer.claimed])
        self._pool.put_back(sorted(answer.claimed), self._clock.monotonic() + CLAIM_RECHECK_S)
        self._pool.come_back(sorted(answer.claimed))
        wants = self._pool.wants(sorted(answer.fresh))
        try:
            copied = await self._persist(partial(self._means.store.copy_fresh, wants))
            self._listener.settled(self._pool.settle(copied))
        finally:
            self._pool.come_back(sorted(answer.fresh))
            self._ended.set()

    # -- fetch ---------------------------------------------------------------------------------------------------

    async def _call(self, grant: Grant, began: float) -> None:
        """Fetch and settle one grant. Whatever happens, its cities are settled or wanted again."""
        broken: Sequence[BatchRef] = ()
        try:
            reserved = self._clock.monotonic()
            result = await self._fetch(grant, began + SEND_DELAY_S)
            took = timedelta(seconds=self._clock.monotonic() - reserved)
            broken = await self._settle(grant, result, grant.reserved_at + took)
        finally:
            self._pool.come_back(grant.city_ids)
            self._lanes.release()
            self._wanted.set()
            self._ended.set()
        if broken:
            await self._listener.broken(broken)

    async def _fetch(self, grant: Grant, send_by: float) -> Result:
        calls = [grant.city_ids] if grant.together else [(city_id,) for city_id in grant.city_ids]
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
            self.tally.silences += 1
            return Silence()

    # -- settle --------------------------------------------------------------------------------------------------

    async def _settle(self, grant: Grant, result: Result, fetched_at: datetime) -> Sequence[BatchRef]:
        """Store what came; answer the batches for which that met an error that nobody expected."""
        if not (grant.clean and result.event is Event.ANSWERED):
            await self._report(grant, result)
        self._patience.succeeded([*result.observations, *result.unknown])
        harvest = Harvest(fetched_at, result.observations, frozenset(result.unknown), self._blame(result))
        self._pool.put_back(sorted(result.split), self._clock.monotonic(), alone=True)
        wants = self._pool.wants(harvest.city_ids)
        kept = await self._keep(grant, harvest, wants, closes=result.closes)
        self.tally.cities_collected += len(result.observations)
        self._listener.settled(self._pool.settle(kept))
        left = sorted({want.city_id for want in wants} - {want.city_id for want in kept})
        self._pool.put_back(left, self._clock.monotonic() + UNEXPECTED_REST_S)
        return sorted({want.ref for want in wants} - {want.ref for want in kept})

    async def _report(self, grant: Grant, result: Result) -> None:
        """Tell the gate, and say in the log what changed."""
        retry_after_s = None if result.refusal is None else result.refusal.retry_after_s
        if result.refusal is not None:
            self.tally.refusals += 1
        work = partial(self._means.ledger.report, grant, result.event, retry_after_s)
        changes = await self._persist(work)
        told = {name: str(changes[name]) for name in ("state", "blocked_until", "endpoint") if name in changes}
        if told:
            why = result.event.value if result.refusal is None else result.refusal.message
            log.warning("gate.changed", extra=told | {"why": why})

    def _blame(self, result: Result) -> dict[int, str]:
        """Have the cities without an answer rest; answer those that are given up."""
        given_up = {}
        for city_id in sorted(result.blamed):
            verdict = self._patience.failed(city_id, random.random())
            if verdict.give_up:
                given_up[city_id] = GIVEN_UP
                self._patience.forget(city_id)
            else:
                self._pool.put_back([city_id], self._clock.monotonic() + verdict.rest_s, alone=verdict.alone)
        return given_up

    async def _keep(self, grant: Grant, harvest: Harvest, wants: Sequence[Want], *, closes: bool) -> Sequence[Want]:
        """Store what came; answer the wants that are stored: all of them, unless something unexpected happens."""
        store = self._means.store
        try:
            await self._persist(partial(store.keep, grant, harvest, wants, closes=closes))
        except Exception:
            log.exception("caller.unexpected", extra={"charge": grant.charge_id})
        else:
            return wants
        kept: list[Want] = []
        for ref in sorted({want.ref for want in wants}):
            own = [want for want in wants if want.ref == ref]
            try:
                await self._persist(partial(store.keep, grant, harvest, own, closes=False))
            except Exception:
                log.exception("caller.unexpected", extra={"collection_id": ref.collection_id, "batch": ref.batch})
            else:
                kept.extend(own)
        return kept

    async def _persist(self, work: Callable[[], T]) -> T:
        """The result of database work, however long the database is away: what is paid for is kept."""
        return await until_available(self._means.run_database, work, self._clock)
