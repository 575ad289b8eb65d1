"""Cities: the latest observation of each, which ids the provider does not know, and which need no call."""

from collections.abc import Collection as Many
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, bindparam, or_, select, update

from raingauge.database.types import UtcDateTime
from raingauge.database.upsert import upsert
from raingauge.model import CollectionState, Observation
from raingauge.quota.fairness import needs_no_call, unknown_since
from raingauge.storage.models import City, Reading

UNKNOWN_TWICE_IN: Final = timedelta(seconds=60)
"""A city is unknown when the provider said so twice, at least that far apart: for a while it may not know its own."""
LONDON: Final = 2643743
"""A city that OpenWeather has: https://openweathermap.org/city/2643743."""
_OBSERVED: Final = (*Observation._fields[1:], "fetched_at")
"""`fetched_at` is the last: the condition of the upsert reads it."""

_DOUBTED: Final = select(City.id, City.doubted_at).where(City.id.in_(bindparam("cities", expanding=True)))
CITIES_AT_ONCE: Final = 1000
"""In one statement: SQLite takes 32,766 values; from more than these MariaDB makes a table first."""

_KNOWN_SINCE: Final = select(City.id, City.fetched_at, City.unknown_at).where(
    City.id.in_(bindparam("cities", expanding=True, literal_execute=True)),
    or_(
        City.fetched_at >= bindparam("since", type_=UtcDateTime),
        City.unknown_at >= bindparam("unknown_since", type_=UtcDateTime),
    ),
)
LATEST: Final = _OBSERVED
"""Every field of an observation, and when it was fetched."""
_LATEST: Final = (
    select(City.id, *(getattr(City, name) for name in LATEST))
    .where(City.id.in_(bindparam("cities", expanding=True, literal_execute=True)), City.fetched_at.is_not(None))
    .order_by(City.id)
)
_SETTLED: Final = select(Reading.city_id).where(
    Reading.collection_id == bindparam("collection"),
    Reading.city_id.in_(bindparam("cities", expanding=True, literal_execute=True)),
)


def remember(
    connection: Connection, observed: Mapping[int, Observation], unknown: Many[int], fetched_at: datetime
) -> set[int]:
    """Keep the latest observation of each city, and which ids the provider does not know; return the unknown ones.

    A newer observation stays: a call may be answered after another one that began later.
    """
    doubted_at = dict.fromkeys(unknown, fetched_at)
    for row in connection.execute(_DOUBTED, {"cities": sorted(unknown)}) if unknown else ():
        doubted_at[row.id] = min(fetched_at, row.doubted_at or fetched_at)
    confirmed = {city for city, moment in doubted_at.items() if fetched_at - moment >= UNKNOWN_TWICE_IN}
    rows: dict[int, dict[str, Any]] = {
        city: {"id": city, "unknown_at": fetched_at if city in confirmed else None, "doubted_at": moment}
        for city, moment in doubted_at.items()
    }
    for city, observation in observed.items():
        weather = observation._asdict()
        del weather["city_id"]
        rows[city] = {"id": city, **weather, "fetched_at": fetched_at}
    # In the order of their ids whatever was found: opposite orders would deadlock.
    for is_known, cities in groupby(sorted(rows), key=observed.__contains__):
        these = [rows[city] for city in cities]
        if is_known:
            upsert(connection, City, these, _OBSERVED, ("unknown_at", "doubted_at"), _fetched_later)
        else:
            upsert(connection, City, these, ("unknown_at", "doubted_at"), only_if=_doubted_later)
    return confirmed


def forget_unknown(connection: Connection, city_ids: Sequence[int]) -> dict[int, datetime]:
    """Forget that the provider did not know these ids; return those that were unknown, and since when."""
    forgotten = {}
    for city_id in sorted(set(city_ids)):
        this = City.id == city_id
        since = connection.scalar(select(City.unknown_at).where(this))
        connection.execute(update(City).where(this).values(unknown_at=None, doubted_at=None))
        if since is not None:
            forgotten[city_id] = since
    return forgotten


def latest(connection: Connection, city_ids: Sequence[int]) -> Sequence[Row[Any]]:
    """The newest observation of each of these cities that has one, in the order of their ids.

    Each row has `id` and the columns of `LATEST`.
    """
    return [
        row
        for start in range(0, len(city_ids), CITIES_AT_ONCE)
        for row in connection.execute(_LATEST, {"cities": sorted(city_ids)[start : start + CITIES_AT_ONCE]})
    ]


def _fetched_later(new: Any) -> ColumnElement[bool]:
    return or_(City.fetched_at.is_(None), City.fetched_at <= new.fetched_at)


def _doubted_later(new: Any) -> ColumnElement[bool]:
    return or_(City.fetched_at.is_(None), City.fetched_at <= new.doubted_at)


def clip_moments(connection: Connection, now: datetime) -> None:
    """The database's clock stepped back: set every moment in the future to now."""
    for column in (City.fetched_at, City.unknown_at, City.doubted_at):
        connection.execute(update(City).where(column > now).values({column: now}))


def good_city(connection: Connection, other_than: int) -> int | None:
    """The city that was fetched last, except one; before any was, London. None: London is the one."""
    fetched = select(City.id).where(City.fetched_at.is_not(None), City.id != other_than)
    last = connection.scalar(fetched.order_by(City.fetched_at.desc()).limit(1))
    return last or (LONDON if other_than != LONDON else None)


# -- cities that need no call, as the producer counts them; consumers apply the same rule ------------------------------


def count_fresh(connection: Connection, state: CollectionState, city_ids: Sequence[int]) -> int:
    """How many of these cities are unsettled in the collection and need no call."""
    known = known_since(connection, city_ids, state.since, unknown_since(state.requested_at, state.max_age_s))
    found = needing_no_call(known, state, city_ids)
    if found and state.settled:
        found -= _settled(connection, state.id, found)
    return len(found)


def known_since(
    connection: Connection, city_ids: Sequence[int], since: datetime, not_known_since: datetime
) -> dict[int, tuple[datetime | None, datetime | None]]:
    """Those fetched since one moment or found unknown since the other, with their `fetched_at` and `unknown_at`."""
    given = {"since": since, "unknown_since": not_known_since}
    return {
        row.id: (row.fetched_at, row.unknown_at)
        for start in range(0, len(city_ids), CITIES_AT_ONCE)
        for row in connection.execute(_KNOWN_SINCE, given | {"cities": list(city_ids[start : start + CITIES_AT_ONCE])})
    }


def needing_no_call(
    known: Mapping[int, tuple[datetime | None, datetime | None]], state: CollectionState, city_ids: Many[int]
) -> set[int]:
    """Those of these cities for which the collection needs no call, given what `known_since` has found."""
    not_known_since = unknown_since(state.requested_at, state.max_age_s)
    return {
        city_id
        for city_id in known.keys() & set(city_ids)
        if needs_no_call(*known[city_id], state.since, not_known_since)
    }


def _settled(connection: Connection, collection_id: str, city_ids: Many[int]) -> set[int]:
    ordered = sorted(city_ids)
    return {
        city_id
        for start in range(0, len(ordered), CITIES_AT_ONCE)
        for city_id in connection.scalars(
            _SETTLED, {"collection": collection_id, "cities": ordered[start : start + CITIES_AT_ONCE]}
        )
    }
