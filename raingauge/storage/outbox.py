"""The outbox: batches that wait for publication, their leases, and what is published again.

It knows nothing of Kafka: the relay publishes.
"""

import json
import math
from collections import Counter
from collections.abc import Collection as Many
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Integer, Select, and_, bindparam, func, or_, select, update

from raingauge.contracts import BatchMessage
from raingauge.model import BATCH_SIZE, BatchKey
from raingauge.storage.models import Batch, Collection, UtcDateTime

BATCHES_AT_ONCE: Final = 50
"""In one statement: the time that MariaDB takes to plan it grows with their number's square."""
COLLECTIONS_AT_ONCE: Final = 200
"""In one statement: about as many as a relay's round has room for."""

# Built once: these run in every round of the relay.
_NOW: Final = bindparam("now", type_=UtcDateTime)
# The ids are given as values, not by a join or EXISTS: only so does MariaDB read no more than these few rows.
_COUNTED: Final = (
    select(Batch.collection_id, func.count())
    .where(Batch.collection_id.in_(bindparam("collections", expanding=True)))
    .where(Batch.settled_at.is_(None), Batch.published_at.is_not(None))
    .group_by(Batch.collection_id)
)
_LEASED: Final = select(Batch.collection_id).where(Batch.lease_until > _NOW, Batch.leased_by.is_not(None))
_WON: Final = select(
    *(Batch.collection_id, Batch.batch, Batch.city_ids),
    *(Collection.total, Collection.max_age_s, Collection.requested_at),
).join(Collection, Collection.id == Batch.collection_id)


@dataclass(frozen=True, slots=True)
class Lease:
    """Who publishes, and until when nobody else does."""

    holder: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Leased:
    """What a relay has taken."""

    messages: list[BatchMessage]
    """Those of the batches that are to be published."""
    unreadable: list[BatchKey]
    """Corrupt rows. They are left alone for as long as a lease lasts, and take nobody's room."""


def lease(
    connection: Connection,
    now: datetime,
    lease: Lease,
    outstanding: int,
    most: int,
    among: Sequence[str] | None = None,
) -> Leased:
    """Take up to `most` batches that are due for publication; `among`: of these collections only.

    Of each open collection at most `outstanding` batches are published (or leased) and unsettled at once. The rows are
    won by an UPDATE that looks at them again, so that two relays never lease the same batch.
    """
    free = and_(Batch.published_at.is_(None), Batch.settled_at.is_(None), _unleased(now))
    won = and_(Batch.leased_by == lease.holder, Batch.lease_until == lease.until)
    taken = Leased([], [])
    for these in _parts(_due(connection, now, outstanding, most, among)):
        connection.execute(update(Batch).where(these, free).values(leased_by=lease.holder, lease_until=lease.until))
        for row in connection.execute(_WON.where(these, won)):
            try:
                taken.messages.append(_message(row))
            except (ValueError, TypeError, RecursionError):
                taken.unreadable.append(BatchKey(row.collection_id, row.batch))
    for these in _parts(taken.unreadable):
        connection.execute(update(Batch).where(these, won).values(leased_by=None))
    taken.messages.sort(key=lambda message: (message.batch, message.collection_id))
    return taken


def _due(
    connection: Connection, now: datetime, outstanding: int, most: int, among: Sequence[str] | None
) -> list[BatchKey]:
    """The next batches of every open collection that has room, in turn over the collections.

    Only the first of each is known to be free: those behind it are, too, unless they were published in another order.
    """
    due: list[BatchKey] = []
    looked = served = 0
    while served < most:  # those further on come later in turn than any of these
        if not (some := _with_unpublished(connection, now, among, looked)):
            break
        # Counted after the choice: what another relay has taken meanwhile is either not chosen or counted here. Leases
        # first: what is published meanwhile counts twice then, and not never.
        taken = Counter(connection.scalars(_LEASED, {"now": now}))
        published = {row[0]: row[1] for row in connection.execute(_COUNTED, {"collections": [row[1] for row in some]})}
        for first, name, number in some:
            room = min(most, outstanding - taken[name] - published.get(name, 0))
            due += [BatchKey(name, batch) for batch in range(first, min(number, first + room))]
            served += room > 0
        looked += COLLECTIONS_AT_ONCE
    return sorted(due, key=lambda key: key.batch)[:most]


def _with_unpublished(
    connection: Connection, now: datetime, among: Sequence[str] | None, skipped: int
) -> list[tuple[int, str, int]]:
    """Open collections with something to publish: the first of it, the id, how many batches it has; in their order."""
    statement = _unpublished(connection.dialect.name)
    given: dict[str, Any] = {"now": now, "skipped": skipped}
    if among is not None:
        statement = statement.where(Collection.id.in_(bindparam("among", expanding=True)))
        given["among"] = among
    return sorted((row[1], row[0], -(-row[2] // BATCH_SIZE)) for row in connection.execute(statement, given))


@cache
def _unpublished(dialect: str) -> Select[Any]:
    is_free = or_(Batch.lease_until.is_(None), Batch.lease_until <= _NOW)
    # PostgreSQL takes the index's order only if its NULL columns are named, MariaDB only if they are not.
    nulls = (Batch.settled_at, Batch.published_at) if dialect == "postgresql" else ()
    first = (
        select(Batch.batch)
        .where(Batch.collection_id == Collection.id, Batch.settled_at.is_(None), Batch.published_at.is_(None), is_free)
        .order_by(*nulls, Batch.batch)
        .limit(1)
    )
    for name in ("mysql", "mariadb"):
        first = first.with_hint(Batch, "FORCE INDEX (ix_batches_open)", name)
    number = first.correlate(Collection).scalar_subquery()
    return (
        select(Collection.id, number.label("following"), Collection.total)
        .where(Collection.finished_at.is_(None), number.is_not(None))
        .order_by("following", Collection.id)
        .limit(COLLECTIONS_AT_ONCE)
        .offset(bindparam("skipped", type_=Integer))
    )


def mark_published(connection: Connection, now: datetime, keys: Many[BatchKey], holder: str) -> None:
    """Remember that these are in the hand-off."""
    for these in _parts(keys):
        mine = and_(these, Batch.leased_by == holder)
        connection.execute(update(Batch).where(mine).values(published_at=now, leased_by=None, lease_until=None))


def renew(connection: Connection, keys: Many[BatchKey], lease: Lease) -> None:
    """Keep the leases of batches whose publication is still under way."""
    for these in _parts(keys):
        mine = and_(these, Batch.leased_by == lease.holder)
        connection.execute(update(Batch).where(mine).values(lease_until=lease.until))


def release(connection: Connection, keys: Many[BatchKey], holder: str) -> None:
    """Give leases back: these were not published, or nobody knows."""
    for these in _parts(keys):
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
    """Batches of one collection that may be published and unsettled: `minimum`, or fifteen seconds of quota if more."""
    seconds = 15 * cities_per_window / window_s
    return max(minimum, math.ceil(seconds / BATCH_SIZE))


def _unleased(now: datetime) -> ColumnElement[bool]:
    return or_(Batch.lease_until.is_(None), Batch.lease_until <= now)


def _parts(keys: Many[BatchKey]) -> Iterator[ColumnElement[bool]]:
    """Conditions on `Batch` that take a part of these each. Not by pairs: for them SQLite uses no index."""
    ordered = sorted(keys)
    for start in range(0, len(ordered), BATCHES_AT_ONCE):
        numbers: dict[str, list[int]] = {}
        for collection_id, number in ordered[start : start + BATCHES_AT_ONCE]:
            numbers.setdefault(collection_id, []).append(number)
        alike: dict[tuple[int, ...], list[str]] = {}
        for name, some in numbers.items():
            alike.setdefault(tuple(some), []).append(name)
        yield or_(*(and_(Batch.collection_id.in_(names), Batch.batch.in_(some)) for some, names in alike.items()))


def _message(row: Any) -> BatchMessage:
    return BatchMessage(
        collection_id=row.collection_id,
        batch=row.batch,
        batches=-(-row.total // BATCH_SIZE),
        total=row.total,
        max_age_s=row.max_age_s,
        requested_at=row.requested_at,
        city_ids=tuple(json.loads(row.city_ids)),
    )
