"""Deleting collections and pruning what is old: marked at once, removed in steps that are short and bounded.

A step is one transaction and removes at most `STEP_ROWS` rows of a table, found by an index. Nothing here removes open
collections, charges, the latest observations of cities, or an event that is not processed. When to take which step is
the producer's decision.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Integer, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from raingauge.database.causes import is_duplicate
from raingauge.database.upsert import upsert
from raingauge.errors import Overtaken, Permanent
from raingauge.model import EPOCH, BatchKey
from raingauge.storage.counters import lock_collections
from raingauge.storage.models import (
    REMOVING_ALL,
    REMOVING_READINGS,
    Batch,
    Collection,
    Deletion,
    Event,
    Lease,
    QueuedCity,
    Reading,
    WebhookDelivery,
)
from raingauge.storage.queue import keep_claims

STEP_ROWS: Final = 1000
MARKED_AT_ONCE: Final = 100
"""Collections."""
MAX_BLOCKED: Final = 1000
RETENTION: Final = "retention"
"""The lease of the one process that removes."""
OF_COLLECTIONS: Final = ("collection.finished", "collection.finished_with_failures", "collection.cancelled")
"""Events whose user is a collection."""


class StillOpen(Permanent):
    """An open collection is not deleted: cancel it first."""


class Cursor(NamedTuple):
    """The last reading that was removed: the next ones are read from there, not from what is still being purged."""

    collection_id: str
    city_id: int


@dataclass(frozen=True, slots=True)
class Removed:
    """What a step removed."""

    rows: Counter[str] = field(default_factory=Counter)
    """By table."""
    after: Cursor | None = None
    has_more: bool = False


def take_lease(connection: Connection, now: datetime, holder: str, until: datetime) -> bool:
    """Take or keep the lease on removing; False: another process has it.

    Raises:
        Overtaken: another process took it first.
    """
    free = (Lease.id == RETENTION, or_(Lease.holder == holder, Lease.until < now))
    if connection.execute(update(Lease).where(*free).values(holder=holder, until=until)).rowcount:
        return True
    if connection.scalar(select(Lease.id).where(Lease.id == RETENTION)) is not None:
        return False
    try:
        connection.execute(insert(Lease).values(id=RETENTION, holder=holder, until=until))
    except IntegrityError as error:
        if is_duplicate(error):
            raise Overtaken from error
        raise
    return True


# -- marking -----------------------------------------------------------------------------------------------------------


def delete_collection(connection: Connection, now: datetime, collection_id: str) -> Removed | None:
    """Hide a collection from clients, and remove its first rows: all of them if it is small.

    None: there is none.

    Raises:
        StillOpen: it is open.
    """
    row = lock_collections(connection, [collection_id]).get(collection_id)
    if row is None or row.removing == REMOVING_ALL:
        return None
    if row.finished_at is None:
        raise StillOpen(f"the collection {collection_id} is open: cancel it first")
    _mark_all(connection, now, [row])
    return _remove_rows(connection, collection_id, REMOVING_ALL, None)


def mark_collections(connection: Connection, now: datetime, before: datetime) -> int:
    """Mark collections that finished before this moment for removal with all their rows; return how many."""
    old = (Collection.finished_at < before, Collection.removing.is_distinct_from(REMOVING_ALL))
    found = lock_collections(connection, [row.id for row in _oldest(connection, before, *old)]).values()
    # One may be deleted meanwhile, and a new one have its id.
    still = [row for row in found if row.finished_at and row.finished_at < before and row.removing != REMOVING_ALL]
    _mark_all(connection, now, still)
    return len(still)


def mark_readings(connection: Connection, now: datetime, before: datetime) -> int:
    """Mark collections that finished before this moment for removal of their readings; return how many."""
    unmarked = (Collection.readings_pruned_at.is_(None), Collection.removing.is_(None))
    old = (Collection.finished_at < before, *unmarked)
    found = _oldest(connection, before, *old)
    marks = {"readings_pruned_at": now, "removing": REMOVING_READINGS}
    these = Collection.id.in_(sorted(row.id for row in found))
    return connection.execute(update(Collection).where(these, *old).values(marks)).rowcount if found else 0


def _oldest(connection: Connection, before: datetime, *conditions: ColumnElement[bool]) -> Sequence[Any]:
    """Those that finished first, except those of which an event is not processed: a consumer may still export them."""
    unprocessed = (Event.publish_at >= EPOCH, Event.type.in_(OF_COLLECTIONS), Event.created_at < before)
    columns = (Collection.id, Collection.requested_at)
    found = connection.execute(
        select(*columns).where(*conditions).order_by(Collection.finished_at).limit(MARKED_AT_ONCE)
    ).all()
    if not found:
        return found
    blocked = {*connection.scalars(select(Event.user_id).where(*unprocessed).limit(MAX_BLOCKED + 1))}
    if len(blocked) > MAX_BLOCKED:
        return ()
    if not blocked.isdisjoint(row.id for row in found):
        others = Collection.id.not_in(sorted(blocked))
        found = connection.execute(
            select(*columns).where(*conditions, others).order_by(Collection.finished_at).limit(MARKED_AT_ONCE)
        ).all()
    return found


def _mark_all(connection: Connection, now: datetime, rows: Sequence[Any]) -> None:
    """Hide collections from clients; from now on their messages are recognized."""
    if rows:
        ordered = sorted(rows, key=lambda row: row.id)
        ids = [row.id for row in ordered]
        connection.execute(update(Collection).where(Collection.id.in_(ids)).values(removing=REMOVING_ALL))
        deletions = [{"id": row.id, "requested_at": row.requested_at, "deleted_at": now} for row in ordered]
        upsert(connection, Deletion, deletions, changed=("requested_at", "deleted_at"))


def deleted_since(connection: Connection, since: datetime, limit: int) -> list[tuple[str, datetime]]:
    """Id and `requested_at` of up to `limit` collections that were deleted after this moment, the last first."""
    found = select(Deletion.id, Deletion.requested_at).where(Deletion.deleted_at > since)
    rows = connection.execute(found.order_by(Deletion.deleted_at.desc()).limit(limit))
    return [(row.id, row.requested_at) for row in rows]


def outdated(
    connection: Connection, collections: Mapping[str, Any], requested_at: Mapping[BatchKey, datetime]
) -> set[BatchKey]:
    """Those of these batches whose collection is deleted. A later one may have its id.

    `collections`: the rows of those that exist; `requested_at`: of each batch, its collection's, as its message says.
    """
    missing = sorted({key.collection_id for key in requested_at} - collections.keys())
    found = connection.execute(select(Deletion.id, Deletion.requested_at).where(Deletion.id.in_(missing)))
    deleted = {row.id: row.requested_at for row in found} if missing else {}
    result = set()
    for key, moment in requested_at.items():
        row = collections.get(key.collection_id)
        if row is None:
            is_deleted = key.collection_id in deleted and moment <= deleted[key.collection_id]
        else:
            is_deleted = moment < row.requested_at or row.removing == REMOVING_ALL
        if is_deleted:
            result.add(key)
    return result


# -- removing ----------------------------------------------------------------------------------------------------------


def remove_some(connection: Connection, after: Cursor | None) -> Removed:
    """Remove rows of one marked collection, a deleted one first, and the mark or the collection when none is left."""
    marked = select(Collection.id, Collection.removing).where(Collection.removing > 0)
    found = connection.execute(marked.order_by(Collection.removing.desc(), Collection.id).limit(1)).one_or_none()
    if found is None:
        return Removed()
    row = lock_collections(connection, [found.id]).get(found.id)
    if row is None or row.removing is None:  # it was deleted meanwhile, and a new one may have its id
        return Removed(has_more=True)
    return _remove_rows(connection, row.id, row.removing, after)


def _remove_rows(connection: Connection, collection_id: str, removing: int, after: Cursor | None) -> Removed:
    begin = after.city_id if after is not None and after.collection_id == collection_id else 0
    removed: Counter[str] = Counter()
    last = _remove_range(connection, Reading, Reading.city_id, collection_id, begin, removed)
    if last is not None:
        return Removed(removed, Cursor(collection_id, last), has_more=True)
    this = Collection.id == collection_id
    if removing == REMOVING_READINGS:
        still = (this, Collection.removing == REMOVING_READINGS)  # it may be deleted meanwhile
        connection.execute(update(Collection).where(*still).values(removing=None))
        return Removed(removed, has_more=True)
    keep_claims(connection, collection_id)
    for table, number in ((Batch, Batch.batch), (QueuedCity, QueuedCity.city_id)):
        if _remove_range(connection, table, number, collection_id, -1, removed) is not None:
            # The next step looks for readings again: one index lookup.
            return Removed(removed, Cursor(collection_id, 2**31 - 1), has_more=True)
    removed["collections"] += connection.execute(delete(Collection).where(this)).rowcount
    return Removed(removed, has_more=True)


def _remove_range(
    connection: Connection, table: Any, number: Any, collection_id: str, after: int, removed: Counter[str]
) -> int | None:
    """Remove up to `STEP_ROWS` rows of a collection with numbers above `after`; return the last, or None: no more."""
    these = (table.collection_id == collection_id, number > bindparam("after", after, type_=Integer))
    last: int | None = connection.scalar(select(number).where(*these).order_by(number).offset(STEP_ROWS - 1).limit(1))
    until = () if last is None else (number <= last,)
    removed[table.__tablename__] += connection.execute(delete(table).where(*these, *until)).rowcount
    return last


def remove_events(connection: Connection, before: datetime, after: int) -> tuple[Removed, int]:
    """Remove processed events of before this moment, and their deliveries, among the next ones behind number `after`.

    An event that a webhook is still to receive stays; so does the last one: SQLite would give its number again.
    Returns what was removed, and the number to go on after.
    """
    following = select(Event.number, Event.created_at, Event.publish_at).where(Event.number > after)
    rows = connection.execute(following.order_by(Event.number).limit(STEP_ROWS)).all()
    old = [row for row in rows if row.created_at < before]
    last = connection.scalar(select(func.max(Event.number)))
    numbers = {row.number for row in old if row.publish_at is None and row.number != last}
    waiting = select(WebhookDelivery.event_number).where(
        WebhookDelivery.event_number.in_(sorted(numbers)), WebhookDelivery.status == "waiting"
    )
    removed: Counter[str] = Counter()
    if numbers:
        numbers -= {*connection.scalars(waiting)}
        ended = WebhookDelivery.event_number.in_(sorted(numbers))
        removed["webhook_deliveries"] += connection.execute(delete(WebhookDelivery).where(ended)).rowcount
        these = (Event.number.in_(sorted(numbers)), Event.publish_at.is_(None))
        removed["events"] += connection.execute(delete(Event).where(*these)).rowcount
    is_full = len(old) == STEP_ROWS
    return Removed(removed, has_more=is_full), old[-1].number if old else after


def remove_deletions(connection: Connection, before: datetime) -> Removed:
    """Forget deletions that were made before this moment: no message of them is left."""
    ids = connection.scalars(select(Deletion.id).where(Deletion.deleted_at < before).limit(STEP_ROWS)).all()
    removed: Counter[str] = Counter()
    if ids:
        these = (Deletion.id.in_(sorted(ids)), Deletion.deleted_at < before)
        removed["deletions"] += connection.execute(delete(Deletion).where(*these)).rowcount
    return Removed(removed, has_more=len(ids) == STEP_ROWS)
