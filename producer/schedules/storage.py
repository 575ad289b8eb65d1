"""The rows of schedules and of their runs. It decides nothing, and commits nothing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from producer.schedules.times import Times
from raingauge.database.causes import is_duplicate
from raingauge.errors import Overtaken
from raingauge.model import EPOCH
from raingauge.storage.models import Collection, Lease, Schedule, ScheduledRun, Schema

Missed = Literal["skip", "latest"]
Overlap = Literal["skip", "queue", "cancel_previous"]
Origin = Literal["settings", "api"]

BUDGET: Final = "budget"
"""The row whose lock orders changes that spend more of the month; nobody holds this lease."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What a person says of a schedule."""

    name: str
    times: Times
    city_ids: Sequence[int] | None
    """Distinct. None: the default cities."""
    max_age_s: int
    missed: Missed
    overlap: Overlap

    def is_like(self, other: "Definition") -> bool:
        """Whether both say the same; the order of cities does not count."""
        mine, theirs = (None if one.city_ids is None else frozenset(one.city_ids) for one in (self, other))
        names = ("name", "times", "max_age_s", "missed", "overlap")
        return mine == theirs and all(getattr(self, name) == getattr(other, name) for name in names)


@dataclass(frozen=True, slots=True)
class RunState:
    """A nominal time that has passed."""

    nominal_at: datetime
    decided_at: datetime
    collection_id: str | None
    """None: the run was skipped."""
    reason: str | None
    """Why it was skipped."""


@dataclass(frozen=True, slots=True)
class ScheduleState:
    """A schedule as it is stored, without its cities."""

    name: str
    times: Times
    cities: int | None
    """How many; None: the default ones."""
    max_age_s: int
    missed: Missed
    overlap: Overlap
    origin: Origin
    paused_at: datetime | None
    next_at: datetime | None
    """The nominal time of the next run; None while it is paused."""
    last_run: RunState | None = None


class Due(NamedTuple):
    """When a schedule runs next."""

    name: str
    next_at: datetime


_STATE: Final = (
    *(Schedule.name, Schedule.cron, Schedule.every_s, Schedule.zone, Schedule.cities, Schedule.max_age_s),
    *(Schedule.missed, Schedule.overlap, Schedule.origin, Schedule.paused_at, Schedule.next_at),
)
_RUN: Final = (ScheduledRun.nominal_at, ScheduledRun.decided_at, ScheduledRun.collection_id, ScheduledRun.reason)
_LAST_RUN: Final = tuple(
    select(column)
    .where(ScheduledRun.schedule == Schedule.name)
    .order_by(ScheduledRun.nominal_at.desc())
    .limit(1)
    .correlate(Schedule)
    .scalar_subquery()
    for column in _RUN
)
"""A column each: a join of the last runs reads all runs on PostgreSQL."""
_WITH_LAST_RUN: Final = select(*_STATE, *_LAST_RUN)


def requester(name: str) -> str:
    """What collections of a schedule have in `requested_by`."""
    return f"schedule:{name}"


def find(connection: Connection, name: str) -> ScheduleState | None:
    """The schedule with its last run, or None."""
    row = connection.execute(_WITH_LAST_RUN.where(Schedule.name == name)).one_or_none()
    return None if row is None else _with_last_run(row)


def page(connection: Connection, after: str, limit: int) -> list[ScheduleState]:
    """Up to `limit` schedules in the order of their names, of those after this name."""
    found = _WITH_LAST_RUN.where(Schedule.name > after).order_by(Schedule.name).limit(limit)
    return [_with_last_run(row) for row in connection.execute(found)]


def active(connection: Connection) -> list[ScheduleState]:
    """All that are not paused."""
    return [_state(row) for row in connection.execute(select(*_STATE).where(Schedule.paused_at.is_(None)))]


def of_settings(connection: Connection) -> list[str]:
    """The names of those that come from the settings."""
    return [*connection.scalars(select(Schedule.name).where(Schedule.origin == "settings").order_by(Schedule.name))]


def lock(connection: Connection, name: str) -> ScheduleState | None:
    """The schedule, locked until the transaction ends; None: there is none."""
    row = connection.execute(select(*_STATE).where(Schedule.name == name).with_for_update()).one_or_none()
    return None if row is None else _state(row)


def lock_budget(connection: Connection, now: datetime) -> None:
    """Have other transactions that would spend more of the month wait for this one; what they stored is seen then.

    To be locked after a schedule, never before.

    Raises:
        Overtaken: another transaction stored the row to be locked at the same time.
    """
    if connection.execute(select(Lease.id).where(Lease.id == BUDGET).with_for_update()).one_or_none() is None:
        _insert(connection, Lease, {"id": BUDGET, "holder": "", "until": now})


def definition(connection: Connection, state: ScheduleState) -> Definition:
    """What was said of this schedule, with its cities."""
    text = connection.scalar(select(Schedule.city_ids).where(Schedule.name == state.name))
    city_ids = None if text is None else tuple(json.loads(text))
    return Definition(state.name, state.times, city_ids, state.max_age_s, state.missed, state.overlap)


def add(connection: Connection, now: datetime, wanted: Definition, origin: Origin) -> None:
    """Store a schedule that runs first at the next time after `now`.

    Raises:
        Overtaken: another producer stored one of this name at the same time.
    """
    values = _values(wanted) | {
        "origin": origin,
        "created_at": now,
        "changed_at": now,
        "next_at": wanted.times.after(now),
    }
    _insert(connection, Schedule, values)


def store(connection: Connection, now: datetime, wanted: Definition, origin: Origin, next_at: datetime | None) -> None:
    """Store what is now said of a schedule."""
    values = _values(wanted) | {"origin": origin, "changed_at": now, "next_at": next_at}
    connection.execute(update(Schedule).where(Schedule.name == wanted.name).values(values))


def set_next(connection: Connection, name: str, next_at: datetime | None, **columns: Any) -> None:
    """Set when it runs next, and other columns."""
    connection.execute(update(Schedule).where(Schedule.name == name).values(next_at=next_at, **columns))


def remove(connection: Connection, name: str) -> None:
    """Delete a schedule with the record of its runs. Their collections stay."""
    connection.execute(delete(ScheduledRun).where(ScheduledRun.schedule == name))
    connection.execute(delete(Schedule).where(Schedule.name == name))


def coming(connection: Connection, limit: int) -> list[Due]:
    """Those that run next, the earliest first, due or not; by an index."""
    # Not with IS NOT NULL: SQLite would read the whole table.
    found = select(Schedule.name, Schedule.next_at).where(Schedule.next_at > EPOCH).order_by(Schedule.next_at)
    rows: Sequence[Any] = connection.execute(found.limit(limit)).all()
    return [Due(*row) for row in rows]


def record(connection: Connection, name: str, runs: Sequence[RunState]) -> None:
    """Store what became of nominal times of a schedule. It replaces why they were skipped, but no run that started."""
    if not runs:
        return
    these = (ScheduledRun.schedule == name, ScheduledRun.nominal_at.in_([run.nominal_at for run in runs]))
    connection.execute(delete(ScheduledRun).where(*these, ScheduledRun.collection_id.is_(None)))
    started = {*connection.scalars(select(ScheduledRun.nominal_at).where(*these))}
    columns = RunState.__dataclass_fields__
    rows = [{"schedule": name} | {column: getattr(run, column) for column in columns} for run in runs]
    if new := [row for row in rows if row["nominal_at"] not in started]:
        connection.execute(insert(ScheduledRun), new)


def has_started(connection: Connection, name: str, nominal_at: datetime) -> bool:
    """Whether the run of this nominal time was started."""
    run = select(ScheduledRun.collection_id).where(ScheduledRun.schedule == name, ScheduledRun.nominal_at == nominal_at)
    return connection.scalar(run) is not None


def runs(connection: Connection, name: str, before: datetime | None, limit: int) -> list[RunState]:
    """Up to `limit` runs of a schedule, the newest first, of those before this nominal time."""
    found = select(*_RUN).where(ScheduledRun.schedule == name).order_by(ScheduledRun.nominal_at.desc()).limit(limit)
    if before is not None:
        found = found.where(ScheduledRun.nominal_at < before)
    return [RunState(*row) for row in connection.execute(found)]


def open_collections(connection: Connection, name: str) -> list[str]:
    """Ids of the collections that this schedule started and that have not ended; by an index."""
    # Sorted here: with ORDER BY, SQLite would read the whole table.
    found = select(Collection.id).where(Collection.requested_by == requester(name), Collection.finished_at.is_(None))
    return sorted(connection.scalars(found))


def _insert(connection: Connection, table: type[Schema], values: Mapping[str, Any]) -> None:
    try:
        connection.execute(insert(table), [values])
    except IntegrityError as error:
        if is_duplicate(error):
            raise Overtaken from error
        raise


def _values(wanted: Definition) -> dict[str, Any]:
    city_ids = wanted.city_ids
    named: Mapping[str, Any] = (
        {"city_ids": None, "cities": None}
        if city_ids is None
        else {"city_ids": json.dumps([*city_ids]), "cities": len(city_ids)}
    )
    return {
        "name": wanted.name,
        "cron": wanted.times.cron,
        "every_s": wanted.times.every_s,
        "zone": wanted.times.zone,
        "max_age_s": wanted.max_age_s,
        "missed": wanted.missed,
        "overlap": wanted.overlap,
        **named,
    }


def _state(row: Sequence[Any], last_run: RunState | None = None) -> ScheduleState:
    name, cron, every_s, zone, *rest = row[: len(_STATE)]
    return replace(ScheduleState(name, Times(cron, every_s, zone, checked=False), *rest), last_run=last_run)


def _with_last_run(row: Sequence[Any]) -> ScheduleState:
    run = row[len(_STATE) :]
    return _state(row, None if run[0] is None else RunState(*run))
