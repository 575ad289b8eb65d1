"""Matching a list of places: ids where there is one answer, a report where there is none."""

import pytest

from raingauge.cities.matching import (
    NO_SUCH_NAME,
    NONE_NEAR,
    NOT_THERE,
    SEVERAL,
    TOO_FAR,
    Match,
    Place,
    PlacesError,
    match,
    read_places,
)
from raingauge.cities.search import Cities
from raingauge.cities.suggestions import similar_names


def only(cities: Cities, *place: object, **how: bool) -> Match:
    (found,) = match(cities, [Place(2, *place)], suggest=similar_names, **how)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize(
    ("place", "city_id"),
    [
        (("Montevideo", "UY"), 3441575),
        (("montevideo",), 3441575),
        (("München", "Germany"), 2867714),
        (("Salto", "Argentina"), 3837441),
        (("Springfield", "US", "Illinois"), 4250542),
        (("Springfield", "US", "mo"), 4409896),
        (("Montevideo", "UY", "Montevideo"), 3441575),
        (("Salto", "", "", (-31.4, -57.9)), 3440714),
        (("", "", "", (-34.9, -56.2)), 3441575),
    ],
)
def test_a_place_that_fits_one_city_is_matched(cities: Cities, place: tuple[object, ...], city_id: int) -> None:
    found = only(cities, *place)
    assert found.city is not None
    assert found.city.id == city_id
    assert (found.reason, found.candidates, found.suggestions) == ("", (), ())


@pytest.mark.parametrize(
    ("place", "reason", "candidates"),
    [
        (("Springfield", "US"), SEVERAL, [4409896, 4951788, 4250542]),
        (("Salto",), SEVERAL, [3440714, 3837441]),
        (("Springfield", "US", "Texas"), NOT_THERE, [4409896, 4951788, 4250542]),
        (("Salto", "", "", (0.0, 0.0)), TOO_FAR, [3440714, 3837441]),
        (("", "UY", "", (-34.0, -60.0)), NONE_NEAR, [3439525, 3440714, 3441575]),
        (("Atlantis",), NO_SUCH_NAME, []),
        (("Montevideo", "US"), NO_SUCH_NAME, []),
    ],
)
def test_what_fits_several_cities_or_none_is_reported_with_those_that_come_close(
    cities: Cities, place: tuple[object, ...], reason: str, candidates: list[int]
) -> None:
    found = only(cities, *place)
    assert (found.city, found.reason) == (None, reason)
    assert [city.id for city in found.candidates] == candidates


def test_the_largest_is_taken_only_where_that_was_chosen_and_the_rest_fits(cities: Cities) -> None:
    largest = only(cities, "Springfield", "US", prefer_largest=True).city
    assert largest is not None
    assert largest.id == 4409896
    assert only(cities, "Springfield", "US", "Texas", prefer_largest=True).city is None


def test_a_typo_gets_suggestions_from_its_country(cities: Cities) -> None:
    assert only(cities, "Montevidoe", "UY").suggestions == ("montevideo",)
    assert only(cities, "Montevidoe", "US").suggestions == ()
    assert only(cities, "Montevidoe", "Atlantis").reason.startswith("there is no country Atlantis")


@pytest.mark.parametrize(
    "text",
    [
        "name,country,state,lat,lon\nSalto,UY,Salto,-31.4,-57.9\n\n",
        "\ufeffCity;Country;Region;Latitude;Longitude\r\n Salto ;UY;Salto;-31.4;-57.9\r\n;;;;\r\n",
        "lat\tlng\tother\tplace\tcountry\tadmin1\n-31.4\t-57.9\tx\tSalto\tUY\tSalto",
    ],
)
def test_lists_are_read_in_the_forms_that_people_have(text: str) -> None:
    assert read_places(text) == [Place(2, "Salto", "UY", "Salto", (-31.4, -57.9))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected a header"),
        ("town_name,country\nSalto,UY", "line 1: expected a header"),
        ("name,lat,lon\nSalto,,\nSalto,1,\n", "line 3: 1,  are no coordinates"),
        ("lat,lon\n91,0\n", "line 2: 91, 0 is not on the earth"),
        ("lat,lon\nnan,0\n", "line 2: nan, 0 is not on the earth"),
        ("name,country\n,UY\n", "line 2: it has neither"),
    ],
)
def test_a_list_that_cannot_be_read_is_refused_with_the_line(text: str, message: str) -> None:
    with pytest.raises(PlacesError, match=message):
        read_places(text)
