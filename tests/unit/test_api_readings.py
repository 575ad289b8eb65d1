"""The endpoints of summaries: `/readings/summary` and `/compat/total`."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import httpx2
import pytest

from producer.api.readings.summary import TOO_MANY
from producer.readings import SUMMARIES_AT_ONCE, SUMMARY_S
from raingauge.database import Database
from tests.api_support import NOON, Front, assert_problem, observation

T = TypeVar("T")
AWAY = "the database cannot be used now: {}; nothing is half-done, try again"
NOTHING = {"total": 0.0, "count": 0, "mean": None, "min": None, "max": None}


async def summary(front: Front, **query: Any) -> httpx2.Response:
    return await front.http.get("/readings/summary", params=query)


async def test_a_field_of_what_is_selected_is_summed_up(front: Front) -> None:
    await front.collect(1, cities=[1, 2, 3])
    front.settle("1", [observation(1, 20.1), observation(2, 0.2)], {3: "unknown city"})
    temperatures = {"total": 20.3, "count": 2, "mean": 10.15, "min": 0.2, "max": 20.1}
    for query in ({}, {"id": 1}, {"field": "temperature"}, {"from": NOON.isoformat()}):
        assert (await summary(front, **query)).json() == temperatures
    one = {"count": 1, **dict.fromkeys(("total", "mean", "min", "max"), 20.1)}
    assert (await summary(front, id="1", city_id=1)).json() == one
    humidity = {"total": 110.0, "count": 2, "mean": 55.0, "min": 55.0, "max": 55.0}
    assert (await summary(front, field="humidity")).json() == humidity
    assert (await front.http.get("/compat/total/")).json() == {"total": 20.3}


async def test_of_nothing_there_is_no_mean(front: Front) -> None:
    queries: list[dict[str, Any]] = [
        {},
        {"city_id": 7},
        {"to": "2026-11-20T12:00:00Z"},
        {"from": "9999-12-31T23:59:59-23:59"},
        {"to": "0001-01-01T00:00:01+23:59"},
        {"from": "0001-01-01T00:00:01+23:59", "to": "0001-01-01T00:00:02+23:59"},
    ]
    for query in queries:
        assert (await summary(front, **query)).json() == NOTHING
        assert (await front.http.get("/compat/total")).json() == {"total": 0.0}


async def test_an_unknown_collection_is_not_found(front: Front) -> None:
    for name in ["7", "a/b", "\0", "x" * 65]:
        assert_problem(await summary(front, id=name), 404, f"there is no collection {name[:64]}")


async def test_a_wrong_parameter_is_refused(front: Front) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"field": "name"}, "field"),
        ({"field": "latitude"}, "field"),
        ({"field": ["humidity", "clouds"]}, "field"),
        ({"id": ""}, "id"),
        ({"city_id": 0}, "city_id"),
        ({"city_id": 2**31}, "city_id"),
        ({"from": "yesterday"}, "from"),
        ({"to": "2026-11-20T12:00:00"}, "to"),
        ({"from": "2026-11-20T12:00:00Z", "to": "2026-11-20T12:00:00Z"}, "from"),
        ({"since": "2026-11-20T12:00:00Z"}, "since"),
    ]
    for query, where in wrong:
        answer = await summary(front, **query)
        assert (answer.status_code, answer.json()["errors"][0]["where"]) == (422, where)


class Hangs:
    """Lets every transaction hang for ever; if the database is `there`, only those that read more than its time."""

    def __init__(self, *, there: bool) -> None:
        self.there = there
        self.under_way = self.most = 0

    async def __call__(self, work: Callable[[], T], /) -> T:
        if self.there and isinstance(result := work(), datetime):
            return result
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.Event().wait()
        finally:
            self.under_way -= 1
        raise AssertionError("unreachable")


async def test_a_summary_that_takes_too_long_is_given_up_with_a_clear_sentence(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.readings.SUMMARY_S", 0.1)
    hangs = Hangs(there=True)  # whether the database answers, not the sums
    front = Front(sqlite, hangs)
    answers = await asyncio.gather(*(summary(front, city_id=city) for city in range(1, 9)))
    for answer in answers:
        assert_problem(answer, 503, TOO_MANY)
        assert answer.headers["Retry-After"] == "2"
    # What was given up occupies its thread still, so nothing else begins.
    assert (hangs.most, hangs.under_way) == (SUMMARIES_AT_ONCE, SUMMARIES_AT_ONCE)


async def test_a_database_that_is_away_is_reported_as_early_as_elsewhere(sqlite: Database) -> None:
    began = asyncio.get_running_loop().time()
    answer = await summary(Front(sqlite, Hangs(there=False)))
    assert_problem(answer, 503, AWAY.format("no answer in time"))
    assert asyncio.get_running_loop().time() - began < SUMMARY_S / 2
