"""The default cities: what a collection that names none collects.

Names and coordinates in `cities.csv` come from GeoNames (geonames.org), licensed under CC BY 4.0; those of places that
are no cities there, such as departments and districts, from the provider's list, which is made from GeoNames too.
"""

import csv
from importlib.resources import files


def default_cities() -> tuple[int, ...]:
    """The ids of the 167 default cities, in the file's order."""
    with files("producer").joinpath("cities.csv").open(encoding="utf-8") as lines:
        return tuple(int(row["id"]) for row in csv.DictReader(lines))
