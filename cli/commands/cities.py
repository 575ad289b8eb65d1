"""`raingauge cities search|match`: ids of cities, from the file of cities on this machine. No API is needed.

`match` guesses nothing: a place that fits several cities, or none, is reported with what is like it.
"""

import csv
import json
import sys
from collections.abc import Iterable
from typing import Final

from cli.city_ids import load_text
from cli.errors import Misused
from cli.output import document, note, table
from raingauge.cities.matching import Match, match, read_places
from raingauge.cities.search import City, UnknownCountry, open_cities
from raingauge.cities.suggestions import similar_names
from raingauge.errors import UnusableFile

HEADINGS: Final = ("id", "name", "country", "admin1", "latitude", "longitude", "population")
NUMBERS: Final = ("id", "latitude", "longitude", "population", "distance (km)")


def search(file: str, query: str, country: str, near: str, limit: int, *, as_json: bool) -> None:
    """Print the cities whose names begin with `query`, the largest first, or those nearest to `near` (`lat,lon`).

    Raises:
        Misused: there is no file of cities or no such country, or `near` is no place on the earth.
    """
    place = _coordinates(near) if near else None
    try:
        with open_cities(file) as cities:
            found = cities.search(query, country=country, near=place, limit=limit)
    except (UnusableFile, UnknownCountry) as error:
        raise Misused(str(error)) from error
    if as_json:
        return document(json.dumps({"cities": [city._asdict() for city in found]}, ensure_ascii=False).encode())
    if not found:
        return note("there is no such city; `raingauge cities match` suggests similar names")
    headings = HEADINGS if place is None else (*HEADINGS, "distance (km)")
    return table(headings, (_cells(city)[: len(headings)] for city in found), NUMBERS, ("name", "admin1"))


def match_places(file: str, places: str, *, prefer_largest: bool) -> None:
    """Print the cities of a list of places as CSV, in its order; what has none is reported on stderr.

    Raises:
        Misused: a file cannot be read, or some place has no city, or more than one.
    """
    try:
        wanted = read_places(load_text(places))
        with open_cities(file) as cities:
            missing = _write(match(cities, wanted, prefer_largest=prefer_largest, suggest=similar_names))
    except UnusableFile as error:
        raise Misused(str(error)) from error
    if missing:
        raise Misused(
            f"{missing:,} of {len(wanted):,} places in {places} fit no city or several, the others are on stdout; "
            f"correct their rows{'' if prefer_largest else ', or choose by --prefer largest'}"
        )


def _write(found: Iterable[Match]) -> int:
    """Print the matches; returns how many places have none."""
    rows, missing = csv.writer(sys.stdout, lineterminator="\n"), 0
    rows.writerow(HEADINGS)
    for each in found:
        if each.city is not None:
            rows.writerow(each.city[: len(HEADINGS)])
        else:
            missing += 1
            _report(each)
    return missing


def _report(each: Match) -> None:
    place = each.place
    name = ", ".join(filter(None, (place.name, place.admin1, place.country))) or f"{place.near}"
    similar = f"; similar names: {', '.join(each.suggestions)}" if each.suggestions else ""
    note(f"line {place.line}: {name}: {each.reason}{similar}")
    for city in each.candidates:
        away = "" if city.distance_km is None else f", {city.distance_km:.0f} km away"
        where = ", ".join(filter(None, (city.name, city.admin1, city.country)))
        note(f"  {city.id}  {where}, population {city.population:,}{away}")


def _cells(city: City) -> tuple[str, ...]:
    distance = "" if city.distance_km is None else f"{city.distance_km:.1f}"
    place = (f"{city.latitude:.4f}", f"{city.longitude:.4f}")
    return (str(city.id), city.name, city.country, city.admin1, *place, f"{city.population:,}", distance)


def _coordinates(text: str) -> tuple[float, float]:
    try:
        latitude, longitude = (float(part) for part in text.split(","))
    except ValueError:
        latitude = longitude = float("nan")
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        raise Misused(f"--near {text}: expected latitude and longitude in degrees, as in -34.9,-56.2")
    return latitude, longitude
