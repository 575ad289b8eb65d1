"""The history of cities: what was observed in them, oldest first, page by page, whatever collection it was for.

An observation that several collections share is one row. It only reads: settling writes readings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Integer, Row, Select, and_, bindparam, func, select, union_all

from raingauge.database.types import UtcDateTime
from raingauge.storage.models import City, Reading
from raingauge.storage.readings import OF_THE_CITY

EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Failed readings have no time, so a lower bound alone excludes them."""
LAST: Final = datetime(9999, 1, 1, tzinfo=UTC)


class Place(NamedTuple):
    """A row's place in a history; no two rows have the same."""

    fetched_at: datetime
    city_id: int


@dataclass(frozen=True, slots=True)
class Period:
    """Which readings belong to a history: those of these cities, fetched in a period. None: no bound."""

    city_ids: Sequence[int]
    since: datetime | None = None
    """Fetched at or after this moment."""
    until: datetime | None = None
    """Fetched before this moment."""


def page(
    connection: Connection, period: Period, columns: tuple[str, ...], after: Place | None, limit: int
) -> Sequence[Row[Any]]:
    """Up to `limit` observations behind `after`, in the order of `fetched_at` and city ids.

    Each has `city_id`, `collection_id` (the first by name of those that share it), `fetched_at` and these columns.
    Of each city at most `limit` are read, by an index, wherever the page begins.
    """
    since = max(period.since or EARLIEST, after.fetched_at if after else EARLIEST)
    given = {"since": since, "until": period.until or LAST, "limit": limit}
    # Of the moment at which the page before ended, the cities with higher ids are still to come.
    begun = 0 if after is None or after.fetched_at < since else after.city_id
    given |= {f"city_{number}": city_id for number, city_id in enumerate(period.city_ids)}
    seen = tuple(city_id <= begun for city_id in period.city_ids)
    return connection.execute(_page(columns, seen), given).all()


@lru_cache(maxsize=256)
def _page(columns: tuple[str, ...], seen: tuple[bool, ...]) -> Select[Any]:
    """`seen`: of each city, whether what was fetched at `since` was on an earlier page."""
    cities = (_of_city(number, is_seen=is_seen).subquery() for number, is_seen in enumerate(seen))
    of_all = union_all(*(select(one) for one in cities)).subquery()
    order = of_all.c.fetched_at, of_all.c.city_id
    found = select(of_all).order_by(*order).limit(bindparam("limit", type_=Integer)).subquery()
    shown = (getattr(City if name in OF_THE_CITY else Reading, name) for name in columns)
    this = and_(Reading.collection_id == found.c.collection_id, Reading.city_id == found.c.city_id)
    return (
        select(Reading.city_id, Reading.collection_id, Reading.fetched_at, *shown)
        .join_from(found, Reading, this)
        .outerjoin(City, City.id == found.c.city_id)
        .order_by(found.c.fetched_at, found.c.city_id)
    )


def _of_city(number: int, *, is_seen: bool) -> Select[Any, Any, Any]:
    since = bindparam("since", type_=UtcDateTime)
    return (
        select(Reading.city_id, Reading.fetched_at, func.min(Reading.collection_id).label("collection_id"))
        .where(
            Reading.city_id == bindparam(f"city_{number}", type_=Integer),
            Reading.fetched_at > since if is_seen else Reading.fetched_at >= since,
            Reading.fetched_at < bindparam("until", type_=UtcDateTime),
        )
        .group_by(Reading.city_id, Reading.fetched_at)
        .order_by(Reading.city_id, Reading.fetched_at)  # as grouped: SQLite would sort all of them
        .limit(bindparam("limit", type_=Integer))
    )
