"""The invented weather and the bodies that carry it. Pure: one weather for each city and ten minutes.

Shapes: openweathermap.org/current. Whole numbers are ints; wind.deg, wind.gust, visibility, rain and snow are left out
at times, as the provider does. Times are Unix seconds.
"""

import json
import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import blake2b
from typing import Final

from simulator.places import Place

SLOT_S: Final = 600
"""The provider's weather of a place changes at most every 10 minutes."""

UTC_OFFSET_S: Final = -10_800
"""All places are in Uruguay."""

_DAY_S: Final = 86_400
_ZERO_CELSIUS_K: Final = 273.15
_SNOW: Final = (600, "Snow", "light snow", "13", 100)
_SKIES: Final = (
    (800, "Clear", "clear sky", "01", 0),
    (801, "Clouds", "few clouds", "02", 20),
    (802, "Clouds", "scattered clouds", "03", 40),
    (803, "Clouds", "broken clouds", "04", 75),
    (804, "Clouds", "overcast clouds", "04", 100),
    (701, "Mist", "mist", "50", 90),
    (500, "Rain", "light rain", "10", 95),
    (501, "Rain", "moderate rain", "10", 100),
)
_GROUP_ORDER: Final = (
    "coord",
    "sys",
    "weather",
    "main",
    "visibility",
    "wind",
    "rain",
    "snow",
    "clouds",
    "dt",
    "id",
    "name",
)
_SINGLE_ORDER: Final = (
    *("coord", "weather", "base", "main", "visibility", "wind", "rain", "snow", "clouds", "dt", "sys"),
    *("timezone", "id", "name", "cod"),
)


def slot_of(moment: datetime) -> int:
    """The number of the ten minutes that a moment lies in, counted from 1970."""
    return int(moment.timestamp()) // SLOT_S


def group_body(places: Iterable[Place], slot: int, metric: bool) -> bytes:
    """The body for many cities, in the order of the places."""
    zone = {"timezone": UTC_OFFSET_S}
    items = [_ordered(_weather(place, slot, metric, zone), _GROUP_ORDER) for place in places]
    return compact({"cnt": len(items), "list": items})


def single_body(place: Place, slot: int, metric: bool) -> bytes:
    """The body for one city; its time zone stands beside `sys`, not in it."""
    around = {"base": "stations", "timezone": UTC_OFFSET_S, "cod": 200}
    return compact(_ordered(_weather(place, slot, metric, {}) | around, _SINGLE_ORDER))


def compact(value: object) -> bytes:
    """JSON without spaces, in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _ordered(fields: Mapping[str, object], order: Iterable[str]) -> dict[str, object]:
    return {name: fields[name] for name in order if name in fields}


def _weather(place: Place, slot: int, metric: bool, zone: Mapping[str, int]) -> dict[str, object]:
    draws = blake2b(b"%d/%d" % (place.city_id, slot), digest_size=16).digest()
    now = slot * SLOT_S
    sunrise, sunset = _sun(now)
    sky = _SNOW if draws[0] >= 252 else _SKIES[draws[0] % len(_SKIES)]
    condition, main, description, icon, clouds = sky
    weather: dict[str, object] = {
        "coord": {"lon": _number(place.longitude, 4), "lat": _number(place.latitude, 4)},
        "sys": {"country": place.country, **zone, "sunrise": sunrise, "sunset": sunset},
        "weather": [_condition(condition, main, description, icon + ("d" if sunrise <= now < sunset else "n"))],
        "main": _main(draws, now, metric),
        "wind": _wind(draws),
        "clouds": {"all": clouds},
        "dt": now,
        "id": place.city_id,
        "name": place.name,
    }
    if draws[1] % 8:
        weather["visibility"] = 10_000 if draws[1] % 2 else 500 * (1 + draws[1] % 16)
    if main in ("Rain", "Snow") and draws[2] % 8:
        weather[main.lower()] = {"1h": _number(0.1 + draws[2] / 50, 2)}
    return weather


def _condition(condition: int, main: str, description: str, icon: str) -> dict[str, object]:
    return {"id": condition, "main": main, "description": description, "icon": icon}


def _sun(now: int) -> tuple[int, int]:
    midnight = (now + UTC_OFFSET_S) // _DAY_S * _DAY_S - UTC_OFFSET_S
    return midnight + 23_400, midnight + 70_200


def _main(draws: bytes, now: int, metric: bool) -> dict[str, int | float]:
    hour = (now + UTC_OFFSET_S) % _DAY_S / 3600
    celsius = 17 + 6 * math.sin((hour - 9) * math.tau / 24) + (int.from_bytes(draws[3:5]) / 65535 - 0.5) * 8
    digits = 2 if draws[5] % 8 else 0
    celsius = round(celsius, digits)

    def temperature(difference: float) -> int | float:
        return _number(celsius + difference + (0 if metric else _ZERO_CELSIUS_K), 2)

    return {
        "temp": temperature(0),
        "feels_like": temperature(draws[6] / 64 - 2),
        "temp_min": temperature(-draws[7] / 128),
        "temp_max": temperature(draws[8] / 128),
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
    whole = int(rounded)
    return whole if rounded == whole else rounded
