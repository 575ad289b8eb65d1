"""The outbox: what waits for publication, its leases, and what is published again.

A batch waits while it has a `publish_order`, so a round of the relay reads what is due by an index, whatever else is
open. A POST releases the first batches of a collection, and each one that is settled releases the next
(`raingauge.storage.settling`). Readings wait as rows of `outgoing`, if streams are enabled. It knows nothing of Kafka:
relays publish.
"""

import json
import math
from collections.abc import Collection as Many
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Integer, and_, bindparam, delete, func, insert, or_, select, update

from raingauge.contracts import BatchMessage, batches_of
from raingauge.model import BATCH_SIZE, BatchKey
from raingauge.storage import counters
from raingauge.storage.models import Batch, City, Collection, OutgoingReading, QueuedCity, Reading, UtcDateTime
from raingauge.storage.readings import OF_THE_CITY
from raingauge.streams import LatestMessage, ReadingMessage

BATCHES_AT_ONCE: Final = 50
"""In one statement: the time that MariaDB takes to plan it grows with their number's square."""
COLLECTIONS_AT_ONCE: Final = 100
"""In one statement, and checked for lost messages in one round."""

EPOCH: Final = datetime.fromtimestamp(0, UTC)
"""Earlier than any lease ends."""

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
_IDLE: Final = (
    select(
        Collection.id,
        func.coalesce(Collection.last_progress_at, Collection.requested_at, type_=UtcDateTime),
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

_NUMBERED: Final = OutgoingReading.number.in_(bindparam("numbers", expanding=True))
_DUE_READINGS: Final = (
    select(OutgoingReading.number)
    .where(OutgoingReading.publish_at <= _NOW)
    .order_by(OutgoingReading.publish_at, OutgoingReading.number)
    .limit(bindparam("most", type_=Integer))
    .with_for_update(skip_locked=True)
)
_PUBLISH_AT: Final = update(OutgoingReading).where(_NUMBERED).values(publish_at=bindparam("moment", type_=UtcDateTime))
_OLDEST_READING: Final = select(OutgoingReading.stored_at).order_by(OutgoingReading.number).limit(1)
_PUBLISHED: Final = delete(OutgoingReading).where(_NUMBERED)
_FETCHED_AT: Final = select(City.id, City.fetched_at).where(City.id.in_(bindparam("cities", expanding=True)))
_LEASED_READINGS: Final = (
    select(
        *(OutgoingReading.number, OutgoingReading.stored_at),
        *(getattr(City if name in OF_THE_CITY else Reading, name) for name in ReadingMessage.model_fields),
        *(City.id if name == "city_id" else getattr(City, name) for name in LatestMessage.model_fields),
    )
    .join_from(
        OutgoingReading,
        Reading,
        and_(Reading.collection_id == OutgoingReading.collection_id, Reading.city_id == OutgoingReading.city_id),
    )
    .outerjoin(City, City.id == OutgoingReading.city_id)
    .where(_NUMBERED)
    .order_by(OutgoingReading.number)
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


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A reading that is to be published."""

    number: int
    stored_at: datetime
    reading: ReadingMessage
    latest: LatestMessage | None
    """The city's latest weather as of the lease; None if the reading failed, or a later one of the lease has it."""


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
    """Release more batches of open collections that were accepted under a lower limit; whether it found any.

    It does so for some of them: repeat it until there are no more. It reads all open collections: for a start only.
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
    """Have batches published again whose messages seem lost; answer how many.

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
    return _publish_again(connection, lost, Batch.published_at < stalled_since) if lost else 0


def add_readings(connection: Connection, now: datetime, readings: Iterable[tuple[str, int]]) -> None:
    """Have these readings published on the streams: collection and city of each."""
    rows = [
        {"collection_id": collection_id, "city_id": city_id, "stored_at": now, "publish_at": now}
        for collection_id, city_id in sorted(readings)
    ]
    connection.execute(insert(OutgoingReading), rows)


def lease_readings(connection: Connection, now: datetime, until: datetime, most: int) -> list[Outgoing]:
    """Up to `most` readings that are due, oldest first; nobody else leases them before `until`."""
    numbers = connection.scalars(_DUE_READINGS, {"now": now, "most": most}).all()
    if not numbers:
        return []
    connection.execute(_PUBLISH_AT, {"numbers": numbers, "moment": until})
    rows = [_outgoing(row) for row in connection.execute(_LEASED_READINGS, {"numbers": numbers})]
    last = {row.reading.city_id: row.number for row in rows if row.latest is not None}
    return [row if last.get(row.reading.city_id) == row.number else replace(row, latest=None) for row in rows]


def stream_lag_s(connection: Connection, now: datetime) -> float:
    """Age of the oldest reading that is not published."""
    oldest = connection.scalar(_OLDEST_READING)
    return 0.0 if oldest is None else max(0.0, (now - oldest).total_seconds())


def remove_published(connection: Connection, now: datetime, published: Sequence[Outgoing]) -> None:
    """Forget readings that are stored in the hand-off.

    One whose city has newer weather by now is due again: another relay may have published that before this one's.
    """
    latest = {row.reading.city_id: row.latest.fetched_at for row in published if row.latest is not None}
    found = connection.execute(_FETCHED_AT, {"cities": sorted(latest)}) if latest else ()
    newer = {city_id for city_id, fetched_at in found if fetched_at != latest[city_id]}
    overtaken = [row.number for row in published if row.latest is not None and row.reading.city_id in newer]
    if overtaken:
        connection.execute(_PUBLISH_AT, {"numbers": overtaken, "moment": now})
    if done := sorted({row.number for row in published} - {*overtaken}):
        connection.execute(_PUBLISHED, {"numbers": done})


def outstanding_limit(minimum: int, cities_per_window: int, window_s: float) -> int:
    """Batches of one collection that may be published and unsettled: `minimum`, or fifteen seconds of quota if more."""
    seconds = 15 * cities_per_window / window_s
    return max(minimum, math.ceil(seconds / BATCH_SIZE))


def _publish_again(connection: Connection, names: Sequence[str], condition: ColumnElement[bool]) -> int:
    """Have the unsettled batches of these collections wait again that were published or leased."""
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


def _outgoing(row: Any) -> Outgoing:
    number, stored_at, *values = row
    reading = ReadingMessage(**dict(zip(ReadingMessage.model_fields, values, strict=False)))
    latest = None
    if reading.status == "collected":
        of_city = values[len(ReadingMessage.model_fields) :]
        latest = LatestMessage(**dict(zip(LatestMessage.model_fields, of_city, strict=True)))
    return Outgoing(number, stored_at, reading, latest)
