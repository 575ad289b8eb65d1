"""Batches on their way into the hand-off: leases, publication, and publication again. Only the relay uses it."""

import json
from collections.abc import Collection as Many
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, exists, func, or_, select, tuple_, update

from raingauge.contracts import BATCH_SIZE, BatchMessage
from raingauge.storage.models import Batch, Collection


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
    won by one UPDATE that looks at them again, so that two relays never lease the same batch.
    """
    due = _due(connection, now, outstanding, most)
    if not due:
        return []
    free = and_(Batch.published_at.is_(None), Batch.settled_at.is_(None), _unleased(now))
    connection.execute(update(Batch).where(_is_any(due), free).values(leased_by=lease.holder, lease_until=lease.until))
    won = and_(_is_any(due), Batch.leased_by == lease.holder, Batch.lease_until == lease.until)
    rows = connection.execute(
        select(Batch.collection_id, Batch.batch, Batch.city_ids, Collection.total, Collection.max_age_s,
               Collection.requested_at)
        .join(Collection, Collection.id == Batch.collection_id)
        .where(won)
        .order_by(Batch.batch, Batch.collection_id)
    )  # fmt: skip
    return [_message(*row) for row in rows]


def _due(connection: Connection, now: datetime, outstanding: int, most: int) -> list[BatchRef]:
    """The next batches of every open collection that has room, in turn over the collections."""
    leased = dict(
        connection.execute(
            select(Batch.collection_id, func.count()).where(Batch.lease_until > now).group_by(Batch.collection_id)
        ).all()
    )
    due: list[BatchRef] = []
    for collection_id, published in _with_unpublished(connection):
        room = outstanding - published - leased.get(collection_id, 0)
        if room > 0:
            due.extend(_next_unpublished(connection, now, collection_id, room))
    return sorted(due, key=lambda ref: ref.batch)[:most]


def _with_unpublished(connection: Connection) -> list[tuple[str, int]]:
    """Open collections with something to publish, and how many of their batches are published and unsettled.

    The counts are bounded by what may be outstanding, so this does not grow with a collection's size.
    """
    of_it = and_(Batch.collection_id == Collection.id, Batch.settled_at.is_(None))
    published = select(func.count()).where(of_it, Batch.published_at.is_not(None)).scalar_subquery()
    rows = connection.execute(
        select(Collection.id, published).where(
            Collection.finished_at.is_(None), exists().where(of_it, Batch.published_at.is_(None))
        )
    )
    return [(row[0], row[1]) for row in rows]


def _next_unpublished(connection: Connection, now: datetime, collection_id: str, most: int) -> list[BatchRef]:
    numbers = connection.scalars(
        select(Batch.batch)
        .where(Batch.collection_id == collection_id, Batch.settled_at.is_(None), Batch.published_at.is_(None))
        .where(_unleased(now))
        .order_by(Batch.batch)
        .limit(most)
    )
    return [BatchRef(collection_id, number) for number in numbers]


def mark_published(connection: Connection, now: datetime, refs: Many[BatchRef], holder: str) -> None:
    """Remember that these are in the hand-off."""
    mine = and_(_is_any(refs), Batch.leased_by == holder)
    connection.execute(update(Batch).where(mine).values(published_at=now, leased_by=None, lease_until=None))


def renew(connection: Connection, refs: Many[BatchRef], lease: Lease) -> None:
    """Keep the leases of batches whose publication is still under way."""
    mine = and_(_is_any(refs), Batch.leased_by == lease.holder)
    connection.execute(update(Batch).where(mine).values(lease_until=lease.until))


def release(connection: Connection, refs: Many[BatchRef], holder: str) -> None:
    """Give leases back: these were not published, or nobody knows."""
    mine = and_(_is_any(refs), Batch.leased_by == holder)
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
    return max(minimum, -(-int(four_seconds) // BATCH_SIZE))


def lease_end(now: datetime, seconds: float) -> datetime:
    """When a lease of that length ends."""
    return now + timedelta(seconds=seconds)


def _unleased(now: datetime) -> ColumnElement[bool]:
    return or_(Batch.lease_until.is_(None), Batch.lease_until <= now)


def _is_any(refs: Many[BatchRef]) -> ColumnElement[bool]:
    return tuple_(Batch.collection_id, Batch.batch).in_(list(refs))


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
