"""Batches on their way into the hand-off: leases, publication, and publication again. Only the relay uses it."""

import json
import math
from collections.abc import Collection as Many
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, update

from raingauge.contracts import BATCH_SIZE, BatchMessage
from raingauge.storage.collections import open_remainders
from raingauge.storage.models import Batch, Collection

BATCHES_AT_ONCE: Final = 50
"""In one statement: the time that MariaDB takes to plan it grows with their number's square."""
COLLECTIONS_AT_ONCE: Final = 1000
"""In one statement: SQLite takes 32,766 values."""


class BatchRef(NamedTuple):
    """A batch by its key."""

    collection_id: str
    batch: int


@dataclass(frozen=True, slots=True)
class Lease:
    """Who publishes, and until when nobody else does."""

    holder: str
    until: datetime


def lease(connection: Connection, now: datetime, lease: Lease, outstanding: int, most: int) -> list[BatchMessage]:
    """Take up to `most` batches that are due for publication; answer their messages.

    Of each open collection at most `outstanding` batches are published (or leased) and unsettled at once. The rows are
    won by an UPDATE that looks at them again, so that two relays never lease the same batch.
    """
    free = and_(Batch.published_at.is_(None), Batch.settled_at.is_(None), _unleased(now))
    won = and_(Batch.leased_by == lease.holder, Batch.lease_until == lease.until)
    messages: list[BatchMessage] = []
    for these in parts(_due(connection, now, outstanding, most)):
        connection.execute(update(Batch).where(these, free).values(leased_by=lease.holder, lease_until=lease.until))
        rows = connection.execute(
            select(Batch.collection_id, Batch.batch, Batch.city_ids, Collection.total, Collection.max_age_s,
                   Collection.requested_at)
            .join(Collection, Collection.id == Batch.collection_id)
            .where(these, won)
        )  # fmt: skip
        messages += [_message(*row) for row in rows]
    return sorted(messages, key=lambda message: (message.batch, message.collection_id))


def _due(connection: Connection, now: datetime, outstanding: int, most: int) -> list[BatchRef]:
    """The next batches of every open collection that has room, in turn over the collections."""
    next_ones = {
        collection_id: _next_unpublished(connection, now, collection_id, outstanding)
        for collection_id, published in _with_unpublished(connection)
        if published < outstanding
    }
    # Counted after the choice: what another relay has taken meanwhile is either not chosen or counted here.
    taken = {name: count for name, (count, _) in _published(connection, list(next_ones)).items()}
    for collection_id in connection.scalars(select(Batch.collection_id).where(Batch.lease_until > now)):
        taken[collection_id] = taken.get(collection_id, 0) + 1
    due = [ref for name, refs in next_ones.items() for ref in refs[: max(0, outstanding - taken.get(name, 0))]]
    return sorted(due, key=lambda ref: ref.batch)[:most]


def _with_unpublished(connection: Connection) -> list[tuple[str, int]]:
    """Open collections with something to publish, and how many of their batches are published and unsettled."""
    remainders = open_remainders(connection)
    published = _published(connection, [collection_id for collection_id, _ in remainders])
    counts = ((collection_id, cities, *published.get(collection_id, (0, 0))) for collection_id, cities in remainders)
    return [(collection_id, batches) for collection_id, cities, batches, covered in counts if cities > covered]


def _published(connection: Connection, collection_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
    """How many batches of these collections are published and unsettled, and the cities left in them.

    The ids are given as values, not by a join or EXISTS: only so does MariaDB read no more than these few rows.
    """
    left = func.sum(Batch.size - Batch.settled)
    counts: dict[str, tuple[int, int]] = {}
    for start in range(0, len(collection_ids), COLLECTIONS_AT_ONCE):
        some = collection_ids[start : start + COLLECTIONS_AT_ONCE]
        rows = connection.execute(
            select(Batch.collection_id, func.count(), left)
            .where(Batch.collection_id.in_(some), Batch.settled_at.is_(None), Batch.published_at.is_not(None))
            .group_by(Batch.collection_id)
        )
        counts |= {row[0]: (row[1], int(row[2])) for row in rows}
    return counts


def _next_unpublished(connection: Connection, now: datetime, collection_id: str, most: int) -> list[BatchRef]:
    # PostgreSQL takes the index's order only if its NULL columns are named, MariaDB only if they are not.
    nulls = (Batch.settled_at, Batch.published_at) if connection.dialect.name == "postgresql" else ()
    statement = (
        select(Batch.batch)
        .where(Batch.collection_id == collection_id, Batch.settled_at.is_(None), Batch.published_at.is_(None))
        .where(_unleased(now))
        .order_by(*nulls, Batch.batch)
        .limit(most)
    )
    for dialect in ("mysql", "mariadb"):
        statement = statement.with_hint(Batch, "FORCE INDEX (ix_batches_open)", dialect)
    return [BatchRef(collection_id, number) for number in connection.scalars(statement)]


def mark_published(connection: Connection, now: datetime, refs: Many[BatchRef], holder: str) -> None:
    """Remember that these are in the hand-off."""
    for these in parts(refs):
        mine = and_(these, Batch.leased_by == holder)
        connection.execute(update(Batch).where(mine).values(published_at=now, leased_by=None, lease_until=None))


def renew(connection: Connection, refs: Many[BatchRef], lease: Lease) -> None:
    """Keep the leases of batches whose publication is still under way."""
    for these in parts(refs):
        mine = and_(these, Batch.leased_by == lease.holder)
        connection.execute(update(Batch).where(mine).values(lease_until=lease.until))


def release(connection: Connection, refs: Many[BatchRef], holder: str) -> None:
    """Give leases back: these were not published, or nobody knows."""
    for these in parts(refs):
        mine = and_(these, Batch.leased_by == holder)
        connection.execute(update(Batch).where(mine).values(leased_by=None, lease_until=None))


def forget_publications(connection: Connection) -> None:
    """Have every unsettled batch published again: the in-process hand-off starts empty."""
    connection.execute(
        update(Batch).where(Batch.settled_at.is_(None)).values(published_at=None, leased_by=None, lease_until=None)
    )


def republish_stalled(connection: Connection, stalled_since: datetime) -> int:
    """Have the unsettled batches of collections without progress since then published again; answer how many."""
    progress = func.coalesce(Collection.last_progress_at, Collection.requested_at)
    stalled = connection.scalars(
        select(Collection.id).where(Collection.finished_at.is_(None), progress < stalled_since)
    ).all()
    if not stalled:
        return 0
    lost = and_(Batch.collection_id.in_(stalled), Batch.settled_at.is_(None), Batch.published_at < stalled_since)
    return connection.execute(update(Batch).where(lost).values(published_at=None)).rowcount


def outstanding_limit(minimum: int, cities_per_window: int, window_s: float) -> int:
    """How many batches of one collection may stand in the hand-off: `minimum`, or four seconds of quota if more."""
    four_seconds = 4 * cities_per_window / window_s
    return max(minimum, math.ceil(four_seconds / BATCH_SIZE))


def _unleased(now: datetime) -> ColumnElement[bool]:
    return or_(Batch.lease_until.is_(None), Batch.lease_until <= now)


def parts(refs: Many[BatchRef]) -> Iterator[ColumnElement[bool]]:
    """Conditions on `Batch` that take a part of these each. Not by pairs: for them SQLite uses no index."""
    ordered = sorted(refs)
    for start in range(0, len(ordered), BATCHES_AT_ONCE):
        numbers: dict[str, list[int]] = {}
        for collection_id, number in ordered[start : start + BATCHES_AT_ONCE]:
            numbers.setdefault(collection_id, []).append(number)
        yield or_(*(and_(Batch.collection_id == name, Batch.batch.in_(some)) for name, some in numbers.items()))


def _message(
    collection_id: str, batch: int, city_ids: str, total: int, max_age_s: int, requested_at: datetime
) -> BatchMessage:
    return BatchMessage(
        collection_id=collection_id,
        batch=batch,
        batches=-(-total // BATCH_SIZE),
        total=total,
        max_age_s=max_age_s,
        requested_at=requested_at,
        city_ids=tuple(json.loads(city_ids)),
    )
