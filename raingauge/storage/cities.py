"""Cities: the latest observation of each, and which ids are unknown."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, or_, select

from raingauge.observation import Observation
from raingauge.storage.message import ask
from raingauge.storage.models import City, Reading, UtcDateTime
from raingauge.storage.rows import upsert
from raingauge.storage.wanted import UNKNOWN_FOR

CITIES_AT_ONCE: Final = 1000
"""In one statement: SQLite takes 32,766 values; from more than these MariaDB makes a table first."""
_OBSERVED: Final = (*Observation._fields[1:], "fetched_at")

# Built once: it runs many times for a large collection.
_NEEDS_NO_CALL: Final = (
    select(func.count())
    .select_from(City)
    .where(
        City.id.in_(bindparam("cities", expanding=True, literal_execute=True)),
        or_(
            City.fetched_at >= bindparam("since", type_=UtcDateTime),
            City.unknown_at >= bindparam("unknown_since", type_=UtcDateTime),
        ),
        ~select(Reading.city_id)
        .where(Reading.collection_id == bindparam("collection"), Reading.city_id == City.id)
        .exists(),
    )
)


def count_fresh(
    connection: Connection, now: datetime, collection_id: str, city_ids: Sequence[int], since: datetime
) -> int:
    """How many of these are unsettled in that collection, if there is one, and need no call: as `wanted.fresh`."""
    given = {"collection": collection_id, "since": since, "unknown_since": now - UNKNOWN_FOR}
    parts = (city_ids[start : start + CITIES_AT_ONCE] for start in range(0, len(city_ids), CITIES_AT_ONCE))
    return sum(connection.scalar(_NEEDS_NO_CALL, given | {"cities": part}) or 0 for part in parts)


_FETCHED_SINCE: Final = select(City.id, City.fetched_at, City.unknown_at).where(
    City.id.in_(bindparam("cities", expanding=True, literal_execute=True)),
    or_(
        City.fetched_at >= bindparam("since", type_=UtcDateTime),
        City.unknown_at >= bindparam("unknown_since", type_=UtcDateTime),
    ),
)


def fetched_since(
    connection: Connection, now: datetime, city_ids: Sequence[int], since: datetime
) -> dict[int, datetime]:
    """Those of these that were fetched since then, and when; those known to be unknown as if they were fetched now."""
    given = {"since": since, "unknown_since": now - UNKNOWN_FOR}
    parts = (city_ids[start : start + CITIES_AT_ONCE] for start in range(0, len(city_ids), CITIES_AT_ONCE))
    rows = [row for part in parts for row in ask(connection, _FETCHED_SINCE, given | {"cities": list(part)})]
    unknown = {row[0] for row in rows if row[2] is not None and row[2] >= now - UNKNOWN_FOR}
    return {row[0]: now if row[0] in unknown or row[1] is None else row[1] for row in rows}


def remember(
    connection: Connection, observed: Mapping[int, tuple[datetime, Observation]], unknown: Mapping[int, datetime]
) -> None:
    """Keep the latest observation of each city and when it was fetched, and which ids were found unknown and when."""
    rows: dict[int, tuple[Any, ...]] = {city: (city, asked_at) for city, asked_at in unknown.items()}
    rows |= {city: (city, *observation[1:], fetched_at) for city, (fetched_at, observation) in observed.items()}
    # In the order of their ids whatever became of them: opposite orders would deadlock.
    for is_known, cities in groupby(sorted(rows), key=observed.__contains__):
        changed, cleared = (_OBSERVED, ("unknown_at",)) if is_known else (("unknown_at",), ())
        upsert(connection, City, ("id", *changed), [rows[city] for city in cities], changed, cleared)


def good_city(connection: Connection) -> int | None:
    """The city that was fetched last, or None before any was."""
    fetched = select(City.id).where(City.fetched_at.is_not(None), City.unknown_at.is_(None))
    return connection.scalar(fetched.order_by(City.fetched_at.desc()).limit(1))
