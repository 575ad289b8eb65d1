"""The use cases of schedules: create, change, pause, resume, delete, list and foresee them. It speaks no HTTP."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final

from sqlalchemy import Connection

from producer.collections import CITIES_PER_SECOND, DEADLINE_S, Collections
from producer.schedules import budget, storage
from producer.schedules.budget import Demand, ForeseenRun
from producer.schedules.running import CHANGED, skipped
from producer.schedules.storage import Definition, RunState, ScheduleState
from raingauge.errors import Permanent
from raingauge.model import CollectionState

FORESEEN: Final = 10
"""Runs whose end is forecast."""


class OtherSchedule(Permanent):
    """A schedule of this name exists, with another content; or it comes from the settings, and cannot be changed."""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a schedule would do."""

    wanted: Definition
    runs: Sequence[ForeseenRun]
    cities: int
    """Of each run."""
    cities_per_month: int
    """In the dearest of the next twelve months, at most."""
    others_per_month: int
    """Of the other active schedules: the sum of these figures."""
    budget: int


class Schedules:
    """The use cases; `on_change` is called when one may be due earlier.

    Raises (all methods): DatabaseUnavailable, in time.
    """

    def __init__(
        self,
        collections: Collections,
        default_cities: Sequence[int],
        cities_per_month: int,
        on_change: Callable[[], None],
    ) -> None:
        self._views = collections.views
        self._transactions = collections.transactions
        self._default_cities = default_cities
        self._budget = cities_per_month
        self._on_change = on_change

    async def create(self, wanted: Definition, *, any_age: bool) -> tuple[ScheduleState, bool]:
        """Store a schedule, or find it: its state, and whether it is new.

        `any_age`: the client gave no `max_age_s`, so it matches an existing one whatever that has.

        Raises:
            OtherSchedule: one of this name exists with another content.
            Overspent: the month does not pay for it.
        """

        def work(connection: Connection) -> tuple[ScheduleState, bool]:
            existing = storage.lock(connection, wanted.name)
            if existing is None:
                now = self._transactions.now(connection)
                self._spend(connection, now, wanted)
                storage.add(connection, now, wanted, "api")
            elif not _asks_for(storage.definition(connection, existing), wanted, any_age=any_age):
                raise OtherSchedule(f"a schedule {wanted.name} exists already, with another content")
            return _found(connection, wanted.name), existing is None

        result = await self._transactions.write(work, self._deadline_s(wanted.city_ids))
        self._on_change()
        return result

    async def change(
        self, name: str, changed: Callable[[Definition], Definition], cities: Sequence[int] | None = None
    ) -> ScheduleState | None:
        """Store what `changed` makes of a schedule; return its state, or None: there is none. It next runs after now.

        `cities`: those of the change, if it has any.

        Raises:
            OtherSchedule: it comes from the settings.
            Overspent: the month does not pay for it.
        """

        def work(connection: Connection) -> ScheduleState | None:
            if (state := storage.lock(connection, name)) is None:
                return None
            _refuse_settings(state)
            now = self._transactions.now(connection)
            before = storage.definition(connection, state)
            wanted = changed(before)
            if not wanted.is_like(before):
                if state.paused_at is None:
                    self._spend(connection, now, wanted)
                storage.record(connection, name, skipped(state, now, CHANGED))
                next_at = wanted.times.after(now) if state.paused_at is None else None
                storage.store(connection, now, wanted, state.origin, next_at)
            return _found(connection, name)

        result = await self._transactions.write(work, self._deadline_s(cities))
        self._on_change()
        return result

    async def pause(self, name: str) -> ScheduleState | None:
        """Let a schedule run no more; return its state, or None: there is none."""

        def work(connection: Connection) -> ScheduleState | None:
            if (state := storage.lock(connection, name)) is None:
                return None
            if state.paused_at is None:
                now = self._transactions.now(connection)
                storage.record(connection, name, skipped(state, now, CHANGED))
                storage.set_next(connection, name, None, paused_at=now)
            return _found(connection, name)

        return await self._transactions.write(work, DEADLINE_S)

    async def resume(self, name: str) -> ScheduleState | None:
        """Let a paused schedule run again, from the next time from now; return its state, or None: there is none.

        Raises:
            Overspent: the month does not pay for it.
            WrongExpression: this machine does not know its time zone any more.
        """

        def work(connection: Connection) -> ScheduleState | None:
            if (state := storage.lock(connection, name)) is None:
                return None
            if state.paused_at is not None:
                now = self._transactions.now(connection)
                self._spend(connection, now, storage.definition(connection, state))
                storage.set_next(connection, name, state.times.after(now), paused_at=None)
            return _found(connection, name)

        result = await self._transactions.write(work, DEADLINE_S)
        self._on_change()
        return result

    async def delete(self, name: str) -> bool:
        """Delete a schedule and the record of its runs; return whether there was one. Their collections stay.

        Raises:
            OtherSchedule: it comes from the settings.
        """

        def work(connection: Connection) -> bool:
            if (state := storage.lock(connection, name)) is None:
                return False
            _refuse_settings(state)
            storage.remove(connection, name)
            return True

        return await self._transactions.write(work, DEADLINE_S)

    async def find(self, name: str) -> ScheduleState | None:
        """The schedule, or None."""
        return await self._transactions.read(partial(storage.find, name=name), DEADLINE_S)

    async def page(self, after: str, limit: int) -> list[ScheduleState]:
        """Up to `limit` schedules in the order of their names, of those after this name."""
        return await self._transactions.read(partial(storage.page, after=after, limit=limit), DEADLINE_S)

    async def runs(self, name: str, before: datetime, limit: int) -> list[RunState] | None:
        """Up to `limit` runs of a schedule, the newest first; None: there is no such schedule."""

        def work(connection: Connection) -> list[RunState] | None:
            found = storage.find(connection, name)
            return None if found is None else storage.runs(connection, name, before, limit)

        return await self._transactions.read(work, DEADLINE_S)

    async def foresee(self, wanted: Definition) -> Foreseen:
        """What a schedule would do, in place of one of the same name if there is one; nothing is stored.

        Raises:
            Overspent: the month does not pay for it.
        """

        def work(connection: Connection) -> Foreseen:
            now = self._transactions.now(connection)
            others = self._check(connection, now, wanted)
            demand = Demand(wanted.times, self._count(wanted.city_ids), wanted.max_age_s)
            run = _like_a_run(wanted, demand.cities, now)
            due = wanted.times.following(now, FORESEEN)
            runs = budget.foresee(due, run, wanted.overlap, self._views.snapshot(connection))
            theirs = sum(other.most(now) for other in others)
            return Foreseen(wanted, runs, demand.cities, demand.most(now), theirs, self._budget)

        return await self._transactions.read(work, self._deadline_s(wanted.city_ids))

    def cities_of(self, state: ScheduleState) -> int:
        """How many cities each run of it collects."""
        return len(self._default_cities) if state.cities is None else state.cities

    def _spend(self, connection: Connection, now: datetime, wanted: Definition) -> None:
        """Return when the month pays for this schedule, whatever else is being stored. Raises Overspent."""
        storage.lock_budget(connection, now)
        self._check(connection, now, wanted)

    def _check(self, connection: Connection, now: datetime, wanted: Definition) -> list[Demand]:
        """What the other active schedules want. Raises Overspent: the month does not pay for this one beside them."""
        others = [
            Demand(other.times, self.cities_of(other), other.max_age_s)
            for other in storage.active(connection)
            if other.name != wanted.name
        ]
        demand = Demand(wanted.times, self._count(wanted.city_ids), wanted.max_age_s)
        budget.check(demand, others, self._budget, now)
        return others

    def _count(self, city_ids: Sequence[int] | None) -> int:
        return len(self._default_cities) if city_ids is None else len(city_ids)

    def _deadline_s(self, city_ids: Sequence[int] | None) -> float:
        return DEADLINE_S + self._count(city_ids) / CITIES_PER_SECOND


def _asks_for(existing: Definition, wanted: Definition, *, any_age: bool) -> bool:
    return existing.is_like(replace(wanted, max_age_s=existing.max_age_s) if any_age else wanted)


def _refuse_settings(state: ScheduleState) -> None:
    if state.origin == "settings":
        what = "change `schedules` there and restart the producer; here it can be paused and resumed"
        raise OtherSchedule(f"the schedule {state.name} comes from the settings: {what}")


def _found(connection: Connection, name: str) -> ScheduleState:
    state = storage.find(connection, name)
    if state is None:
        raise LookupError("a schedule that was stored is gone")
    return state


def _like_a_run(wanted: Definition, cities: int, now: datetime) -> CollectionState:
    """The state of a run's collection that is accepted now."""
    return CollectionState(
        id=f"{wanted.name}:",
        requested_at=now,
        max_age_s=wanted.max_age_s,
        cities_hash="",
        total=cities,
        collected=0,
        failed=0,
        last_turn=0,
        last_progress_at=None,
        finished_at=None,
        cancelled_at=None,
    )
