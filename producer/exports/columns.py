"""The columns of an export: their order, their types, and their names with units. Pure."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, Literal

from raingauge.contracts import utc_text
from raingauge.units import Units, column_name, converted

Kind = Literal["integer", "number", "text", "moment"]

OF_THE_READING: Final[dict[str, Kind]] = {"city_id": "integer", "status": "text", "reason": "text"}
SHOWN: Final[dict[str, Kind]] = {
    "name": "text",
    "country": "text",
    "latitude": "number",
    "longitude": "number",
    "observed_at": "moment",
    "fetched_at": "moment",
    "temperature": "number",
    "feels_like": "number",
    "humidity": "number",
    "pressure": "number",
    "wind_speed": "number",
    "wind_deg": "number",
    "clouds": "number",
    "visibility": "number",
    "rain_1h": "number",
    "snow_1h": "number",
    "condition_id": "integer",
    "description": "text",
    "utc_offset_s": "integer",
}
"""What is read of each reading beside its city id, status and reason."""
KINDS: Final[dict[str, Kind]] = OF_THE_READING | SHOWN

Values = Sequence[Any]
"""Of one reading, in the order of `KINDS`; None: it has none."""


def column_names(units: Units, fields: Iterable[str] = KINDS) -> list[str]:
    """The columns' names in these units."""
    return [column_name(field, units) for field in fields]


def in_units(units: Units, fields: Sequence[str] = tuple(KINDS)) -> Callable[[Values], list[Any]]:
    """Converts the values of readings."""
    return lambda values: [converted(field, value, units) for field, value in zip(fields, values, strict=True)]


def as_text(value: Any) -> Any:
    """A moment as text, and anything else as it is."""
    return utc_text(value) if isinstance(value, datetime) else value
