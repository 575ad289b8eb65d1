"""Starts the collections of schedules when they are due, and records what was skipped, and why.

The id of a run's collection is the schedule's name with the nominal time. Collection, run and next time are stored in
one transaction, under the lock of the schedule's row. So any number of producers start a run once.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from sqlalchemy import Connection

from producer.schedules import storage
from producer.schedules.storage import RunState, ScheduleState
from raingauge.background import repeated
from raingauge.clock import happens_within
from raingauge.database.transactions import Transactions
from raingauge.errors import DatabaseUnavailable
from raingauge.model import CollectionRequest
from raingauge.storage import collections
from raingauge.storage.collections import BeingDeleted, OtherRequest

log = logging.getLogger("raingauge.schedules")

LATE: Final = timedelta(seconds=60)
"""A run that is decided later than this after its nominal time was missed."""
MAX_SKIPPED: Final = 100
"""Missed runs of a schedule that are recorded at once: the last ones."""
AT_ONCE: Final = 50
"""Schedules that are read at once."""
LONGEST_PAUSE_S: Final = 15.0
"""Another producer may have added a schedule that is due earlier."""
SHORTEST_PAUSE_S: Final = 0.01
RETRY_S: Final = 1.0
MISSED: Final = "missed: no producer started it in time"
EARLIER: Final = "; earlier ones were missed, too, and are not recorded"
CHANGED: Final = "the schedule was changed or paused before it started"


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of the nominal times of a schedule that have passed."""

    schedule: str
    runs: Sequence[RunState]
    cities: int = 0
    """Cities of the collection that was started."""
    cancelled: Sequence[str] = ()
    """Collections of previous runs that were cancelled."""
    stays_due: bool = False
    """Nothing was decided: this machine does not know the zone."""


def run_id(name: str, nominal_at: datetime) -> str:
    """The id of a run's collection, for example `hourly:2026-11-20T12:00Z`."""
    moment = f"{nominal_at:%Y-%m-%dT%H:%M}" + (f":{nominal_at:%S}" if nominal_at.second else "")
    return f"{name}:{moment}Z"


def skipped(state: ScheduleState, now: datetime, reason: str) -> list[RunState]:
    """What has been due until now, each as skipped; of many only the last `MAX_SKIPPED`.

    Nothing where this machine does not know the zone.
    """
    if state.next_at is None or state.next_at > now or not state.times.are_known:
        return []
    times, more = state.times.last(state.next_at, now, MAX_SKIPPED)
    runs = [RunState(at, now, None, reason) for at in times]
    if more:
        runs[0] = replace(runs[0], reason=reason + EARLIER)
    return runs


class Runs:
    """Decides about due runs within a transaction."""

    def __init__(self, transactions: Transactions, default_cities: Sequence[int], outstanding: int) -> None:
        self._transactions = transactions
        self._default_cities = default_cities
        self._outstanding = outstanding

    def decide(self, connection: Connection, name: str) -> Decision | None:
        """Start what is due of this schedule, or skip it; None: nothing is due (any more)."""
        state = storage.lock(connection, name)
        now = self._transactions.now(connection)
        if state is None or state.next_at is None or state.next_at > now:
            return None
        if not state.times.are_known:
            return self._put_off(connection, state, state.next_at, now)
        due = skipped(state, now, MISSED)
        if not due:  # the zone's clock changed since `next_at` was stored: it is no time of the schedule any more
            storage.set_next(connection, name, state.times.after(now))
            return None
        *missed, last = due
        decision = Decision(name, due)
        if storage.has_started(connection, name, last.nominal_at):  # the clock went back, and the schedule was changed
            decision = Decision(name, missed)
        elif now - last.nominal_at <= LATE or state.missed == "latest":
            decision = self._start(connection, state, last.nominal_at, now, missed)
        storage.record(connection, name, decision.runs)
        storage.set_next(connection, name, state.times.after(now))
        return decision

    def _put_off(self, connection: Connection, state: ScheduleState, at: datetime, now: datetime) -> Decision:
        """Record once why it does not run. It stays due, and is decided about where its zone is known."""
        last = storage.runs(connection, state.name, None, 1)
        new = [] if last and last[0].nominal_at == at else [RunState(at, now, None, state.times.unknown())]
        storage.record(connection, state.name, new)
        return Decision(state.name, new, stays_due=True)

    def _start(
        self, connection: Connection, state: ScheduleState, at: datetime, now: datetime, missed: Sequence[RunState]
    ) -> Decision:
        """Start the run of that nominal time, unless the previous one is open and stays so."""
        still_open = storage.open_collections(connection, state.name) if state.overlap != "queue" else []
        if still_open and state.overlap == "skip":
            reason = f"overlap: {still_open[0]} is still open"
            return Decision(state.name, [*missed, RunState(at, now, None, reason)])
        if still_open:
            collections.cancel_all(connection, now, still_open)
        named = storage.definition(connection, state).city_ids
        request = CollectionRequest(
            id=run_id(state.name, at),
            city_ids=self._default_cities if named is None else named,
            max_age_s=state.max_age_s,
            named=named is not None,
            requested_by=storage.requester(state.name),
        )
        existing = collections.find_all(connection, [request.id], deleted=True)
        [result] = collections.accept_all(connection, now, [request], existing, self._outstanding)
        if isinstance(result, BeingDeleted):
            skipped_run = RunState(at, now, None, f"its collection {request.id} is being deleted")
            return Decision(state.name, [*missed, skipped_run], cancelled=still_open)
        if isinstance(result, OtherRequest):  # it started before the schedule was deleted and created anew
            log.warning("schedule.started_before", extra={"schedule": state.name, "collection_id": request.id})
        runs = [*missed, RunState(at, now, request.id, None)]
        return Decision(state.name, runs, len(request.city_ids), still_open)


class Scheduler:
    """Runs what is due: at its time, and at once when woken. It reads by an index, at least every 15 s."""

    def __init__(self, transactions: Transactions, runs: Runs, on_started: Callable[[], None]) -> None:
        self._transactions = transactions
        self._runs = runs
        self._on_started = on_started
        self._changed = asyncio.Event()
        self._pause_s = RETRY_S
        self._undecided: set[str] = set()
        """What stays due since the last pause: it must not hide the others."""
        self._last: set[str] = set()
        """Those at which the database failed. They come last, for it may be their rows alone that cannot be used."""

    def wake(self) -> None:
        """Schedules were changed."""
        self._changed.set()

    async def run(self) -> None:
        """Run schedules until cancelled."""
        await repeated(self._round, self._pause)

    async def _pause(self) -> None:
        await happens_within(self._changed, self._pause_s)
        self._changed.clear()
        self._undecided.clear()

    async def _round(self) -> bool:
        """Decide about what is due, each schedule once between two pauses; return whether more may be due behind."""
        self._pause_s = RETRY_S
        now, coming = await self._transactions.read(self._coming)
        due = [one.name for one in coming if one.next_at <= now and one.name not in self._undecided]
        for name in sorted(due, key=self._last.__contains__):
            if not await self._decide(name):
                self._undecided.add(name)
        following = [one.next_at for one in coming if one.next_at > now]
        pause_s = (following[0] - now).total_seconds() if following else LONGEST_PAUSE_S
        self._pause_s = min(LONGEST_PAUSE_S, max(SHORTEST_PAUSE_S, pause_s))
        return bool(due)

    def _coming(self, connection: Connection) -> tuple[datetime, list[storage.Due]]:
        return self._transactions.now(connection), storage.coming(connection, AT_ONCE + len(self._undecided))

    async def _decide(self, name: str) -> bool:
        """Decide about one schedule; return whether that worked. One that fails does not stop the others."""
        try:
            decision = await self._transactions.write(partial(self._runs.decide, name=name))
        except DatabaseUnavailable:
            self._last.add(name)
            raise
        except Exception:
            log.exception("schedule.failed", extra={"schedule": name})
            return False
        self._last.discard(name)
        if decision is None:
            return True
        self._report(decision)
        return not decision.stays_due

    def _report(self, decision: Decision) -> None:
        for run in decision.runs:
            facts = {"schedule": decision.schedule, "nominal_at": run.nominal_at}
            if run.collection_id is None:
                log.warning("schedule.skipped", extra={**facts, "reason": run.reason})
                continue
            log.info("schedule.started", extra={**facts, "collection_id": run.collection_id, "cities": decision.cities})
            self._on_started()
        for collection_id in decision.cancelled:
            log.info("collection.cancelled", extra={"collection_id": collection_id, "by": decision.schedule})
