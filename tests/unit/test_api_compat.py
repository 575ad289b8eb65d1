"""The APIs of older services: what their scenario files cannot reach."""

from typing import Any

import pytest

from producer.api.compat.default_collections import PAGE_ROWS
from producer.api.compat.weather import percent
from raingauge.database import Database
from tests.api_support import Front, assert_problem, observation


@pytest.mark.parametrize(
    ("settled", "total", "text"),
    [
        (0, 167, "0%"),
        (2, 167, "1.2%"),
        (60, 167, "35.93%"),
        (1, 2, "50%"),
        (166, 167, "99.4%"),
        (167, 167, "100%"),
        (249_999, 250_000, "99.99%"),
        (1, 250_000, "0%"),
    ],
)
def test_percent_have_two_decimals_at_most_and_are_100_only_at_the_end(settled: int, total: int, text: str) -> None:
    assert percent(settled, total) == text


async def test_a_request_of_more_cities_than_a_page_is_answered_whole(sqlite: Database) -> None:
    front = Front(sqlite)
    cities = [*range(1, PAGE_ROWS + 3)]
    await front.collect(1, cities=cities)
    front.settle("1", [observation(city) for city in cities[1:]], {1: "unknown city"})
    answer = await front.http.get("/compat/collection-request/collection-request/1")
    assert [row["city_id"] for row in answer.json()["city_weather_info"]] == cities[1:]


async def test_a_request_that_is_deleted_while_it_is_read_is_not_answered_in_part(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = Front(sqlite)
    cities = [*range(1, PAGE_ROWS + 3)]
    await front.collect(1, cities=cities)
    front.settle("1", map(observation, cities))
    read = front.collections.read

    async def read_and_delete(*given: Any) -> Any:
        found = await read(*given)
        await front.http.delete("/collections/1")
        return found

    monkeypatch.setattr(front.collections, "read", read_and_delete)
    answer = await front.http.get("/compat/collection-request/collection-request/1")
    assert_problem(answer, 404, "the collection 1 or its readings were deleted meanwhile")


async def test_each_new_collection_wakes_the_relay_once(sqlite: Database) -> None:
    front = Front(sqlite)
    for path, body in (("weather/weather", {"user_id": 1}), ("collection-request/collection-request", {"id": 2})):
        for _ in range(2):
            await front.http.post(f"/compat/{path}", json=body)
    assert (front.rows(), front.relay.woken) == ((2, 18, 0), 2)
