"""Readings, page by page. It only reads: settling writes them."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, Integer, Row, Select, String, bindparam, select

from raingauge.storage.models import WEATHER_COLUMNS, City, Reading

OF_THE_CITY: Final = ("name", "country", "latitude", "longitude")
COLUMNS: Final = (*WEATHER_COLUMNS, *OF_THE_CITY)
"""What a page can show of a city beside its id, status and reason."""


def page(
    connection: Connection, collection_id: str, columns: tuple[str, ...], after: int, limit: int
) -> Sequence[Row[Any]]:
    """Up to `limit` readings of a collection with city ids above `after`, in the order of city ids.

    Each has `city_id`, `status`, `reason` and these columns, in this order.
    """
    given = {"collection_id": collection_id, "after": after, "limit": limit}
    return connection.execute(_page(columns), given).all()


@lru_cache(maxsize=64)
def _page(columns: tuple[str, ...]) -> Select[Any]:
    shown = (getattr(City if name in OF_THE_CITY else Reading, name) for name in columns)
    return (
        select(Reading.city_id, Reading.status, Reading.reason, *shown)
        .outerjoin(City, City.id == Reading.city_id)
        .where(
            Reading.collection_id == bindparam("collection_id", type_=String),
            Reading.city_id > bindparam("after", type_=Integer),
        )
        .order_by(Reading.city_id)
        .limit(bindparam("limit", type_=Integer))
    )
