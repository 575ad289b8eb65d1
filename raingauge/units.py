"""Units of measurement: readings are stored in metric ones and converted here alone. Pure.

The three systems are the provider's: https://openweathermap.org/weather-data. They differ in temperature and wind.
"""

from collections.abc import Callable, Mapping
from typing import Final, Literal

Units = Literal["metric", "imperial", "standard"]
Conversion = Callable[[float], float]

DIGITS: Final = 2
"""Of converted values; the provider sends no more."""
_TEMPERATURES: Final = ("temperature", "feels_like")


def _fahrenheit(celsius: float) -> float:
    return round(celsius * 1.8 + 32, DIGITS)


def _kelvin(celsius: float) -> float:
    return round(celsius + 273.15, DIGITS)


def _miles_per_hour(metres_per_second: float) -> float:
    return round(metres_per_second * 3600 / 1609.344, DIGITS)


CONVERSIONS: Final[Mapping[Units, Mapping[str, Conversion]]] = {
    "metric": {},
    "imperial": {**dict.fromkeys(_TEMPERATURES, _fahrenheit), "wind_speed": _miles_per_hour},
    "standard": dict.fromkeys(_TEMPERATURES, _kelvin),
}
"""What is done to which field; all others stay as they are stored."""
_SUFFIXES: Final = {
    **dict.fromkeys(_TEMPERATURES, "c"),
    "humidity": "percent",
    "pressure": "hpa",
    "wind_speed": "m_s",
    "clouds": "percent",
    "visibility": "m",
    "rain_1h": "mm",
    "snow_1h": "mm",
}
_OTHER_SUFFIXES: Final[Mapping[Units, Mapping[str, str]]] = {
    "metric": {},
    "imperial": {**dict.fromkeys(_TEMPERATURES, "f"), "wind_speed": "mph"},
    "standard": dict.fromkeys(_TEMPERATURES, "k"),
}


def converted(field: str, value: float | None, units: Units) -> float | None:
    """A stored value of a field, in these units."""
    conversion = CONVERSIONS[units].get(field)
    return value if value is None or conversion is None else conversion(value)


def column_name(field: str, units: Units) -> str:
    """A field's name with its unit, as in `temperature_c`; fields without a unit keep their names.

    `wind_deg` and `utc_offset_s` have theirs already.
    """
    suffix = _OTHER_SUFFIXES[units].get(field) or _SUFFIXES.get(field)
    return field if suffix is None else f"{field}_{suffix}"
