"""`POST /collect?dry_run=true`: what a collection would cost and when it would be done; nothing is accepted."""

from datetime import timedelta
from functools import partial
from typing import Any

import httpx2
import pytest

from producer.freshness import MAX_COUNTED
from raingauge.database import Database
from raingauge.storage import cities
from tests.api_support import NOON, Front, assert_problem, observation, settings_for


@pytest.fixture
def front(served: Front) -> Front:
    return served


async def dry_run(front: Front, id: int | str = 1, **more: Any) -> httpx2.Response:  # noqa: A002
    return await front.http.post("/collect?dry_run=true", json={"id": id, **more})


def see(front: Front, *city_ids: int, unknown: tuple[int, ...] = ()) -> None:
    """These were fetched now."""
    now = front.clock.moment
    seen = {city_id: observation(city_id) for city_id in city_ids}
    for fetched_at in (now - cities.UNKNOWN_TWICE_IN, now):
        front.database.write(partial(cities.remember, observed=seen, unknown=unknown, fetched_at=fetched_at))


async def test_it_tells_what_a_collection_would_cost_and_when_it_would_be_done(front: Front) -> None:
    answer = await dry_run(front)
    assert (answer.status_code, "location" in answer.headers) == (200, False)
    counts = {"total": 167, "batches": 9, "settled": 0, "fresh": 0, "cost": 167}
    assert answer.json() == {"id": "1", **counts, "expected_at": "2026-11-20T12:02:40.000Z"}
    await front.assert_nothing_happened()


async def test_the_real_post_answers_the_same_moment(front: Front) -> None:
    see(front, *range(1, 31))
    wanted = list(range(1, 81))
    foreseen = await dry_run(front, cities=wanted)
    assert (foreseen.json()["fresh"], foreseen.json()["cost"]) == (30, 50)
    accepted = await front.collect(1, cities=wanted)
    assert (accepted.status_code, accepted.json()["expected_at"]) == (202, foreseen.json()["expected_at"])


@pytest.mark.parametrize(("age_s", "max_age_s", "fresh"), [(600, 600, 2), (601, 600, 1), (601, 601, 2), (0, 0, 2)])
async def test_cities_that_are_fresh_or_known_to_be_unknown_cost_nothing(
    front: Front, age_s: int, max_age_s: int, fresh: int
) -> None:
    see(front, 1, unknown=(2,))
    front.clock.moment = NOON + timedelta(seconds=age_s)
    body = (await dry_run(front, cities=[1, 2, 3], max_age_s=max_age_s)).json()
    assert (body["fresh"], body["cost"]) == (fresh, 3 - fresh)


async def test_when_all_is_fresh_it_is_done_at_once_and_an_unknown_city_is_so_for_a_day(front: Front) -> None:
    see(front, 1, unknown=(2,))
    body = (await dry_run(front, cities=[1, 2])).json()
    assert (body["fresh"], body["cost"], body["expected_at"]) == (2, 0, "2026-11-20T12:00:00.000Z")
    front.clock.moment = NOON + timedelta(days=1, microseconds=1)
    assert (await dry_run(front, cities=[2])).json()["cost"] == 1


async def test_of_a_collection_that_stands_it_tells_what_it_costs_still(front: Front) -> None:
    await front.collect(1, cities=[1, 2, 3, 4])
    front.settle("1", [observation(1)], {2: "unknown city"})
    see(front, 3)
    body = (await dry_run(front, cities=[1, 2, 3, 4])).json()
    assert [body[name] for name in ("total", "settled", "fresh", "cost")] == [4, 2, 1, 1]
    assert front.relay.woken == 1


async def test_of_a_collection_that_is_over_it_tells_that_it_costs_nothing(front: Front) -> None:
    for id in ("done", "cancelled"):  # noqa: A001
        await front.collect(id, cities=[1, 2])
    front.settle("done", [observation(1), observation(2)])
    await front.http.post("/collections/cancelled/cancel")
    for id, settled, expected_at in (("done", 2, "2026-11-20T12:00:00.000Z"), ("cancelled", 0, None)):  # noqa: A001
        body = (await dry_run(front, id, cities=[1, 2])).json()
        assert [body[name] for name in ("settled", "fresh", "cost", "expected_at")] == [settled, 0, 0, expected_at]


async def test_an_id_that_stands_for_another_request_is_refused_as_for_real(front: Front) -> None:
    await front.collect(1, cities=[1])
    detail = "a collection 1 exists already, with other cities or another max_age_s"
    assert_problem(await dry_run(front, cities=[2]), 409, detail)


async def test_without_a_consumer_nobody_knows_when(sqlite: Database) -> None:
    body = (await dry_run(Front(sqlite))).json()
    assert (body["cost"], body["expected_at"]) == (167, None)


async def test_more_cities_than_fit_into_a_statement_are_counted(front: Front) -> None:
    see(front, *range(1, 2501, 2))
    assert (await dry_run(front, cities=list(range(1, 2502)))).json()["fresh"] == 1250


async def test_of_a_large_collection_the_real_post_does_not_count_what_is_fresh(front: Front) -> None:
    see(front, *range(1, 1001))
    wanted = list(range(1, MAX_COUNTED + 2))
    foreseen = (await dry_run(front, cities=wanted)).json()
    accepted = (await front.collect(1, cities=wanted)).json()
    assert (foreseen["fresh"], foreseen["cost"]) == (1000, MAX_COUNTED - 999)
    assert foreseen["expected_at"] < accepted["expected_at"]


async def test_the_request_is_checked_as_for_real(sqlite: Database) -> None:
    front = Front(sqlite, settings=settings_for(3))
    for body in ({"cities": [0]}, {"cities": [1, 2, 3, 4]}, {"max_age_s": -1}, {"x": 1}):
        real = await front.collect(1, **body)
        foreseen = await dry_run(front, **body)
        assert (foreseen.status_code, foreseen.json()) == (422, real.json())


@pytest.mark.parametrize("text", ["true", "1", "True", "yes", "on"])
async def test_truth_is_said_as_in_other_parameters(front: Front, text: str) -> None:
    answer = await front.http.post(f"/collect?dry_run={text}", json={"id": 1})
    assert (answer.status_code, front.rows()) == (200, (0, 0, 0))
    assert (await front.http.post("/collect?dry_run=false", json={"id": 1})).status_code == 202


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("dry_run=perhaps", "dry_run: Input should be a valid boolean, unable to interpret input"),
        ("dry_run=", "dry_run: Input should be a valid boolean, unable to interpret input"),
        ("dryrun=true", "dryrun: it is not known here"),
        ("dry_run=true&dry_run=false", "dry_run: it is given more than once"),
    ],
)
async def test_a_parameter_that_could_be_meant_otherwise_is_refused(front: Front, query: str, detail: str) -> None:
    assert_problem(await front.http.post(f"/collect?{query}", json={"id": 1}), 422, detail)
    assert_problem(await front.http.post(f"/collect?{query}", json={}), 422, f"{detail}; id: it is missing")
    await front.assert_nothing_happened()
