"""The invented weather: the same for a city and ten minutes, in the provider's shapes, with its gaps."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from simulator.weather import Place, Places, group_body, single_body, slot_of

SLOT = slot_of(datetime(2026, 5, 1, 12, 34, 56, tzinfo=UTC))
CITIES = range(1000, 1600)
PLACES = Places()


def place(city_id: int) -> Place:
    found = PLACES.find(city_id)
    assert found is not None
    return found


def single(city_id: int, slot: int = SLOT, metric: bool = True) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(single_body(place(city_id), slot, metric))
    return body


BODY = group_body(map(place, CITIES), SLOT, True)
ITEMS: list[dict[str, Any]] = json.loads(BODY)["list"]


def test_a_city_has_one_weather_for_ten_minutes_and_another_one_afterwards() -> None:
    begin = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)
    assert slot_of(begin) == slot_of(begin.replace(minute=39, second=59)) == slot_of(begin.replace(minute=40)) - 1
    assert single(1000) == single(1000)
    assert single(1000)["dt"] == begin.timestamp()
    assert single(1000)["main"] != single(1001)["main"]
    assert single(1000)["main"] != single(1000, SLOT + 1)["main"]


def test_temperatures_are_in_kelvin_unless_metric_is_requested() -> None:
    kelvin, celsius = single(1000, metric=False)["main"], single(1000)["main"]
    for name in ("temp", "feels_like", "temp_min", "temp_max"):
        assert kelvin[name] == pytest.approx(celsius[name] + 273.15, abs=0.011)
    assert kelvin["humidity"] == celsius["humidity"]


def test_bodies_have_the_providers_fields_in_its_order() -> None:
    full = next(item for item in ITEMS if "rain" in item and "visibility" in item)
    assert " ".join(full) == "coord sys weather main visibility wind rain clouds dt id name"
    assert list(full["sys"]) == ["country", "timezone", "sunrise", "sunset"]
    assert list(full["main"]) == ["temp", "feels_like", "temp_min", "temp_max", "pressure", "humidity"]
    alone = single(full["id"])
    assert " ".join(alone) == "coord weather base main visibility wind rain clouds dt sys timezone id name cod"
    assert list(alone["sys"]) == ["country", "sunrise", "sunset"]
    assert (alone["base"], alone["timezone"], alone["cod"]) == ("stations", -10800, 200)
    for name in full.keys() - {"sys"}:
        assert alone[name] == full[name]


def test_optional_fields_are_missing_at_times_and_needed_ones_never() -> None:
    for name in ("visibility", "rain", "snow"):
        assert {name in item for item in ITEMS} == {True, False}
    for name in ("deg", "gust"):
        assert {name in item["wind"] for item in ITEMS} == {True, False}
    for item in ITEMS:
        assert 0 <= item["main"]["humidity"] <= 100
        assert item["main"]["temp_min"] <= item["main"]["temp"] <= item["main"]["temp_max"]
        assert (item["name"], item["sys"]["country"]) == (f"Place {item['id']}", "UY")


def test_a_body_is_compact_and_its_whole_numbers_are_ints() -> None:
    assert not re.search(rb"\d\.0\b", BODY)
    assert {type(item["main"]["temp"]) for item in ITEMS} == {int, float}
    body = single_body(place(3439781), SLOT, True)
    assert b'"name":"Treinta y Tres","cod":200}' in body
    assert not re.search(rb"[,:] ", body)


@pytest.mark.parametrize(("hour", "icon"), [(4, "n"), (16, "d")])
def test_the_icon_tells_day_from_night(hour: int, icon: str) -> None:
    slot = slot_of(datetime(2026, 5, 1, hour, tzinfo=UTC))
    assert single(1000, slot)["weather"][0]["icon"].endswith(icon)


def test_known_cities_have_their_places_others_are_invented_inside_uruguay_and_unknown_ones_have_none() -> None:
    assert place(3439525) == Place(3439525, "Young", "UY", -32.6984, -57.6269)
    assert place(3440645).name == "Departamento de San José"
    for city_id in CITIES:
        found = place(city_id)
        assert found.name == f"Place {city_id}"
        assert -34.2 <= found.latitude <= -31.8
        assert -57.5 <= found.longitude <= -54.6
    assert Places(frozenset({3439525})).find(3439525) is None
