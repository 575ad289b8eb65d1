"""Readings, page by page, and summaries of them. It only reads: settling writes them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Literal

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Double,
    Integer,
    Row,
    Select,
    String,
    and_,
    bindparam,
    case,
    cast,
    func,
    select,
    type_coerce,
)

from raingauge.storage.models import City, Reading
from raingauge.storage.weather import WEATHER_COLUMNS

NumericField = Literal[
    "temperature",
    "humidity",
    "feels_like",
    "pressure",
    "wind_speed",
    "wind_deg",
    "clouds",
    "visibility",
    "rain_1h",
    "snow_1h",
    "condition_id",
    "utc_offset_s",
]
"""The fields of a reading that are numbers."""

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
        # Without the second condition PostgreSQL merges with all cities from the first one on.
        .outerjoin(City, and_(City.id == Reading.city_id, City.id > bindparam("after", type_=Integer)))
        .where(
            Reading.collection_id == bindparam("collection_id", type_=String),
            Reading.city_id > bindparam("after", type_=Integer),
        )
        .order_by(Reading.city_id)
        .limit(bindparam("limit", type_=Integer))
    )


@dataclass(frozen=True, slots=True)
class Selection:
    """Which values are summarized: a field of all readings, or of some. None: no restriction."""

    field: NumericField = "temperature"
    collection_id: str | None = None
    city_id: int | None = None
    since: datetime | None = None
    """Fetched at or after this moment."""
    until: datetime | None = None
    """Fetched before this moment."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A sum of thousandths, and the number, the smallest and the largest of its values; None: there are none."""

    thousandths: int
    count: int
    min: float | None
    max: float | None

    @property
    def total(self) -> float:
        """The float nearest to the exact sum."""
        return self.thousandths / 1000

    @property
    def mean(self) -> float | None:
        """The float nearest to the exact mean."""
        return self.thousandths / (1000 * self.count) if self.count else None


def summarize(connection: Connection, selection: Selection) -> Summary:
    """Sum up a field. Only collected readings that have a value count.

    The sum is exact, whatever the order: each value is rounded to the nearest thousandth (halves away from zero), and
    the thousandths are added up as integers. The provider sends two decimals. Every database does the same.
    """
    value = Reading.__table__.c[selection.field]
    thousandths = func.sum(_thousandths(value, connection.dialect.name))
    statement = select(thousandths, func.count(value), func.min(value), func.max(value)).where(*_conditions(selection))
    total, count, lowest, highest = connection.execute(statement).one()
    return Summary(int(total or 0), count, lowest, highest)


def _conditions(selection: Selection) -> Iterator[ColumnElement[bool]]:
    if selection.collection_id is not None:
        yield Reading.collection_id == selection.collection_id
    if selection.city_id is not None:
        yield Reading.city_id == selection.city_id
    if selection.since is not None:
        yield Reading.fetched_at >= selection.since
    if selection.until is not None:
        yield Reading.fetched_at < selection.until


def _thousandths(value: ColumnElement[Any], dialect: str) -> ColumnElement[int]:
    """The nearest integer by the same double arithmetic everywhere: their ROUND treats halves differently."""
    scaled = type_coerce(value, Double) * 1000.0
    shifted = scaled + case((scaled < 0, -0.5), else_=0.5)
    if dialect == "postgresql":
        shifted = func.trunc(shifted)
    elif dialect != "sqlite":
        shifted = func.truncate(shifted, 0)
    return cast(shifted, BigInteger)  # SQLite's cuts the fraction off
