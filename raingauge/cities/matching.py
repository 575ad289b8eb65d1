"""Finds the city ids of a list of places. It guesses nothing: what fits several cities, or none, is reported so."""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from raingauge.cities.folding import fold
from raingauge.cities.search import Cities, City, Coordinates, UnknownCountry
from raingauge.errors import UnusableFile

NEAR_KM: Final = 25.0
"""How far a city may be from the coordinates of its place."""
SHOWN: Final = 10
"""Candidates of a place in a report."""
COLUMNS: Final = {
    "name": ("name", "city", "place", "town"),
    "country": ("country", "country_code", "countrycode"),
    "admin1": ("admin1", "state", "region", "province"),
    "latitude": ("lat", "latitude"),
    "longitude": ("lon", "lng", "long", "longitude"),
}
"""The names that a column may have in the header."""
KINDS: Final = frozenset(
    ["province", "county", "region", "department", "district", "oblast", "state", "governorate", "municipality", "of"]
)
"""Words of a province's name that do not count: Montevideo Department is Montevideo."""

SEVERAL: Final = "several cities fit"
NO_SUCH_NAME: Final = "there is no city of this name"
NOT_THERE: Final = "the cities of this name are in other provinces"
TOO_FAR: Final = f"the cities of this name are more than {NEAR_KM:g} km away from there"
NONE_NEAR: Final = f"there is no city within {NEAR_KM:g} km"

Suggest = Callable[[str, Sequence[str]], list[str]]
"""Names that resemble the first one, of all the others; both folded."""


class PlacesError(UnusableFile):
    """The list of places cannot be read."""


class Place(NamedTuple):
    """A row of a list: a name, or coordinates, or both."""

    line: int
    """Its number in the list; the header is 1."""
    name: str
    country: str = ""
    admin1: str = ""
    near: Coordinates | None = None


class Match(NamedTuple):
    """What was found for a place: `city`, or the `reason` why there is none, in one sentence."""

    place: Place
    city: City | None
    reason: str = ""
    candidates: tuple[City, ...] = ()
    """Of those that fit the ten largest; if none fits, those that would but for the province or the distance."""
    suggestions: tuple[str, ...] = ()
    """Similar names, if there is no such name."""


def read_places(text: str) -> list[Place]:
    """The places of a CSV file with a header; columns are separated by commas, semicolons or tabs.

    Raises:
        PlacesError: it has no column with names or coordinates, or a row has wrong ones; the message names the line.
    """
    lines = text.removeprefix("\ufeff").splitlines()
    separator = max(",;\t", key=lines[0].count) if lines else ","
    try:
        return list(_places(csv.reader(lines, delimiter=separator)))
    except csv.Error as error:
        raise PlacesError(f"this is not CSV: {error}") from None


def match(
    cities: Cities, places: Iterable[Place], *, prefer_largest: bool = False, suggest: Suggest | None = None
) -> Iterator[Match]:
    """What is found for each place, in their order.

    `prefer_largest`: of several cities that fit, take the one with the most inhabitants, or report them if two have.
    """
    names: dict[str, list[str]] = {}
    for place in places:
        try:
            found = _by_name(cities, place) if place.name else _by_coordinates(cities, place)
        except UnknownCountry as error:
            yield Match(place, None, str(error))
            continue
        if prefer_largest and found.candidates and found.reason == SEVERAL:
            largest, second = found.candidates[:2]
            found = Match(place, largest) if largest.population > second.population else found
        if suggest and found.reason == NO_SUCH_NAME:
            if place.country not in names:
                names[place.country] = cities.names(place.country)
            found = found._replace(suggestions=tuple(suggest(fold(place.name), names[place.country])))
        yield found


def _by_name(cities: Cities, place: Place) -> Match:
    named = cities.named(place.name, place.country, place.near)
    if not named:
        return Match(place, None, NO_SUCH_NAME)
    fitting = _in_province(cities, named, place.admin1) if place.admin1 else named
    if not fitting:
        return Match(place, None, NOT_THERE, tuple(named[:SHOWN]))
    close = [city for city in fitting if city.distance_km is None or city.distance_km <= NEAR_KM]
    if not close:
        return Match(place, None, TOO_FAR, tuple(fitting[:SHOWN]))
    return Match(place, close[0]) if len(close) == 1 else Match(place, None, SEVERAL, tuple(close[:SHOWN]))


def _by_coordinates(cities: Cities, place: Place) -> Match:
    """The nearest city is no guess: it is what coordinates name."""
    nearest = cities.search(country=place.country, near=place.near, limit=3)
    if nearest and nearest[0].distance_km is not None and nearest[0].distance_km <= NEAR_KM:
        return Match(place, nearest[0])
    return Match(place, None, NONE_NEAR, tuple(nearest))


def _in_province(cities: Cities, found: Sequence[City], admin1: str) -> list[City]:
    codes = cities.admin1_codes(found)
    return [city for city in found if _bare(admin1) == _bare(city.admin1) or fold(admin1) == fold(codes[city.id])]


def _bare(province: str) -> list[str]:
    words = fold(province).split()
    return [word for word in words if word not in KINDS] or words


def _places(rows: Any) -> Iterator[Place]:
    """The places of a csv.reader, whose type the library keeps to itself."""
    header = [title.strip().lower() for title in next(rows, [])]
    columns = {
        column: header.index(title)
        for column, titles in COLUMNS.items()
        for title in reversed(titles)
        if title in header
    }
    if "name" not in columns and not {"latitude", "longitude"} <= columns.keys():
        raise PlacesError("line 1: expected a header with `name` and `country`, or with `lat` and `lon`")
    for row in rows:
        cells = {column: row[at].strip() for column, at in columns.items() if at < len(row)}
        if any(cells.values()):
            yield _place(rows.line_num, cells)


def _place(line: int, cells: Mapping[str, str]) -> Place:
    given = [cells.get(axis, "") for axis in ("latitude", "longitude")]
    near = None
    if any(given):
        try:
            near = (float(given[0]), float(given[1]))
        except ValueError:
            raise PlacesError(f"line {line}: {given[0]}, {given[1]} are no coordinates in degrees") from None
        if not (-90 <= near[0] <= 90 and -180 <= near[1] <= 180):
            raise PlacesError(f"line {line}: {given[0]}, {given[1]} is not on the earth")
    name = cells.get("name", "")
    if not name and near is None:
        raise PlacesError(f"line {line}: it has neither a name nor coordinates")
    return Place(line, name, cells.get("country", ""), cells.get("admin1", ""), near)
