"""Cities: the latest observation of each, which ids are unknown, and who is fetching which now."""

import json
from collections.abc import Collection as Many
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from itertools import groupby
from typing import Any, Final

from sqlalchemy import Connection, Insert, bindparam, func, literal_column, or_, select, text, true, update
from sqlalchemy.dialects import mysql, postgresql, sqlite

from raingauge.observation import Observation
from raingauge.storage.message import Statement, ask
from raingauge.storage.models import City, Reading, UtcDateTime
from raingauge.storage.rows import upsert
from raingauge.storage.wanted import UNKNOWN_FOR

CITIES_AT_ONCE: Final = 1000
"""In one statement: SQLite takes 32,766 values; from more than these MariaDB makes a table first."""
_JSON_TABLE: Final = "JSON_TABLE(:cities, '$[*]' COLUMNS (id INT PATH '$')) AS given"
_GIVEN: Final = {
    "mysql": _JSON_TABLE,
    "mariadb": _JSON_TABLE,
    "postgresql": "(SELECT CAST(json_array_elements_text(CAST(:cities AS JSON)) AS INT) AS id) AS given",
    "sqlite": "(SELECT value AS id FROM json_each(:cities)) AS given",
}
"""A JSON list of ids as a table, in its order."""
_CLAIM: Final = ("claimed_by", "claimed_until")
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


_UNCLAIM: Final = (
    update(City)
    .where(City.id.in_(bindparam("cities", expanding=True)), City.claimed_by == bindparam("holder"))
    .values(dict.fromkeys(_CLAIM))
)
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
    """Keep the latest observation of each city and when it was fetched, and which ids were found unknown and when.

    Their claims end with it.
    """
    rows: dict[int, tuple[Any, ...]] = {city: (city, asked_at) for city, asked_at in unknown.items()}
    rows |= {city: (city, *observation[1:], fetched_at) for city, (fetched_at, observation) in observed.items()}
    # In the order of their ids whatever became of them: opposite orders would deadlock.
    for is_known, cities in groupby(sorted(rows), key=observed.__contains__):
        changed, cleared = (_OBSERVED, ("unknown_at", *_CLAIM)) if is_known else (("unknown_at",), _CLAIM)
        upsert(connection, City, ("id", *changed), [rows[city] for city in cities], changed, cleared)


def claiming(dialect: str, city_ids: Many[int], holder: str, until: datetime) -> Statement:
    """The statement that says that someone is fetching these cities now."""
    return _claim(dialect), {"cities": json.dumps(sorted(city_ids)), "holder": holder, "until": until}


@cache
def _claim(dialect: str) -> Insert:
    """The cities go as one JSON list: as rows, they would take their drivers twice as long."""
    claimed: dict[str, Any] = {
        "claimed_by": bindparam("holder"),
        "claimed_until": bindparam("until", type_=UtcDateTime),
    }
    rows = select(literal_column("given.id"), *claimed.values()).select_from(text(_GIVEN[dialect])).where(true())
    names = ["id", *claimed]
    if dialect in {"mysql", "mariadb"}:
        return mysql.insert(City).from_select(names, rows).on_duplicate_key_update(claimed)
    other = sqlite.insert(City) if dialect == "sqlite" else postgresql.insert(City)
    return other.from_select(names, rows).on_conflict_do_update(index_elements=["id"], set_=claimed)


def unclaim(connection: Connection, city_ids: Many[int], holder: str) -> None:
    """Say that these are not being fetched any more."""
    if city_ids:
        connection.execute(_UNCLAIM, {"cities": sorted(city_ids), "holder": holder})


def good_city(connection: Connection) -> int | None:
    """The city that was fetched last, or None before any was."""
    fetched = select(City.id).where(City.fetched_at.is_not(None), City.unknown_at.is_(None))
    return connection.scalar(fetched.order_by(City.fetched_at.desc()).limit(1))
