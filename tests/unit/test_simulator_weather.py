"""The invented weather: the same for a city and ten minutes, in the provider's shapes, with its gaps."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from simulator.places import load_places
from simulator.weather import group_body, single_body, slot_of

SLOT = slot_of(datetime(2026, 5, 1, 12, 34, 56, tzinfo=UTC))
PLACES = range(1000, 1600)


def single(city_id: int, slot: int = SLOT, metric: bool = True) -> dict[str, Any]:
    place = load_places().find(city_id)
    assert place is not None
    body: dict[str, Any] = json.loads(single_body(place, slot, metric))
    return body


@pytest.fixture(scope="module")
def many() -> list[dict[str, Any]]:
    places = load_places()
    found = [place for city_id in PLACES if (place := places.find(city_id))]
    items: list[dict[str, Any]] = json.loads(group_body(found, SLOT, True))["list"]
    return items


def numbers(value: object) -> Iterator[int | float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from numbers(inner)
    elif isinstance(value, int | float):
        yield value


def test_a_city_has_one_weather_for_ten_minutes() -> None:
    begin = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)
    assert slot_of(begin) == slot_of(begin.replace(minute=39, second=59)) == slot_of(begin.replace(minute=40)) - 1
    assert single(1000) == single(1000)


def test_the_weather_differs_between_cities_and_between_slots() -> None:
    assert single(1000)["main"] != single(1001)["main"]
    assert single(1000)["main"] != single(1000, SLOT + 1)["main"]


def test_the_observation_is_as_old_as_its_slot() -> None:
    assert single(1000)["dt"] == datetime(2026, 5, 1, 12, 30, tzinfo=UTC).timestamp()


def test_temperatures_come_in_kelvin_unless_metric_is_asked() -> None:
    kelvin, celsius = single(1000, metric=False)["main"], single(1000)["main"]
    for name in ("temp", "feels_like", "temp_min", "temp_max"):
        assert kelvin[name] == pytest.approx(celsius[name] + 273.15, abs=0.011)
    assert kelvin["humidity"] == celsius["humidity"]


def test_a_single_body_has_the_fields_of_the_provider_in_its_order() -> None:
    full = next(body for city_id in PLACES if "rain" in (body := single(city_id)) and "visibility" in body)
    assert list(full) == [
        *("coord", "weather", "base", "main", "visibility", "wind", "rain", "clouds", "dt", "sys"),
        *("timezone", "id", "name", "cod"),
    ]
    assert list(full["sys"]) == ["country", "sunrise", "sunset"]
    assert (full["base"], full["timezone"], full["cod"]) == ("stations", -10800, 200)


def test_a_group_item_has_the_fields_of_the_provider_in_its_order(many: list[dict[str, Any]]) -> None:
    full = next(item for item in many if "rain" in item and "visibility" in item)
    assert list(full) == [
        *("coord", "sys", "weather", "main", "visibility", "wind", "rain", "clouds", "dt", "id", "name"),
    ]
    assert list(full["sys"]) == ["country", "timezone", "sunrise", "sunset"]
    assert list(full["main"]) == ["temp", "feels_like", "temp_min", "temp_max", "pressure", "humidity"]


def test_a_group_and_a_single_call_tell_the_same_weather(many: list[dict[str, Any]]) -> None:
    alone = single(PLACES[0])
    assert {name: alone[name] for name in ("main", "wind", "dt", "coord")} == {
        name: many[0][name] for name in ("main", "wind", "dt", "coord")
    }


def test_optional_fields_are_missing_at_times(many: list[dict[str, Any]]) -> None:
    for name in ("visibility", "rain", "snow"):
        assert {name in item for item in many} == {True, False}
    for name in ("deg", "gust"):
        assert {name in item["wind"] for item in many} == {True, False}


def test_what_the_client_needs_is_never_missing(many: list[dict[str, Any]]) -> None:
    for item in many:
        assert 0 <= item["main"]["humidity"] <= 100
        assert item["main"]["temp_min"] <= item["main"]["temp"] <= item["main"]["temp_max"]
        assert (item["name"], item["sys"]["country"]) == (f"Place {item['id']}", "UY")


def test_whole_numbers_are_ints(many: list[dict[str, Any]]) -> None:
    assert not [number for number in numbers(many) if isinstance(number, float) and number.is_integer()]
    assert {type(item["main"]["temp"]) for item in many} == {int, float}


def test_the_icon_tells_day_from_night() -> None:
    icons = {
        single(1000, slot_of(datetime(2026, 5, 1, hour, tzinfo=UTC)))["weather"][0]["icon"][-1] for hour in (4, 16)
    }
    assert icons == {"d", "n"}
    assert single(1000, slot_of(datetime(2026, 5, 1, 4, tzinfo=UTC)))["weather"][0]["icon"].endswith("n")


def test_a_body_has_no_spaces_between_its_parts_and_speaks_utf_8() -> None:
    place = load_places().find(3439781)
    assert place is not None
    body = single_body(place, SLOT, True)
    assert b'"name":"Treinta y Tres","cod":200}' in body
    assert b", " not in body
    assert b": " not in body


def test_known_cities_have_their_names_and_coordinates() -> None:
    young = load_places().find(3439525)
    assert young is not None
    assert (young.name, young.country, young.latitude, young.longitude) == ("Young", "UY", -32.6984, -57.6269)


def test_a_city_without_a_name_in_the_list_is_invented_inside_uruguay() -> None:
    for city_id in (3440645, *PLACES):
        place = load_places().find(city_id)
        assert place is not None
        assert place.name == f"Place {city_id}"
        assert -34.2 <= place.latitude <= -31.8
        assert -57.5 <= place.longitude <= -54.6


def test_an_unknown_city_has_no_place() -> None:
    places = load_places(frozenset({3439525}))
    assert places.find(3439525) is None
    assert places.find(3439781) is not None
