"""Settling: rows of the queue become readings, each city of a collection once, and the counters say so at once.

It is one transaction. It locks in this order: charge, cities, collections (sorted), then their rows. Enqueueing and
cancelling lock collections before rows, too.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Collection as Many
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, insert, literal_column, or_, select, update

from raingauge.model import BatchKey, Observation
from raingauge.quota.fairness import UNKNOWN_CITY, is_fresh, needs_no_call
from raingauge.storage import counters
from raingauge.storage.cities import UNKNOWN_TWICE_IN, remember
from raingauge.storage.counters import Finished, Outcomes, Wanted, exactly, lock_collections
from raingauge.storage.models import Batch, City, QueuedCity, Reading
from raingauge.storage.queue import remove_unclaimed
from raingauge.storage.streams import add_readings
from raingauge.storage.weather import WEATHER_COLUMNS

REASON_LENGTH: Final = 200


_OF_CITIES: Final = QueuedCity.city_id.in_(bindparam("cities", expanding=True))
_WANTED_BY: Final = select(QueuedCity.collection_id).where(_OF_CITIES).distinct()
_RELEASE: Final = (
    update(QueuedCity)
    .where(_OF_CITIES, QueuedCity.charge_id == bindparam("charge"))
    .values(charge_id=None, ready_at=bindparam("now"))
)
_REST: Final = (
    update(QueuedCity)
    .where(QueuedCity.collection_id == bindparam("name"), _OF_CITIES)
    .where(or_(QueuedCity.charge_id.is_(None), QueuedCity.charge_id == bindparam("charge")))  # not another's claim
    .values(
        turn=None,
        charge_id=None,
        newcomer=None,
        attempts=bindparam("failed_calls"),
        ready_at=bindparam("until"),
    )
)
_COLLECTED: Final = select(
    *(QueuedCity.collection_id, QueuedCity.city_id, literal_column("'collected'")),
    *(getattr(City, name) for name in WEATHER_COLUMNS),
).join(City, City.id == QueuedCity.city_id)
_FOUND_CITIES: Final = select(City.id, City.fetched_at, City.unknown_at).where(
    City.id.in_(bindparam("cities", expanding=True))
)


_WANTED: Final = select(
    *(getattr(Batch if name in {"size", "settled"} else QueuedCity, name) for name in Wanted._fields)
).join(Batch, and_(Batch.collection_id == QueuedCity.collection_id, Batch.batch == QueuedCity.batch))
_OPEN_WANTED: Final = _WANTED.where(_OF_CITIES, QueuedCity.collection_id.in_(bindparam("collections", expanding=True)))


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a charge's calls returned for the cities of the queue."""

    charge_id: int
    requested: Sequence[int]
    """The cities of all calls."""
    fetched_at: datetime
    """When the charge was reserved, by the database's clock; the calls were sent later."""
    observations: Mapping[int, Observation] = field(default_factory=dict)
    unknown: frozenset[int] = frozenset()
    """The provider does not know these ids."""
    failed: frozenset[int] = frozenset()
    """No answer, or an unreadable one."""
    counts: bool = False
    """The failure counts against these cities: the provider answers for others."""
    probe: bool = False
    """It was the probe of a gate: if it failed, the next probe is to request another city."""
    split: frozenset[int] = frozenset()
    """A group call was refused because of some city in it: each is to be requested alone."""

    @property
    def city_ids(self) -> list[int]:
        """All of these, sorted."""
        return sorted({*self.observations, *self.unknown, *self.failed, *self.split})


@dataclass(slots=True)
class Settled:
    """What a transaction settled."""

    batches: dict[BatchKey, datetime] = field(default_factory=dict)
    """Batches that need no further work (settled, or their collection is finished or cancelled), and when their
    collection was requested: by now a later one may have its id."""
    collections: list[Finished] = field(default_factory=list)
    unknown: set[BatchKey] = field(default_factory=set)
    """Batches that the database does not have."""
    outdated: set[BatchKey] = field(default_factory=set)
    """Batches whose collection was deleted after their messages were sent."""


Retry = Callable[[int], float | None]
"""Given how many calls for a city failed: the seconds it rests, or None when it is given up."""

GIVEN_UP: Final = "the provider failed for this city, again and again"
ALONE_AFTER: Final = 2
"""A city that failed that often is requested alone, so that it cannot fail others."""
DOUBTED: Final = 1
"""Attempts of a city whose probe failed: nobody knows whether the provider is out or has no answer for this city."""


def settle(
    connection: Connection,
    now: datetime,
    fetched: Fetched,
    retry: Retry,
    *,
    releases: bool = True,
    streams: bool = False,
) -> Settled:
    """Store what a charge's calls returned, for every collection that wants it; let the rest of its cities go back.

    Failed cities rest as `retry` says, or fail for good. `streams`: readings are published on the streams, too.
    """
    result = Settled()
    unknown = remember(connection, fetched.observations, fetched.unknown, fetched.fetched_at)
    concerned = fetched.city_ids
    if concerned:
        collections, rows = _lock_open_rows(connection, concerned)
        outcomes, rests = _judge(now, rows, fetched, unknown, retry)
        store(connection, now, collections, outcomes, result, streams=streams)
        _rest(connection, now, rests, fetched.charge_id)
    if releases:
        left = {"cities": sorted(fetched.requested), "charge": fetched.charge_id, "now": now}
        connection.execute(_RELEASE, left)
    return result


def settle_fresh(connection: Connection, now: datetime, city_ids: Many[int], *, streams: bool = False) -> Settled:
    """Settle the rows of cities that need no call any more."""
    result = Settled()
    collections, rows = _lock_open_rows(connection, sorted(city_ids))
    outcomes = outcomes_without_call(connection, rows, {})
    store(connection, now, collections, outcomes, result, streams=streams)
    return result


def outcomes_without_call(
    connection: Connection, rows: Sequence[Wanted], not_known_since: Mapping[str, datetime]
) -> dict[Wanted, str | None]:
    """Those of these rows that need no call, and what settles them.

    `not_known_since`: by collection, from when on an answer that a city is unknown counts; by default as observations.
    """
    given = {"cities": sorted({row.city_id for row in rows})}
    known = {city.id: city for city in connection.execute(_FOUND_CITIES, given)}
    outcomes: dict[Wanted, str | None] = {}
    for row in rows:
        city = known.get(row.city_id)
        if city is None:
            continue
        since = not_known_since.get(row.collection_id, row.since)
        if needs_no_call(city.fetched_at, city.unknown_at, row.since, since):
            outcomes[row] = None if is_fresh(city.fetched_at, row.since) else UNKNOWN_CITY
    return outcomes


def fail_city(connection: Connection, now: datetime, city_id: int, reason: str, *, streams: bool = False) -> Settled:
    """Fail a city for every collection that wants it."""
    result = Settled()
    collections, rows = _lock_open_rows(connection, [city_id])
    store(connection, now, collections, dict.fromkeys(rows, reason), result, streams=streams)
    return result


def _lock_open_rows(connection: Connection, city_ids: Sequence[int]) -> tuple[dict[str, Any], list[Wanted]]:
    """Lock the collections that want these cities; return them, and the rows of those that are open.

    Rows of the others leave the queue, unless a call fetches them: a cancellation misses what gets a turn just then.
    """
    collections = lock_collections(connection, connection.scalars(_WANTED_BY, {"cities": city_ids}).all())
    names = [name for name, row in collections.items() if row.finished_at is None]
    if len(names) < len(collections):
        remove_unclaimed(connection, sorted(collections.keys() - names))
    wanted = connection.execute(_OPEN_WANTED, {"cities": city_ids, "collections": names}) if names else ()
    return collections, [Wanted(*row) for row in wanted]


def _judge(
    now: datetime, rows: Sequence[Wanted], fetched: Fetched, unknown: Many[int], retry: Retry
) -> tuple[dict[Wanted, str | None], dict[Wanted, tuple[int, float]]]:
    """What settles rows (None: their observation; else why they fail), and which ones rest: attempts and seconds."""
    outcomes: dict[Wanted, str | None] = {}
    rests: dict[Wanted, tuple[int, float]] = {}
    failures = dict.fromkeys(fetched.failed, 0)
    for row in rows:
        if row.city_id in failures:
            failures[row.city_id] = max(failures[row.city_id], row.attempts)
    for row in rows:
        if row.city_id in fetched.observations:
            # Wanted from the future on: the database's clock has stepped back since. No weather would ever do.
            if is_fresh(fetched.fetched_at, row.since) or row.since > now:
                outcomes[row] = None
        elif row.city_id in unknown:
            outcomes[row] = UNKNOWN_CITY
        elif row.city_id in fetched.unknown:
            rests[row] = (row.attempts, UNKNOWN_TWICE_IN.total_seconds())
        elif row.city_id in failures:
            attempts = max(failures[row.city_id] + fetched.counts, DOUBTED if fetched.probe else 0)
            rest_s = retry(attempts)
            if rest_s is None:
                outcomes[row] = GIVEN_UP
            else:
                rests[row] = (attempts, rest_s)
        else:
            rests[row] = (max(row.attempts, ALONE_AFTER), 0.0)
    return outcomes, rests


def _rest(connection: Connection, now: datetime, rests: Mapping[Wanted, tuple[int, float]], charge_id: int) -> None:
    """Have rows rest: no turn, no charge, and a moment at which they get a turn again."""
    alike: dict[tuple[str, int, float], list[int]] = {}
    for row, (attempts, rest_s) in rests.items():
        alike.setdefault((row.collection_id, attempts, rest_s), []).append(row.city_id)
    for (name, attempts, rest_s), city_ids in sorted(alike.items()):
        until = now + timedelta(seconds=rest_s)
        connection.execute(
            _REST, {"cities": city_ids, "name": name, "failed_calls": attempts, "until": until, "charge": charge_id}
        )


# -- readings and counters ---------------------------------------------------------------------------------------------


def store(
    connection: Connection,
    now: datetime,
    collections: Mapping[str, Any],
    outcomes: Outcomes,
    result: Settled,
    *,
    streams: bool = False,
) -> None:
    """Turn rows of the queue into readings, and count them. Their collections are locked and open."""
    if not outcomes:
        return
    _insert_collected(connection, [row for row, reason in outcomes.items() if reason is None])
    failed = [_failed(row, reason) for row, reason in sorted(outcomes.items()) if reason is not None]
    if failed:
        connection.execute(insert(Reading), failed)
    if streams:
        add_readings(connection, now, ((row.collection_id, row.city_id) for row in outcomes))
    batches, finished = counters.count(connection, now, collections, outcomes)
    result.batches |= {key: collections[key.collection_id].requested_at for key in batches}
    result.collections += finished
    connection.execute(delete(QueuedCity).where(_these(outcomes)))


def _insert_collected(connection: Connection, rows: Sequence[Wanted]) -> None:
    if not rows:
        return
    columns = ["collection_id", "city_id", "status", *WEATHER_COLUMNS]
    statement = insert(Reading).from_select(columns, _COLLECTED.where(_these(rows)))
    stored = connection.execute(statement.execution_options(preserve_rowcount=True)).rowcount
    if stored != len(rows):
        raise LookupError(f"{stored} of {len(rows)} cities have weather: {sorted({row.city_id for row in rows})[:20]}")


def _failed(row: Wanted, reason: str) -> dict[str, Any]:
    return {
        "collection_id": row.collection_id,
        "city_id": row.city_id,
        "status": "failed",
        "reason": reason[:REASON_LENGTH],
    }


def _these(rows: Iterable[Wanted]) -> ColumnElement[bool]:
    queue = QueuedCity.__table__.c
    return exactly(queue.collection_id, queue.city_id, [(row.collection_id, row.city_id) for row in rows])
