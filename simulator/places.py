"""Where the cities are. Only names and coordinates: the weather is invented in `weather`.

The known cities' names and coordinates come from GeoNames (https://www.geonames.org), licensed under Creative Commons
Attribution 4.0 (https://creativecommons.org/licenses/by/4.0/); they are read from `producer/cities.csv`.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Place:
    """One city: coordinates in degrees, the country's code of two letters."""

    city_id: int
    name: str
    country: str
    latitude: float
    longitude: float


class Places:
    """Finds the place of a city id: a known one, or one invented inside Uruguay, always the same for an id."""

    def __init__(self, known: Mapping[int, Place], unknown: frozenset[int]) -> None:
        self._known = known
        self._unknown = unknown

    def find(self, city_id: int) -> Place | None:
        """The place, or None for the ids that the simulator is told not to know."""
        if city_id in self._unknown:
            return None
        return self._known.get(city_id) or _invented(city_id)


def load_places(unknown: frozenset[int] = frozenset()) -> Places:
    """Read `producer/cities.csv`; its rows without a name count as not known and get an invented place."""
    with files("producer").joinpath("cities.csv").open(encoding="utf-8") as lines:
        named = [row for row in csv.DictReader(lines) if row["name"]]
    return Places({place.city_id: place for place in map(_read, named)}, unknown)


def _read(row: Mapping[str, str]) -> Place:
    latitude, longitude = round(float(row["latitude"]), 4), round(float(row["longitude"]), 4)
    return Place(int(row["id"]), row["name"], row["country"], latitude, longitude)


def _invented(city_id: int) -> Place:
    draws = blake2b(b"%d" % city_id, digest_size=4).digest()
    # A rectangle that lies inside Uruguay as a whole.
    latitude = -34.2 + 2.4 * int.from_bytes(draws[:2]) / 65535
    longitude = -57.5 + 2.9 * int.from_bytes(draws[2:]) / 65535
    return Place(city_id, f"Place {city_id}", "UY", round(latitude, 4), round(longitude, 4))
