"""The outbox: batches that wait for publication, their leases, and what is published again.

A batch waits while it has a `publish_order`, so a round of the relay reads what is due by an index, whatever else is
open. A POST releases the first batches of a collection, and each one that is settled releases the next
(`raingauge.storage.counters`). It knows nothing of Kafka: the relay publishes.

When the database's clock has stepped back, `clip_moments` makes all due that waits for a later moment, events too.
"""

import json
import math
from collections.abc import Collection as Many
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Integer, and_, bindparam, func, or_, select, update

from raingauge.contracts import BatchMessage
from raingauge.database.types import UtcDateTime
from raingauge.model import BATCH_SIZE, EPOCH, BatchKey, batches_of
from raingauge.storage import counters
from raingauge.storage.models import (
    Batch,
    Collection,
    Event,
    OutgoingReading,
    QueuedCity,
    Webhook,
    WebhookDelivery,
)
from raingauge.storage.models import Lease as WorkLease

BATCHES_AT_ONCE: Final = 50
"""In one statement: the time that MariaDB takes to plan it grows with their number's square."""
COLLECTIONS_AT_ONCE: Final = 100
"""In one statement, and checked for lost messages in one round."""

# Built once: these run in every round of the relay.
_NOW: Final = bindparam("now", type_=UtcDateTime)
_WAITING: Final[Mapping[Any, Any]] = {"publish_order": Batch.batch, "leased_by": None, "lease_until": None}
_EXPIRE: Final = update(Batch).where(Batch.lease_until <= _NOW).values(_WAITING)
_DUE: Final = (
    select(Batch.collection_id, Batch.batch)
    .where(Batch.publish_order >= 0)
    .order_by(Batch.publish_order)
    .limit(bindparam("most", type_=Integer))
)
_WON: Final = select(
    *(Batch.collection_id, Batch.batch, Batch.city_ids, Batch.settled_at),
    *(Collection.total, Collection.max_age_s, Collection.requested_at, Collection.finished_at),
    Collection.traceparent,
).join(Collection, Collection.id == Batch.collection_id)
_PROGRESS_AT: Final = func.coalesce(Collection.last_progress_at, Collection.requested_at, type_=UtcDateTime)
_IDLE: Final = (
    select(
        Collection.id,
        _PROGRESS_AT,
        # Not EXISTS: PostgreSQL would hash the whole queue.
        select(QueuedCity.city_id).where(QueuedCity.collection_id == Collection.id).limit(1).scalar_subquery(),
    )
    .where(Collection.finished_at.is_(None), Collection.idle_since < bindparam("idle_since", type_=UtcDateTime))
    .limit(COLLECTIONS_AT_ONCE)
)
_CHECKED: Final = (
    update(Collection)
    .where(Collection.id == bindparam("name"))
    .values(idle_since=bindparam("moment", type_=UtcDateTime))
)


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
    """Corrupt rows. They are left alone for as long as a lease lasts."""


def lease(connection: Connection, now: datetime, lease: Lease, most: int) -> Leased:
    """Take up to `most` batches that wait for publication, the first ones of all collections in front.

    The rows are won by an UPDATE that looks at them again, so that two relays never lease the same batch.
    """
    connection.execute(_EXPIRE, {"now": now})
    due = [BatchKey(*row) for row in connection.execute(_DUE, {"most": most})]
    won = and_(Batch.leased_by == lease.holder, Batch.lease_until == lease.until)
    taken, over = Leased([], []), []
    for these in _parts(due):
        values = {"publish_order": None, "leased_by": lease.holder, "lease_until": lease.until}
        connection.execute(update(Batch).where(these, Batch.publish_order >= 0).values(values))
        for row in connection.execute(_WON.where(these, won)):
            if row.settled_at is not None or row.finished_at is not None:
                over.append(BatchKey(row.collection_id, row.batch))
                continue
            try:
                taken.messages.append(_message(row))
            except (ValueError, TypeError, RecursionError):
                taken.unreadable.append(BatchKey(row.collection_id, row.batch))
    _change(connection, over, {"leased_by": None, "lease_until": None})
    _change(connection, taken.unreadable, {"leased_by": None})
    taken.messages.sort(key=lambda message: (message.batch, message.collection_id))
    return taken


def mark_published(connection: Connection, now: datetime, keys: Many[BatchKey], holder: str) -> None:
    """Remember that these are in the hand-off."""
    published = {"published_at": now, "leased_by": None, "lease_until": None}
    _change(connection, keys, published, Batch.leased_by == holder)


def renew(connection: Connection, keys: Many[BatchKey], lease: Lease) -> None:
    """Keep the leases of batches whose publication is still under way."""
    _change(connection, keys, {"lease_until": lease.until}, Batch.leased_by == lease.holder)


def give_back(connection: Connection, keys: Many[BatchKey], holder: str) -> None:
    """Give leases back: these were not published, or nobody knows."""
    _change(connection, keys, _WAITING, Batch.leased_by == holder)


def backlog(connection: Connection, most: int) -> int:
    """Batches that are released and not published, waiting or leased; `most` if there are more."""
    # In the indexes' order, and not with IS NOT NULL: SQLite would read the whole table.
    waiting = select(Batch.batch).where(Batch.publish_order >= 0).order_by(Batch.publish_order).limit(most).subquery()
    leased = select(Batch.batch).where(Batch.lease_until > EPOCH).order_by(Batch.lease_until).limit(most).subquery()
    counts = [connection.scalar(select(func.count()).select_from(rows)) or 0 for rows in (waiting, leased)]
    return min(most, sum(counts))


def widen(connection: Connection, outstanding: int) -> bool:
    """Release more batches of open collections that were accepted under a lower limit; return whether it found any.

    Call it until it returns False, and only at a start: it reads all open collections.
    """
    settled = Collection.collected + Collection.failed
    # `outstanding` batches beside those that the settled cities fill.
    found = (
        select(Collection.id, Collection.total, Collection.released, settled.label("settled"))
        .where(Collection.finished_at.is_(None), Collection.released * BATCH_SIZE < Collection.total)
        .where((Collection.released - outstanding + 1) * BATCH_SIZE <= settled)
        .order_by(Collection.id)
        .limit(COLLECTIONS_AT_ONCE)
        .with_for_update()
    )
    rows = connection.execute(found).all()
    for row in rows:
        following = range(row.released, min(outstanding + row.settled // BATCH_SIZE, batches_of(row.total)))
        connection.execute(update(Collection).where(Collection.id == row.id).values(released=following.stop))
        counters.release(connection, [BatchKey(row.id, batch) for batch in following])
    return bool(rows)


def forget_publications(connection: Connection) -> None:
    """Have every unsettled batch published again: the in-process hand-off starts empty."""
    names = connection.scalars(select(Collection.id).where(Collection.finished_at.is_(None))).all()
    published = or_(Batch.published_at.is_not(None), Batch.lease_until.is_not(None))
    for start in range(0, len(names), COLLECTIONS_AT_ONCE):
        _publish_again(connection, names[start : start + COLLECTIONS_AT_ONCE], published)


def republish_stalled(connection: Connection, now: datetime, stalled_since: datetime) -> int:
    """Have batches published again whose messages seem lost; return how many.

    They are the unsettled ones of collections that made no progress since then and have no city in the queue. Each
    time the wait doubles: perhaps the messages only wait behind many others.
    """
    lost: list[str] = []
    checked: list[dict[str, Any]] = []
    for name, progress_at, queued in connection.execute(_IDLE, {"idle_since": stalled_since}):
        moment = progress_at
        if progress_at < stalled_since:
            moment = now if queued is not None else now + (now - progress_at)
            lost += [name] if queued is None else []
        checked.append({"name": name, "moment": moment})
    if checked:
        connection.execute(_CHECKED, sorted(checked, key=lambda row: row["name"]))
    # Published after `now` means before the database's clock stepped back.
    published = or_(Batch.published_at < stalled_since, Batch.published_at > now)
    return _publish_again(connection, lost, published) if lost else 0


def clip_moments(connection: Connection, now: datetime) -> None:
    """The database's clock stepped back: make everything due that waits for a future moment, and end all leases.

    Doing it too early is harmless: it is done once more. Locks are taken in the same order as settling takes them.
    """
    unfinished, progress_at = Collection.finished_at.is_(None), _PROGRESS_AT
    connection.execute(update(Collection).where(unfinished, Collection.idle_since > now).values(idle_since=now))
    # Otherwise the next look for lost messages would be put off to the moment of this progress.
    connection.execute(update(Collection).where(unfinished, progress_at > now).values(last_progress_at=now))
    connection.execute(update(Batch).where(Batch.lease_until > now).values(lease_until=now))
    connection.execute(update(OutgoingReading).where(OutgoingReading.publish_at > now).values(publish_at=now))
    connection.execute(update(Event).where(Event.publish_at > now).values(publish_at=now))
    webhooks = connection.scalars(select(Webhook.id)).all()  # the index of deliveries begins with it
    late = (WebhookDelivery.webhook_id.in_(webhooks), WebhookDelivery.due_at > now)
    connection.execute(update(WebhookDelivery).where(*late).values(due_at=now))
    connection.execute(update(WorkLease).where(WorkLease.until > now).values(until=now))


def outstanding_limit(minimum: int, cities_per_window: int, window_s: float) -> int:
    """Batches of one collection that may be published and unsettled: `minimum`, or fifteen seconds of quota if more."""
    seconds = 15 * cities_per_window / window_s
    return max(minimum, math.ceil(seconds / BATCH_SIZE))


def _publish_again(connection: Connection, names: Sequence[str], condition: ColumnElement[bool]) -> int:
    """Have these collections' unsettled batches that meet `condition` wait again; return how many."""
    out = (Batch.collection_id.in_(names), Batch.settled_at.is_(None), condition)
    return connection.execute(update(Batch).where(*out).values({**_WAITING, "published_at": None})).rowcount


def _change(
    connection: Connection, keys: Many[BatchKey], values: Mapping[Any, Any], *conditions: ColumnElement[bool]
) -> None:
    for these in _parts(keys):
        connection.execute(update(Batch).where(these, *conditions).values(values))


def _parts(keys: Many[BatchKey]) -> Iterator[ColumnElement[bool]]:
    """Conditions on `Batch` that hold for a part of these each."""
    ordered = sorted(keys)
    for start in range(0, len(ordered), BATCHES_AT_ONCE):
        yield counters.batches_are(ordered[start : start + BATCHES_AT_ONCE])


def _message(row: Any) -> BatchMessage:
    return BatchMessage(
        collection_id=row.collection_id,
        batch=row.batch,
        batches=batches_of(row.total),
        total=row.total,
        max_age_s=row.max_age_s,
        requested_at=row.requested_at,
        city_ids=tuple(json.loads(row.city_ids)),
        traceparent=row.traceparent,
    )
