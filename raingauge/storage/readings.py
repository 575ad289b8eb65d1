"""Readings and the cities behind them: what is still wanted, what is fresh already, and settling.

Settling is the one place where readings are written. It is idempotent by key, in one transaction, in a fixed order.
"""

import json
from collections import Counter
from collections.abc import Collection as Many
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import BindParameter, Connection, String, bindparam, case, insert, literal_column, select, update

from raingauge.storage.batches import BatchRef, parts
from raingauge.storage.message import Statement, ask, send
from raingauge.storage.models import WEATHER_COLUMNS, Batch, City, Collection, Reading, UtcDateTime

UNKNOWN_FOR: Final = timedelta(days=1)
"""How long an id that the provider does not know is taken for unknown without asking again."""

UNKNOWN_CITY: Final = "unknown city"

# Built once: these run for every call of the provider.
_COLLECTIONS: Final[BindParameter[Any]] = bindparam("collections", expanding=True)
_CITIES: Final[BindParameter[Any]] = bindparam("cities", expanding=True)
_LOCK: Final = (
    select(Collection.id, Collection.total - Collection.collected - Collection.failed)
    .where(Collection.id.in_(_COLLECTIONS), Collection.finished_at.is_(None))
    .order_by(Collection.id)
    .with_for_update()
)
_SETTLED: Final = select(Reading.collection_id, Reading.city_id).where(
    Reading.collection_id.in_(_COLLECTIONS), Reading.city_id.in_(_CITIES)
)
_FRESH: Final = select(City.id, City.fetched_at, City.unknown_at).where(
    City.id.in_(_CITIES),
    (City.fetched_at >= bindparam("since", type_=UtcDateTime))
    | (City.unknown_at >= bindparam("unknown_since", type_=UtcDateTime)),
)
_FRESH_LOCKED: Final = _FRESH.with_for_update()
_COLLECT: Final = (
    insert(Reading)
    .from_select(
        ["collection_id", "city_id", "status", *WEATHER_COLUMNS],
        select(
            bindparam("collection", type_=String),
            City.id,
            literal_column("'collected'"),
            *(getattr(City, name) for name in WEATHER_COLUMNS),
        ).where(City.id.in_(_CITIES)),
    )
    .execution_options(preserve_rowcount=True)
)
_FAIL: Final = insert(Reading)
_COUNT: Final = (
    update(Collection)
    .where(Collection.id == bindparam("key"))
    .values(
        collected=Collection.collected + bindparam("more_collected"),
        failed=Collection.failed + bindparam("more_failed"),
        last_progress_at=bindparam("progress"),
        finished_at=bindparam("finished"),
    )
)
_MORE: Final = Batch.settled + bindparam("more")
_COUNT_BATCHES: Final = (
    update(Batch)
    .where(Batch.collection_id == bindparam("collection"), Batch.batch.in_(bindparam("numbers", expanding=True)))
    # In this order: MySQL assigns from left to right and would see the new `settled` in the condition.
    .ordered_values(
        (Batch.settled_at, case((Batch.size <= _MORE, bindparam("now", type_=UtcDateTime)), else_=None)),
        (Batch.settled, _MORE),
    )
)

Outcome = str | None
"""Of a city that is settled: None, it is collected, and its weather is what `cities` has; or why it failed."""


class Want(NamedTuple):
    """One city of one batch, not settled yet. An observation fetched at or after `since` is good enough for it."""

    ref: BatchRef
    city_id: int
    since: datetime


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """What is left of a batch. An observation fetched at or after `since` is good enough for it."""

    ref: BatchRef
    since: datetime
    city_ids: tuple[int, ...]
    """Cities without a reading; none when the batch is settled, or its collection finished or cancelled."""

    @property
    def wants(self) -> list[Want]:
        """The same, city by city."""
        return [Want(self.ref, city_id, self.since) for city_id in self.city_ids]


def open_batches(connection: Connection, refs: Many[BatchRef]) -> dict[BatchRef, OpenBatch]:
    """What is left of each batch; a batch that the database does not know is not in the answer."""
    known = select(Batch, Collection.requested_at, Collection.max_age_s, Collection.finished_at).join(
        Collection, Collection.id == Batch.collection_id
    )
    rows = [row for these in parts(refs) for row in connection.execute(known.where(these))]
    begun = [row for row in rows if row.settled > 0 and row.settled_at is None]
    settled = _settled_cities(
        connection, [(row.collection_id, city) for row in begun for city in json.loads(row.city_ids)]
    )
    return {BatchRef(row.collection_id, row.batch): _left(row, settled) for row in rows}


def _left(row: Any, settled: set[tuple[str, int]]) -> OpenBatch:
    over = row.settled_at is not None or row.finished_at is not None
    left = [] if over else [city for city in json.loads(row.city_ids) if (row.collection_id, city) not in settled]
    since = row.requested_at - timedelta(seconds=row.max_age_s)
    return OpenBatch(BatchRef(row.collection_id, row.batch), since, tuple(left))


def _settled_cities(connection: Connection, cities: Sequence[tuple[str, int]]) -> set[tuple[str, int]]:
    """Which of these (collection id, city id) have a reading."""
    if not cities:
        return set()
    return {(row[0], row[1]) for row in ask(connection, *_settled(cities))}


def _settled(cities: Sequence[tuple[str, int]]) -> Statement:
    """The statement that tells which of these, and perhaps some others, have a reading."""
    names, ids = {collection for collection, _ in cities}, {city for _, city in cities}
    return _SETTLED, {"collections": list(names), "cities": list(ids)}


def fresh(connection: Connection, now: datetime, wants: Many[Want], *, lock: bool = False) -> dict[Want, Outcome]:
    """The wanted cities that need no call: observed late enough for their batch, or known to be unknown.

    `lock`: and stay so until the transaction ends, so that what settling copies is what was found here.
    """
    if not wants:
        return {}
    given = {"since": min(want.since for want in wants), "unknown_since": now - UNKNOWN_FOR}
    statement = _FRESH_LOCKED if lock else _FRESH
    known = connection.execute(statement, given | {"cities": sorted({want.city_id for want in wants})})
    seen = {row.id: (row.fetched_at, row.unknown_at) for row in known}
    settled: dict[Want, Outcome] = {}
    for want in wants:
        fetched_at, unknown_at = seen.get(want.city_id, (None, None))
        if fetched_at is not None and fetched_at >= want.since:
            settled[want] = None
        elif unknown_at is not None and unknown_at >= now - UNKNOWN_FOR:
            settled[want] = UNKNOWN_CITY
    return settled


def settle(connection: Connection, now: datetime, outcomes: Mapping[Want, Outcome]) -> list[str]:
    """Store readings for cities that have none yet, and count them: each city once, however often this is called.

    Answers the collections that are done with it.

    Raises:
        LookupError: one is to be collected whose weather is not stored.
    """
    if not outcomes:
        return []
    remaining, missing = _missing(connection, outcomes)
    if not missing:
        return []
    collected: dict[str, list[int]] = {}
    failed: list[dict[str, Any]] = []
    for (collection, city), want in sorted(missing.items()):
        if (reason := outcomes[want]) is None:
            collected.setdefault(collection, []).append(city)
        else:
            failed.append({"collection_id": collection, "city_id": city, "status": "failed", "reason": reason[:200]})
    if failed:
        connection.execute(_FAIL, failed)
    tally = Counter(name for name, _ in missing)
    done = [name for name, number in sorted(tally.items()) if number == remaining[name]]
    copied = send(
        connection,
        [
            *((_COLLECT, {"collection": name, "cities": cities}) for name, cities in collected.items()),
            *_counting(now, tally, Counter(row["collection_id"] for row in failed), done),
            *_counting_batches(now, Counter(want.ref for want in missing.values())),
        ],
    )
    for cities, answer in zip(collected.values(), copied, strict=False):
        if answer.count != len(cities):
            raise LookupError(f"not all of these cities have weather: {cities}")
    return done


def _missing(
    connection: Connection, outcomes: Mapping[Want, Outcome]
) -> tuple[Mapping[str, int], Mapping[tuple[str, int], Want]]:
    """Lock the open ones of these collections, in their order; how many cities each still lacks, and which of these."""
    wants = {(want.ref.collection_id, want.city_id): want for want in outcomes}
    locking = (_LOCK, {"collections": sorted({name for name, _ in wants})})
    open_ones, settled = send(connection, [locking, _settled(list(wants))])
    remaining = {row[0]: row[1] for row in open_ones.rows}
    present = {(row[0], row[1]) for row in settled.rows}
    return remaining, {key: want for key, want in wants.items() if key[0] in remaining and key not in present}


def _counting(
    now: datetime, settled: Mapping[str, int], failed: Mapping[str, int], done: Many[str]
) -> Iterator[Statement]:
    for collection, number in sorted(settled.items()):
        less = failed.get(collection, 0)
        changes = {"more_collected": number - less, "more_failed": less, "progress": now}
        yield _COUNT, {"key": collection, **changes, "finished": now if collection in done else None}


def _counting_batches(now: datetime, tally: Mapping[BatchRef, int]) -> Iterator[Statement]:
    equal: dict[tuple[str, int], list[int]] = {}
    for ref, more in sorted(tally.items()):
        equal.setdefault((ref.collection_id, more), []).append(ref.batch)
    for (collection, more), numbers in equal.items():
        yield _COUNT_BATCHES, {"collection": collection, "numbers": numbers, "more": more, "now": now}


def count_attempt(connection: Connection, ref: BatchRef) -> int:
    """Remember that a batch met an unexpected error; answer how often by now (0: no such batch)."""
    this = (Batch.collection_id == ref.collection_id, Batch.batch == ref.batch)
    connection.execute(update(Batch).where(*this).values(attempts=Batch.attempts + 1))
    return connection.scalar(select(Batch.attempts).where(*this)) or 0
