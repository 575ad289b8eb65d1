"""Enqueueing: the unsettled cities of delivered batches join the queue, those that need no call become readings.

A wanted city of a delivered batch is in `queue` or in `readings`, never in both: whoever moves it holds the lock of its
collection.
"""

import json
from collections.abc import Collection as Many
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, bindparam, insert, or_, select, union_all, update

from raingauge.model import BatchKey
from raingauge.quota.fairness import newcomers_in, turns, unknown_since
from raingauge.storage.counters import Outcomes, Wanted, lock_collections
from raingauge.storage.models import Batch, Collection, QueuedCity, Reading
from raingauge.storage.retention import outdated
from raingauge.storage.settling import Settled, outcomes_without_call, store

ROWS_PER_STATEMENT: Final = 1000

_AMONG: Final = (
    Batch.collection_id.in_(bindparam("names", expanding=True)),
    Batch.batch.in_(bindparam("numbers", expanding=True)),
)
_BATCHES: Final = select(Batch.__table__).where(*_AMONG)
_IS_OVER: Final = or_(Batch.settled_at.is_not(None), Collection.finished_at.is_not(None)).label("is_over")
_STATES: Final = (
    select(Batch.collection_id, Batch.batch, _IS_OVER)
    .join(Collection, Collection.id == Batch.collection_id)
    .where(*_AMONG)
)
_KNOWN: Final = union_all(
    *(
        select(table.collection_id, table.city_id).where(
            table.collection_id.in_(bindparam("names", expanding=True)),
            table.city_id.in_(bindparam("cities", expanding=True)),
        )
        for table in (QueuedCity, Reading)
    )
)
_COUNT_ENQUEUED: Final = (
    update(Collection)
    .where(Collection.id == bindparam("name"))
    .values(last_turn=bindparam("turn"), enqueued=Collection.enqueued + bindparam("number"))
)


def enqueue(  # noqa: PLR0913
    connection: Connection,
    now: datetime,
    account: str,
    gate_turn: int,
    keys: Many[BatchKey],
    failing: str | None = None,
    *,
    requested_at: Mapping[BatchKey, datetime] | None = None,
    streams: bool = False,
) -> Settled:
    """Put the unsettled cities of batches into the queue; settle those that need no call. Doing it twice does no harm.

    `failing`: fail them all for that reason instead. `requested_at`: of each batch, its collection's, as its message
    says: nothing is done for one whose collection is deleted, even if a later one has its id. `streams`: readings are
    published on the streams, too.
    """
    result = Settled()
    collections = lock_collections(connection, {key.collection_id for key in keys})
    result.outdated = outdated(connection, collections, requested_at or {})
    keys = set(keys) - result.outdated
    batches = _batches(connection, keys)
    result.unknown = keys - batches.keys()
    work = {}
    for key, batch in batches.items():
        collection = collections[key.collection_id]
        if batch.settled_at is not None or collection.finished_at is not None:
            result.batches[key] = collection.requested_at
        else:
            work[key] = json.loads(batch.city_ids)
    known = _already_known(connection, work)
    rows = _new_rows(work, known, collections, account, gate_turn)
    if not rows:
        return result
    wanted = [_wanted(row, batches) for row in rows]
    not_known_since = {name: unknown_since(row.requested_at, row.max_age_s) for name, row in collections.items()}
    if failing:
        outcomes: Outcomes = dict.fromkeys(wanted, failing)
    else:
        outcomes = outcomes_without_call(connection, wanted, not_known_since)
    _insert_rows(connection, rows)
    _count_enqueued(connection, rows, collections)
    store(connection, now, collections, outcomes, result, streams=streams)
    return result


def _batches(connection: Connection, keys: Many[BatchKey]) -> dict[BatchKey, Any]:
    rows = {BatchKey(row.collection_id, row.batch): row for row in connection.execute(_BATCHES, _names_and(keys))}
    return {key: rows[key] for key in keys if key in rows}


def _names_and(keys: Many[BatchKey]) -> dict[str, list[Any]]:
    """Collections and numbers of batches: the statements that take them find a few others, too."""
    return {"names": sorted({key.collection_id for key in keys}), "numbers": sorted({key.batch for key in keys})}


def _already_known(connection: Connection, work: Mapping[BatchKey, Sequence[int]]) -> set[tuple[str, int]]:
    """Those of these cities that are in the queue, or have a reading."""
    if not work:
        return set()
    names = sorted({key.collection_id for key in work})
    cities = sorted({city_id for city_ids in work.values() for city_id in city_ids})
    known = connection.execute(_KNOWN, {"names": names, "cities": cities})
    return {(row.collection_id, row.city_id) for row in known}


def _new_rows(
    work: Mapping[BatchKey, Sequence[int]],
    known: set[tuple[str, int]],
    collections: Mapping[str, Any],
    account: str,
    gate_turn: int,
) -> list[dict[str, Any]]:
    """The rows to insert, each with its turn, in the order of collections and batches."""
    rows: list[dict[str, Any]] = []
    last_turn = {name: row.last_turn for name, row in collections.items()}
    for key in sorted(work):
        name = key.collection_id
        first_few = newcomers_in(key.batch, len(work[key]), collections[name].total)
        new = [(city_id, place < first_few) for place, city_id in enumerate(work[key]) if (name, city_id) not in known]
        newcomers = sum(newcomer for _, newcomer in new)
        places, last_turn[name] = turns(gate_turn, last_turn[name], newcomers, len(new) - newcomers)
        collection = collections[name]
        since = collection.requested_at - timedelta(seconds=collection.max_age_s)
        rows += [
            {
                "collection_id": name,
                "city_id": city_id,
                "batch": key.batch,
                "account": account,
                "since": since,
                "newcomer": place.newcomer,
                "turn": place.number,
                "attempts": 0,
            }
            for (city_id, _), place in zip(new, places, strict=True)
        ]
    return rows


def _insert_rows(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    ordered = sorted(rows, key=lambda row: (row["collection_id"], row["city_id"]))
    for start in range(0, len(ordered), ROWS_PER_STATEMENT):
        connection.execute(insert(QueuedCity), ordered[start : start + ROWS_PER_STATEMENT])


def _count_enqueued(connection: Connection, rows: Sequence[Mapping[str, Any]], collections: Mapping[str, Any]) -> None:
    """Record each collection's last turn, and how many of its cities were enqueued."""
    turns_of: dict[str, list[int]] = {}
    for row in rows:
        turns_of.setdefault(row["collection_id"], []).append(0 if row["newcomer"] else row["turn"])
    for name, given in sorted(turns_of.items()):
        turn = max(collections[name].last_turn, *given)
        connection.execute(_COUNT_ENQUEUED, {"name": name, "turn": turn, "number": len(given)})


def _wanted(row: Mapping[str, Any], batches: Mapping[BatchKey, Any]) -> Wanted:
    batch = batches[BatchKey(row["collection_id"], row["batch"])]
    own = {name: row[name] for name in ("collection_id", "city_id", "batch", "since", "attempts")}
    return Wanted(**own, size=batch.size, settled=batch.settled)


def settled_batches(connection: Connection, requested_at: Mapping[BatchKey, datetime]) -> set[BatchKey]:
    """Those of these batches that need no further work. `requested_at`: as in `enqueue`."""
    found = connection.execute(_STATES, _names_and(requested_at.keys()))
    is_over = {BatchKey(row.collection_id, row.batch): row.is_over for row in found}
    missing = {key: moment for key, moment in requested_at.items() if key not in is_over}
    return {key for key in requested_at if is_over.get(key)} | outdated(connection, {}, missing)


def unknown_batches(connection: Connection, requested_at: Mapping[BatchKey, datetime]) -> set[BatchKey]:
    """Those of these batches that do not exist and were not deleted: a failover lost their collection."""
    there = _batches(connection, requested_at.keys()).keys()
    missing = {key: moment for key, moment in requested_at.items() if key not in there}
    return missing.keys() - outdated(connection, {}, missing)


def count_attempt(connection: Connection, key: BatchKey) -> int:
    """Record that a batch met an unexpected error; return how often it did (0: there is no such batch)."""
    this = (Batch.collection_id == key.collection_id, Batch.batch == key.batch)
    connection.execute(update(Batch).where(*this).values(attempts=Batch.attempts + 1))
    return connection.scalar(select(Batch.attempts).where(*this)) or 0
