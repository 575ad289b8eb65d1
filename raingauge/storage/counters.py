"""The counters of collections and batches: how many cities are settled, and which batches the relay may publish.

They are changed in the transaction that settles cities, under the lock of the collection; a producer's start may
release more batches. Whoever locks collections locks them in the order of their ids.
"""

from collections import Counter
from collections.abc import Collection as Many
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, bindparam, or_, select, update

from raingauge.model import BatchKey, batches_of, trace_id
from raingauge.storage import events
from raingauge.storage.events import NewEvent
from raingauge.storage.models import Batch, Collection

_LOCK_COLLECTIONS: Final = (
    select(Collection.__table__)
    .where(Collection.id.in_(bindparam("ids", expanding=True)))
    .order_by(Collection.id)
    .with_for_update()
)
_COUNT_COLLECTIONS: Final = (
    update(Collection)
    .where(Collection.id.in_(bindparam("names", expanding=True)))
    .values(
        collected=Collection.collected + bindparam("more"),
        failed=Collection.failed + bindparam("more_failed"),
        released=Collection.released + bindparam("more_released"),
        last_progress_at=bindparam("now"),
    )
)
_FINISH_COLLECTIONS: Final = _COUNT_COLLECTIONS.values(finished_at=bindparam("now"))
_BATCH: Final = Batch.__table__.c
_COUNT_BATCHES: Final = update(Batch).values(settled=Batch.settled + bindparam("more"))
_RELEASE_BATCHES: Final = update(Batch).values(publish_order=Batch.batch)
_FINISH_BATCHES: Final = _COUNT_BATCHES.values(settled_at=bindparam("now"))


class Wanted(NamedTuple):
    """A row of the queue and the counters of its batch, as settling needs them."""

    collection_id: str
    city_id: int
    batch: int
    since: datetime
    attempts: int
    size: int
    """Cities of its batch."""
    settled: int
    """Those of them that are settled."""

    @property
    def key(self) -> BatchKey:
        """Its batch."""
        return BatchKey(self.collection_id, self.batch)


Outcomes = Mapping[Wanted, str | None]
"""Rows that are to be settled. None: collected, with the latest observation of the city; else why they fail."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A collection whose last city was settled."""

    collection_id: str
    collected: int
    failed: int
    seconds: float
    trace_id: str | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """For the log."""
        return asdict(self) | {"seconds": round(self.seconds, 3)}

    @property
    def event(self) -> NewEvent:
        """The event that reports its end; its user is the collection's id."""
        done = f"collection {self.collection_id} is done: {self.collected} cities collected"
        if self.failed:
            failed = f"{done}, {self.failed} failed"
            return NewEvent("collection.finished_with_failures", self.collection_id, failed)
        return NewEvent("collection.finished", self.collection_id, done)


def lock_collections(connection: Connection, ids: Many[str]) -> dict[str, Any]:
    """Lock these collections, in the order of their ids; return their rows."""
    return {row.id: row for row in connection.execute(_LOCK_COLLECTIONS, {"ids": sorted(ids)})} if ids else {}


def batches_are(keys: Many[BatchKey]) -> ColumnElement[bool]:
    """A condition that holds for these batches."""
    return exactly(_BATCH.collection_id, _BATCH.batch, keys)


def exactly(
    one: ColumnElement[Any], other: ColumnElement[Any], pairs: Iterable[tuple[str, int]]
) -> ColumnElement[bool]:
    """A condition that holds for these pairs of values.

    It is made of `one IN … AND other IN …`: SQLite uses no index for `(one, other) IN …`.
    """
    others: dict[str, list[int]] = {}
    for first, second in sorted(pairs):
        others.setdefault(first, []).append(second)
    alike: dict[tuple[int, ...], list[str]] = {}
    for first, some in others.items():
        alike.setdefault(tuple(some), []).append(first)
    return or_(*(and_(one.in_(firsts), other.in_(seconds)) for seconds, firsts in alike.items()))


def count(
    connection: Connection, now: datetime, collections: Mapping[str, Any], settled: Outcomes
) -> tuple[set[BatchKey], list[Finished]]:
    """Count rows that become readings; return the batches and the collections of which all is settled now.

    Each batch that is settled releases the next one of its collection, and an event reports each collection's end.
    """
    batches = _count_batches(connection, now, settled)
    released = _release_next(connection, collections, Counter(key.collection_id for key in batches))
    return batches, _count_collections(connection, now, collections, settled, released)


def release(connection: Connection, keys: Many[BatchKey]) -> None:
    """Let the relay publish these batches."""
    if keys:
        connection.execute(_RELEASE_BATCHES.where(batches_are(keys)))


def _release_next(connection: Connection, collections: Mapping[str, Any], settled: Mapping[str, int]) -> dict[str, int]:
    """Release as many further batches of each collection as were settled; return how many of each."""
    next_ones: dict[str, range] = {}
    for name, number in settled.items():
        first, batches = collections[name].released, batches_of(collections[name].total)
        next_ones[name] = range(first, min(first + number, batches))
    release(connection, [BatchKey(name, batch) for name, some in next_ones.items() for batch in some])
    return {name: len(some) for name, some in next_ones.items()}


def _count_collections(
    connection: Connection,
    now: datetime,
    collections: Mapping[str, Any],
    settled: Outcomes,
    released: Mapping[str, int],
) -> list[Finished]:
    """Count what was settled, equal numbers with one statement; return the collections that are done."""
    alike: dict[tuple[int, int, int, bool], list[str]] = {}
    failed = Counter(row.collection_id for row, reason in settled.items() if reason is not None)
    finished: list[Finished] = []
    for name, number in sorted(Counter(row.collection_id for row in settled).items()):
        before = collections[name]
        done = before.collected + before.failed + number == before.total
        alike.setdefault((number - failed[name], failed[name], released.get(name, 0), done), []).append(name)
        if done:
            collected, seconds = before.collected + number - failed[name], (now - before.requested_at).total_seconds()
            trace = trace_id(before.traceparent)
            finished.append(Finished(name, collected, before.failed + failed[name], seconds, trace))
    for (collected, failures, following, done), names in alike.items():
        counted = {"names": names, "more": collected, "more_failed": failures, "more_released": following, "now": now}
        connection.execute(_FINISH_COLLECTIONS if done else _COUNT_COLLECTIONS, counted)
    if finished:
        events.record(connection, now, [one.event for one in finished])
    return finished


def _count_batches(connection: Connection, now: datetime, settled: Many[Wanted]) -> set[BatchKey]:
    """Count what was settled of batches; return those of which all is settled now."""
    before = {row.key: row for row in settled}
    alike: dict[tuple[int, bool], list[BatchKey]] = {}
    whole: set[BatchKey] = set()
    for key, number in Counter(row.key for row in settled).items():
        done = before[key].settled + number == before[key].size
        alike.setdefault((number, done), []).append(key)
        if done:
            whole.add(key)
    for (number, done), keys in alike.items():
        counting = _FINISH_BATCHES if done else _COUNT_BATCHES
        connection.execute(counting.where(batches_are(keys)), {"more": number, "now": now})
    return whole
