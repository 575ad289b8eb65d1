"""Reserve, fetch, settle: one charge after another, as the ledger allows, up to `lanes` group calls under way at once.

It holds no lock and no transaction while it calls the provider or sleeps. It knows nothing of deliveries: it reports to
`on_settled` what it settles. Everything that has to outlast a restart is in the database.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sqlalchemy import Connection

from consumer.gate import Event
from consumer.ledger import Ledger, NotNow, Reservation
from consumer.metrics import CallMetrics
from consumer.provider.port import Provider, Reason, Refusal, Reply, Weather
from consumer.retry import INTERNAL_ERROR, rest_s
from raingauge.blocking import RunBlocking
from raingauge.clock import Clock, happens_within
from raingauge.database.transactions import Transactions
from raingauge.errors import DatabaseUnavailable, NotSent, ProviderUnavailable
from raingauge.model import Observation
from raingauge.quota.pacing import SEND_DELAY_S
from raingauge.storage import quota, settling
from raingauge.storage.settling import Fetched, Settled

log = logging.getLogger("raingauge.caller")

LONGEST_WAIT_S: Final = 60.0
"""A person may open the gate (`quota open`), so nobody sleeps longer."""
DATABASE_RETRY_S: Final = 2.0
QUIET_REASONS: Final = frozenset({"pace", "probe", None})
"""Reasons to wait that are not worth a line in the log."""
UNEXPECTED_REST_S: Final = 1.0

_EVENTS: Final = {Reason.QUOTA: Event.QUOTA, Reason.KEY: Event.KEY, Reason.ENDPOINT: Event.ENDPOINT}


@dataclass(slots=True)
class Outcome:
    """What became of the cities of one charge. Those of a refused call are in none of the sets: they stay wanted."""

    event: Event = Event.SILENT
    closes: bool = True
    """Every call has a complete answer of the provider's own."""
    observations: dict[int, Observation] = field(default_factory=dict)
    unknown: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    split: set[int] = field(default_factory=set)
    refusal: Refusal | None = None
    unsent: bool = False
    """A call was not sent, for a reason on this side: that says nothing about the provider or the cities."""

    def add(self, city_ids: Sequence[int], reply: Reply | ProviderUnavailable) -> None:
        """Take in the reply to one call, or why there was none."""
        if isinstance(reply, ProviderUnavailable):
            self.closes = False
            self.failed |= set(city_ids)
            self.unsent |= isinstance(reply, NotSent)
        elif isinstance(reply, Weather):
            self.observations.update(reply.observations)
            self.unknown |= reply.unknown
            self.failed |= reply.unreadable
            self._answered()
        elif reply.reason is Reason.CITIES:
            self.closes &= reply.closes
            self.split |= set(city_ids)
            self._answered()
        else:
            self.closes &= reply.closes
            self.event, self.refusal = _EVENTS[reply.reason], reply

    @property
    def ending(self) -> str | None:
        """What closes the charge; None: it stays open."""
        return self.event.value if self.closes else None

    def _answered(self) -> None:
        if self.event is Event.SILENT:
            self.event = Event.ANSWERED

    def fetched(self, reservation: Reservation, charge_id: int) -> Fetched:
        """This outcome, for settling."""
        unknown, failed, split = map(frozenset, (self.unknown, self.failed, self.split))
        return Fetched(
            charge_id,
            reservation.city_ids,
            reservation.reserved_at,
            self.observations,
            unknown,
            failed,
            counts=reservation.gate_was_untroubled and not self.unsent,
            probe=reservation.plan.probe and not self.unsent,
            split=split,
        )


class Caller:
    """Calls the provider for the cities of the queue."""

    def __init__(  # noqa: PLR0913
        self,
        ledger: Ledger,
        provider: Provider,
        transactions: Transactions,
        run_provider: RunBlocking,
        clock: Clock,
        lanes: int,
        metrics: CallMetrics | None = None,
        *,
        streams: bool = False,
    ) -> None:
        self._ledger = ledger
        self._provider = provider
        self._transactions = transactions
        self._run_provider = run_provider
        self._clock = clock
        self._lanes = asyncio.Semaphore(lanes)
        self._streams = streams
        self._stop = asyncio.Event()
        self._news = asyncio.Event()
        self._tried_at = clock.monotonic()
        self.on_settled: Callable[[Settled], None] = lambda _settled: None
        self.on_failover: Callable[[], None] = lambda: None
        self._metrics = metrics or CallMetrics()
        self._logged_reason: str | None = None
        self.waiting_for: str | None = None
        """Why nothing goes now: quota, key, provider, database, terms, month, pace, probe; None when calls go."""

    @property
    def quiet_s(self) -> float:
        """Seconds since it last tried to reserve: at most a minute, unless all lanes or the database are stuck."""
        return self._clock.monotonic() - self._tried_at

    def wake(self) -> None:
        """The queue has something new."""
        self._news.set()

    def stop(self) -> None:
        """Reserve nothing more; what is under way is finished."""
        self._stop.set()
        self._news.set()

    async def run(self) -> None:
        """Call until stopped, and until what is under way is settled."""
        async with asyncio.TaskGroup() as calls:
            while not self._stop.is_set():
                lanes = await self._take_lanes()
                if self._stop.is_set():
                    break
                self._tried_at = self._clock.monotonic()
                answer = await self._reserve(lanes)
                used = answer.lanes if isinstance(answer, Reservation) else 0
                self._return_lanes(lanes - used)
                if isinstance(answer, NotNow):
                    await self._pause(answer)
                    continue
                if answer.charge_id is not None:
                    self._resume()
                    calls.create_task(self._call(answer, answer.charge_id))
                if answer.fresh:
                    await self._settle_fresh(answer.fresh)

    async def _take_lanes(self) -> int:
        """Wait for a lane, and take as many more as one charge can use."""
        await self._lanes.acquire()
        taken = 1
        while taken < self._ledger.calls_at_once and not self._lanes.locked():
            await self._lanes.acquire()
            taken += 1
        return taken

    def _return_lanes(self, number: int) -> None:
        for _ in range(number):
            self._lanes.release()

    # -- reserve -------------------------------------------------------------------------------------------------------

    async def _reserve(self, lanes: int) -> Reservation | NotNow:
        self._news.clear()
        try:
            return await self._ledger.reserve(lanes)
        except DatabaseUnavailable:
            return NotNow(DATABASE_RETRY_S * random.uniform(0.5, 1.0), "database")

    async def _pause(self, answer: NotNow) -> None:
        """Sleep as long as the ledger says, a minute at most; news of the queue ends it."""
        seconds = min(LONGEST_WAIT_S, answer.seconds)
        if answer.reason != self._logged_reason and answer.reason not in QUIET_REASONS:
            log.info("caller.waiting", extra={"reason": answer.reason, "looks_again_s": round(seconds, 3)})
            self._logged_reason = answer.reason
        if answer.reason == "failover" and self.waiting_for != "failover":
            self.on_failover()
        self.waiting_for = answer.reason
        await happens_within(self._news, seconds)

    def _resume(self) -> None:
        if self._logged_reason is not None:
            log.info("caller.resumed", extra={"reason": self._logged_reason})
        self.waiting_for = self._logged_reason = None

    # -- fetch ---------------------------------------------------------------------------------------------------------

    async def _call(self, reservation: Reservation, charge_id: int) -> None:
        """Fetch and settle one reservation."""
        try:
            outcome = await self._fetch(reservation, reservation.began + SEND_DELAY_S)
            is_ordinary = reservation.gate_was_untroubled and outcome.event is Event.ANSWERED
            is_local = outcome.unsent and outcome.event is Event.SILENT
            if not (is_ordinary or is_local):
                await self._report_safely(reservation, outcome)
            await self._settle(outcome.fetched(reservation, charge_id), outcome.ending)
        finally:
            self._return_lanes(reservation.lanes)
            self._news.set()

    async def _settle_fresh(self, city_ids: Sequence[int]) -> None:
        """Settle cities that need no call any more, before they are picked again."""
        try:
            settled = await self._transactions.persist(
                lambda c: settling.settle_fresh(c, self._transactions.now(c), city_ids, streams=self._streams)
            )
        except Exception:
            log.exception("settle.unexpected", extra={"cities": len(city_ids)})
            await self._clock.sleep(UNEXPECTED_REST_S)
        else:
            self.on_settled(settled)

    async def _fetch(self, reservation: Reservation, send_by: float) -> Outcome:
        self._metrics.requested.inc(len(reservation.city_ids))
        endpoint = reservation.plan.endpoint
        replies = await asyncio.gather(*(self._request(endpoint, call, send_by) for call in reservation.calls))
        outcome = Outcome()
        for call, reply in zip(reservation.calls, replies, strict=True):
            outcome.add(call, reply)
        return outcome

    async def _request(self, endpoint: str, call: tuple[int, ...], send_by: float) -> Reply | ProviderUnavailable:
        """The reply to one call, or why none of the provider's own arrived."""

        def work() -> Reply:
            if endpoint == "group":
                return self._provider.group(call, send_by)
            return self._provider.single(call[0], send_by)

        reply: Reply | ProviderUnavailable
        began = self._clock.monotonic()
        try:
            reply = await self._run_provider(work)
        except ProviderUnavailable as error:
            log.warning("provider.silent", extra={"cities": len(call), "error": str(error)})
            reply = error
        except Exception:
            log.exception("provider.unexpected", extra={"cities": len(call)})
            reply = ProviderUnavailable("unexpected")
        self._metrics.ended(reply, self._clock.monotonic() - began)
        return reply

    async def _report_safely(self, reservation: Reservation, outcome: Outcome) -> None:
        """Report to the gate; whatever happens, what was paid for is stored afterwards."""
        try:
            await self._report(reservation, outcome)
        except Exception:
            log.exception("gate.not_reported")

    async def _report(self, reservation: Reservation, outcome: Outcome) -> None:
        """Record at the gate what happened, and log what changed."""
        refusal = outcome.refusal
        retry_after_s = None if refusal is None else refusal.retry_after_s
        changes = await self._ledger.report(reservation.plan, outcome.event, retry_after_s)
        shown = {name: str(changes[name]) for name in ("state", "blocked_until", "endpoint") if name in changes}
        if shown:
            why = outcome.event.value if refusal is None else refusal.message
            is_good = outcome.event is Event.ANSWERED
            log.log(logging.INFO if is_good else logging.WARNING, "gate.changed", extra=shown | {"why": why})

    # -- settle --------------------------------------------------------------------------------------------------------

    async def _settle(self, fetched: Fetched, ending: str | None) -> None:
        """Store what was fetched; when that fails, city by city, so that one cannot stop the others."""
        try:
            await self._store(fetched, ending)
        except Exception:
            log.exception("settle.unexpected", extra={"charge": fetched.charge_id})
        else:
            return
        for city_id in [*fetched.observations, *fetched.unknown]:
            await self._store_alone(_only(fetched, city_id), city_id)
        nothing = replace(fetched, observations={}, unknown=frozenset())
        try:
            await self._store(nothing, ending)
        except Exception:  # its claims expire
            log.exception("settle.failed", extra={"charge": fetched.charge_id})

    async def _store_alone(self, fetched: Fetched, city_id: int) -> None:
        """Store one city, or fail it, so that it is not paid for again."""
        now, streams = self._transactions.now, self._streams

        def store(connection: Connection) -> Settled:
            return settling.settle(connection, now(connection), fetched, rest_s, releases=False, streams=streams)

        def fail(connection: Connection) -> Settled:
            return settling.fail_city(connection, now(connection), city_id, INTERNAL_ERROR, streams=streams)

        if await self._is_settled(store, city_id):
            self._metrics.collected.inc(len(fetched.observations))
        else:
            await self._is_settled(fail, city_id)

    async def _is_settled(self, work: Callable[[Connection], Settled], city_id: int) -> bool:
        """Settle in one transaction; return False after an unexpected error."""
        try:
            self.on_settled(await self._transactions.persist(work))
        except Exception:
            log.exception("settle.failed", extra={"city_id": city_id})
            return False
        return True

    async def _store(self, fetched: Fetched, ending: str | None) -> None:
        def work(connection: Connection) -> Settled:
            now = self._transactions.now(connection)
            if ending is not None:  # first: the collections' locks are held as briefly as can be
                quota.close_charge(connection, fetched.charge_id, fetched.fetched_at, now, ending)
            return settling.settle(connection, now, fetched, rest_s, streams=self._streams)

        settled = await self._transactions.persist(work)
        self._metrics.collected.inc(len(fetched.observations))
        self.on_settled(settled)


def _only(fetched: Fetched, city_id: int) -> Fetched:
    observations: Mapping[int, Observation] = {c: o for c, o in fetched.observations.items() if c == city_id}
    unknown = fetched.unknown & {city_id}
    return Fetched(fetched.charge_id, (), fetched.fetched_at, observations, unknown)
