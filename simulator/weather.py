"""The cities and their invented weather, one for each city and ten minutes, and the bodies that contain it.

Shapes: openweathermap.org/current. Whole numbers are ints; wind.deg, wind.gust, visibility, rain and snow are missing
at times. Times are Unix seconds. The known cities' names and coordinates come from GeoNames (https://www.geonames.org),
licensed under Creative Commons Attribution 4.0 (https://creativecommons.org/licenses/by/4.0/).
"""

import csv
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from importlib.resources import files
from typing import Any, Final

SLOT_S: Final = 600
"""The provider's weather of a place changes at most every 10 minutes."""
UTC_OFFSET_S: Final = -10_800
"""All places are in Uruguay."""
DAY_S: Final = 86_400
ZERO_CELSIUS_K: Final = 273.15
SNOW: Final = (600, "Snow", "light snow", "13", 100)
SKIES: Final = (
    (800, "Clear", "clear sky", "01", 0),
    (801, "Clouds", "few clouds", "02", 20),
    (802, "Clouds", "scattered clouds", "03", 40),
    (803, "Clouds", "broken clouds", "04", 75),
    (804, "Clouds", "overcast clouds", "04", 100),
    (701, "Mist", "mist", "50", 90),
    (500, "Rain", "light rain", "10", 95),
    (501, "Rain", "moderate rain", "10", 100),
)
SINGLE_FIELDS: Final = (
    *("coord", "weather", "base", "main", "visibility", "wind", "rain", "snow", "clouds", "dt", "sys"),
    *("timezone", "id", "name", "cod"),
)
"""In the provider's order."""


@dataclass(frozen=True, slots=True)
class Place:
    """A city: coordinates in degrees, the country's code of two letters."""

    city_id: int
    name: str
    country: str
    latitude: float
    longitude: float


class Places:
    """The place of each city id: one from `producer/cities.csv`, or one invented inside Uruguay."""

    def __init__(self, unknown: frozenset[int] = frozenset()) -> None:
        self._unknown = unknown
        with files("producer").joinpath("cities.csv").open(encoding="utf-8") as lines:
            named = [_read(row) for row in csv.DictReader(lines)]
        self._known = {place.city_id: place for place in named}

    def find(self, city_id: int) -> Place | None:
        """The place, always the same for an id; None for an unknown city."""
        if city_id in self._unknown:
            return None
        return self._known.get(city_id) or _invent(city_id)


def _read(row: Mapping[str, str]) -> Place:
    latitude, longitude = round(float(row["latitude"]), 4), round(float(row["longitude"]), 4)
    return Place(int(row["id"]), row["name"], row["country"], latitude, longitude)


def _invent(city_id: int) -> Place:
    draws = blake2b(b"%d" % city_id, digest_size=4).digest()
    # A rectangle that lies inside Uruguay as a whole.
    latitude = -34.2 + 2.4 * int.from_bytes(draws[:2]) / 65535
    longitude = -57.5 + 2.9 * int.from_bytes(draws[2:]) / 65535
    return Place(city_id, f"Place {city_id}", "UY", round(latitude, 4), round(longitude, 4))


def slot_of(moment: datetime) -> int:
    """The number of the ten minutes that a moment lies in, counted from 1970."""
    return int(moment.timestamp()) // SLOT_S


def group_body(places: Iterable[Place], slot: int, metric: bool) -> bytes:
    """The body for many cities, in the order of the places."""
    items = [_weather(place, slot, metric) for place in places]
    return compact({"cnt": len(items), "list": items})


def single_body(place: Place, slot: int, metric: bool) -> bytes:
    """The body for one city; its time zone is beside `sys`, not in it."""
    fields = _weather(place, slot, metric) | {"base": "stations", "cod": 200}
    fields["timezone"] = fields["sys"].pop("timezone")
    return compact({name: fields[name] for name in SINGLE_FIELDS if name in fields})


def compact(value: object) -> bytes:
    """JSON without spaces, in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _weather(place: Place, slot: int, metric: bool) -> dict[str, Any]:
    """The fields of a group's item, in the provider's order."""
    draws = blake2b(b"%d/%d" % (place.city_id, slot), digest_size=16).digest()
    now = slot * SLOT_S
    midnight = (now + UTC_OFFSET_S) // DAY_S * DAY_S - UTC_OFFSET_S
    sunrise, sunset = midnight + 23_400, midnight + 70_200
    condition, main, description, icon, clouds = SNOW if draws[0] >= 252 else SKIES[draws[0] % len(SKIES)]
    icon += "d" if sunrise <= now < sunset else "n"
    fallen = {"1h": _number(0.1 + draws[2] / 50, 2)} if draws[2] % 8 else None
    fields = {
        "coord": {"lon": _number(place.longitude, 4), "lat": _number(place.latitude, 4)},
        "sys": {"country": place.country, "timezone": UTC_OFFSET_S, "sunrise": sunrise, "sunset": sunset},
        "weather": [{"id": condition, "main": main, "description": description, "icon": icon}],
        "main": _main(draws, now, metric),
        "visibility": (10_000 if draws[1] % 2 else 500 * (1 + draws[1] % 16)) if draws[1] % 8 else None,
        "wind": _wind(draws),
        "rain": fallen if main == "Rain" else None,
        "snow": fallen if main == "Snow" else None,
        "clouds": {"all": clouds},
        "dt": now,
        "id": place.city_id,
        "name": place.name,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _main(draws: bytes, now: int, metric: bool) -> dict[str, int | float]:
    hour = (now + UTC_OFFSET_S) % DAY_S / 3600
    celsius = 17 + 6 * math.sin((hour - 9) * math.tau / 24) + (int.from_bytes(draws[3:5]) / 65535 - 0.5) * 8
    temp = round(celsius, 2 if draws[5] % 8 else 0) + (0 if metric else ZERO_CELSIUS_K)
    return {
        "temp": _number(temp, 2),
        "feels_like": _number(temp + draws[6] / 64 - 2, 2),
        "temp_min": _number(temp - draws[7] / 128, 2),
        "temp_max": _number(temp + draws[8] / 128, 2),
        "pressure": 1000 + draws[9] % 32,
        "humidity": 30 + draws[10] % 71,
    }


def _wind(draws: bytes) -> dict[str, int | float]:
    speed = draws[11] / 25
    wind = {"speed": _number(speed, 2)}
    if draws[12] % 8:
        wind["deg"] = int.from_bytes(draws[13:15]) % 360
    if draws[12] % 3 == 0:
        wind["gust"] = _number(speed * 1.6 + 0.5, 2)
    return wind


def _number(value: float, digits: int) -> int | float:
    rounded = round(value, digits)
    return int(rounded) if rounded.is_integer() else rounded
