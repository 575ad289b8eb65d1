"""The outbox of the streams: readings that wait for publication, and the latest weather of their cities.

Settling adds a reading's key in its own transaction; the stream relay removes it when Kafka has the message. This
module knows neither Kafka nor the messages' form.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Integer, and_, bindparam, delete, insert, select, update

from raingauge.database.types import UtcDateTime
from raingauge.storage.models import City, OutgoingReading, Reading
from raingauge.storage.readings import OF_THE_CITY
from raingauge.streams import LatestMessage, ReadingMessage

_NUMBERED: Final = OutgoingReading.number.in_(bindparam("numbers", expanding=True))
_DUE_READINGS: Final = (
    select(OutgoingReading.number)
    .where(OutgoingReading.publish_at <= bindparam("now", type_=UtcDateTime))
    .order_by(OutgoingReading.publish_at, OutgoingReading.number)
    .limit(bindparam("most", type_=Integer))
    .with_for_update(skip_locked=True)
)
_PUBLISH_AT: Final = update(OutgoingReading).where(_NUMBERED).values(publish_at=bindparam("moment", type_=UtcDateTime))
_OLDEST_READING: Final = select(OutgoingReading.stored_at).order_by(OutgoingReading.number).limit(1)
_PUBLISHED: Final = delete(OutgoingReading).where(
    _NUMBERED, OutgoingReading.publish_at == bindparam("leased_until", type_=UtcDateTime)
)
_FETCHED_AT: Final = select(City.id, City.fetched_at).where(City.id.in_(bindparam("cities", expanding=True)))
_LEASED_READINGS: Final = (
    select(
        *(getattr(OutgoingReading, name) for name in ("number", "stored_at", "collection_id", "city_id")),
        *(
            getattr(City if name in OF_THE_CITY else Reading, name).label(f"reading_{name}")
            for name in ReadingMessage.model_fields
        ),
        *(
            getattr(City, "id" if name == "city_id" else name).label(f"latest_{name}")
            for name in LatestMessage.model_fields
        ),
    )
    .outerjoin_from(
        OutgoingReading,
        Reading,
        and_(Reading.collection_id == OutgoingReading.collection_id, Reading.city_id == OutgoingReading.city_id),
    )
    .outerjoin(City, City.id == OutgoingReading.city_id)
    .where(_NUMBERED)
    .order_by(OutgoingReading.number)
)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A reading that is to be published."""

    number: int
    stored_at: datetime
    """The same whenever it is published."""
    collection_id: str
    city_id: int
    reading: ReadingMessage | None
    """None if it was deleted with its collection."""
    latest: LatestMessage | None
    """The city's latest weather as of the lease; None if the reading failed, or a later one of this lease has it."""

    @property
    def id(self) -> str:
        """Collection and city of its reading, which are known after the reading is deleted too."""
        return f"{self.collection_id}/{self.city_id}"


def add_readings(connection: Connection, now: datetime, readings: Iterable[tuple[str, int]]) -> None:
    """Have these readings published on the streams, which are stored now: collection and city of each."""
    _add(connection, now, ((collection_id, city_id, now) for collection_id, city_id in sorted(readings)))


def _add(connection: Connection, now: datetime, readings: Iterable[tuple[str, int, datetime]]) -> None:
    """Have readings published: collection and city of each, and when it was stored."""
    names = ("collection_id", "city_id", "stored_at")
    rows = [dict(zip(names, reading, strict=True)) | {"publish_at": now} for reading in readings]
    connection.execute(insert(OutgoingReading), rows)


def lease_readings(connection: Connection, now: datetime, until: datetime, most: int) -> list[Outgoing]:
    """Up to `most` readings that are due, oldest first; nobody else leases them before `until`."""
    numbers = connection.scalars(_DUE_READINGS, {"now": now, "most": most}).all()
    if not numbers:
        return []
    connection.execute(_PUBLISH_AT, {"numbers": numbers, "moment": until})
    rows = [_outgoing(row) for row in connection.execute(_LEASED_READINGS, {"numbers": numbers})]
    last = {row.city_id: row.number for row in rows if row.latest is not None}
    return [row if last.get(row.city_id) == row.number else replace(row, latest=None) for row in rows]


def oldest_waiting(connection: Connection) -> datetime | None:
    """When the oldest reading that is not published was stored; None: all are published."""
    return connection.scalar(_OLDEST_READING)


def stream_lag_s(connection: Connection, now: datetime) -> float:
    """Age of the oldest reading that is not published."""
    oldest = oldest_waiting(connection)
    return 0.0 if oldest is None else max(0.0, (now - oldest).total_seconds())


def remove_published(
    connection: Connection, now: datetime, published: Sequence[Outgoing], leased_until: datetime
) -> None:
    """Forget readings that are stored in the hand-off. Those that another relay has leased meanwhile are left to it.

    A reading whose city has newer weather by now is added again: another relay may have published and forgotten the
    newer weather before this relay published the older.
    """
    latest = {row.city_id: row.latest.fetched_at for row in published if row.latest is not None}
    found = connection.execute(_FETCHED_AT, {"cities": sorted(latest)}) if latest else ()
    newer = {city_id for city_id, fetched_at in found if fetched_at != latest[city_id]}
    overtaken = [row for row in published if row.latest is not None and row.city_id in newer]
    numbers = sorted(row.number for row in published)
    connection.execute(_PUBLISHED, {"numbers": numbers, "leased_until": leased_until})
    if overtaken:
        _add(connection, now, sorted((row.collection_id, row.city_id, row.stored_at) for row in overtaken))


def _outgoing(row: Any) -> Outgoing:
    reading, latest = None, None
    if row.reading_status is not None:
        reading = ReadingMessage(**{name: getattr(row, f"reading_{name}") for name in ReadingMessage.model_fields})
    if row.latest_fetched_at is not None and row.reading_status in {None, "collected"}:
        latest = LatestMessage(**{name: getattr(row, f"latest_{name}") for name in LatestMessage.model_fields})
    return Outgoing(row.number, row.stored_at, row.collection_id, row.city_id, reading, latest)
