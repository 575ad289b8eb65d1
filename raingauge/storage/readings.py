"""Settling: the one place where readings are written. It is idempotent by key, in one transaction, in a fixed order."""

from collections import Counter
from collections.abc import Collection as Many
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, String, bindparam, case, insert, literal_column, select, update

from raingauge.storage.batches import BatchRef
from raingauge.storage.message import Statement, send
from raingauge.storage.models import WEATHER_COLUMNS, Batch, City, Collection, Reading, UtcDateTime
from raingauge.storage.wanted import Outcome, Want, settled_among

# Built once: these run for every call of the provider.
_COLLECTIONS: Final[BindParameter[Any]] = bindparam("collections", expanding=True)
_LOCK: Final = (
    select(Collection.id, Collection.total - Collection.collected - Collection.failed)
    .where(Collection.id.in_(_COLLECTIONS), Collection.finished_at.is_(None))
    .order_by(Collection.id)
    .with_for_update()
)
_COLLECT: Final = (
    insert(Reading)
    .from_select(
        ["collection_id", "city_id", "status", *WEATHER_COLUMNS],
        select(
            bindparam("collection", type_=String),
            City.id,
            literal_column("'collected'"),
            *(getattr(City, name) for name in WEATHER_COLUMNS),
        ).where(City.id.in_(bindparam("cities", expanding=True))),
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
    open_ones, settled = send(connection, [locking, settled_among(list(wants))])
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
