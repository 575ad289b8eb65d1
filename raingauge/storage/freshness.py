"""Which cities of a collection need no call, as the producer counts them. Consumers apply the same rule."""

from collections.abc import Collection as Many
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, bindparam, or_, select

from raingauge.model import CollectionState
from raingauge.quota.fairness import needs_no_call, unknown_since
from raingauge.storage.models import City, Reading, UtcDateTime

CITIES_AT_ONCE: Final = 1000
"""In one statement: SQLite takes 32,766 values; from more than these MariaDB makes a table first."""

_KNOWN_SINCE: Final = select(City.id, City.fetched_at, City.unknown_at).where(
    City.id.in_(bindparam("cities", expanding=True, literal_execute=True)),
    or_(
        City.fetched_at >= bindparam("since", type_=UtcDateTime),
        City.unknown_at >= bindparam("unknown_since", type_=UtcDateTime),
    ),
)
_SETTLED: Final = select(Reading.city_id).where(
    Reading.collection_id == bindparam("collection"),
    Reading.city_id.in_(bindparam("cities", expanding=True, literal_execute=True)),
)


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
