"""`POST /collect`: what it answers, what it stores, and what it answers the second time."""

import asyncio
from contextlib import closing

import httpx2
import pytest

from producer.api.schemas import AcceptedBody
from producer.cities import default_cities
from raingauge.blocking import Threads
from raingauge.database import Database
from tests.api_support import JSON, Front, assert_problem, observation, settings_for

ACCEPTED = {"id": "1", "status": "queued", "total": 167, "batches": 9, "expected_at": "2026-11-20T12:02:40.000Z"}


async def test_a_collection_is_accepted_with_its_location_and_what_to_expect(served: Front) -> None:
    answer = await served.collect(1)
    assert (answer.status_code, answer.headers["location"]) == (202, "/get?id=1")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == ACCEPTED
    assert list(answer.json()) == list(AcceptedBody.model_fields), "in the order of the documentation"


async def test_without_a_consumer_it_waits_but_the_relay_is_woken_and_publishes_its_batches(front: Front) -> None:
    answer = await front.collect(1)
    assert (answer.status_code, answer.json()) == (202, ACCEPTED | {"status": "waiting", "expected_at": None})
    assert len({*default_cities()}) == ACCEPTED["total"], "none is named twice"
    assert front.relay.woken == 1
    await front.relay.work_once()
    assert front.shelf.keys == [f"1/{batch}" for batch in range(9)]


async def test_the_same_request_again_collects_nothing_twice_and_answers_the_state_as_it_stands(front: Front) -> None:
    first = await front.collect("x", cities=[1, 2])
    again = await front.collect("x", cities=[1, 2])
    assert (again.status_code, again.headers["location"], again.json()) == (200, "/get?id=x", first.json())
    assert (front.rows(), front.relay.woken) == ((1, 1, 0), 1)
    front.settle("x", [observation(1), observation(2)])
    late = await front.collect("x", cities=[1, 2])
    done = first.json() | {"status": "done", "expected_at": "2026-11-20T12:00:00.000Z"}
    assert (late.status_code, late.json()) == (200, done)


async def test_of_parallel_requests_of_one_id_one_wins_and_the_same_ones_make_one_collection(sqlite: Database) -> None:
    with closing(Threads(16, "test")) as threads:
        front = Front(sqlite, threads, deadline_s=60)
        same = await asyncio.gather(*(front.collect("same") for _ in range(50)))
        assert (front.rows(), front.relay.woken) == ((1, 9, 0), 1)
        other = await asyncio.gather(*(front.collect("other", cities=[n + 1]) for n in range(8)))
    assert sorted(answer.status_code for answer in same) == [200] * 49 + [202]
    assert sorted(answer.status_code for answer in other) == [202] + [409] * 7
    assert front.rows() == (2, 10, 0)


Request = dict[str, object]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"cities": [1]}),
        ({}, {"cities": list(default_cities())}),
        ({"cities": [1]}, {}),
        ({"cities": [1, 2]}, {"cities": [1, 3]}),
        ({"cities": [1, 2]}, {"cities": [1]}),
        ({"max_age_s": 5}, {"max_age_s": 6}),
        ({}, {"max_age_s": 0}),
    ],
    ids=["some", "the default by name", "no more", "another", "fewer", "older", "new"],
)
async def test_the_same_id_for_another_request_is_refused(front: Front, first: Request, second: Request) -> None:
    await front.collect(1, **first)
    before = front.rows()
    answer = await front.collect(1, **second)
    detail = "a collection 1 exists already, with other cities or another max_age_s"
    assert assert_problem(answer, 409, detail)["title"] == "Conflict"
    assert (front.rows(), front.relay.woken) == (before, 1)


async def test_what_is_left_out_or_in_another_order_makes_no_other_request(sqlite: Database) -> None:
    front = Front(sqlite, settings=settings_for(3))
    first = await front.collect(1, cities=[2**31 - 1, 1, 2, 1], max_age_s=86_400)
    assert (first.status_code, first.json()["total"]) == (202, 3)
    assert (await front.collect(1, cities=[1, 2, 2, 2**31 - 1])).status_code == 200
    assert (await front.collect(1, cities=[1])).status_code == 409
    usual = front.settings.freshness.max_age_s
    assert [(await front.collect(2, cities=[1], **age)).status_code for age in ({}, {"max_age_s": usual})] == [202, 200]


@pytest.mark.parametrize(("first", "second"), [(1, "1"), ("1", 1), (-7, "-7"), (0, "0")])
async def test_a_number_and_its_text_are_the_same_id(front: Front, first: int | str, second: int | str) -> None:
    await front.collect(first)
    assert (await front.collect(second)).status_code == 200
    assert (await front.body(first))["id"] == str(first)


@pytest.mark.parametrize(("first", "second"), [("abc", "Abc"), ("1", "01"), ("a", "a-"), ("x.y", "x_y")])
async def test_ids_that_only_look_alike_are_different(front: Front, first: str, second: str) -> None:
    assert [(await front.collect(id)).status_code for id in (first, second)] == [202, 202]  # noqa: A001
    assert [(await front.body(id))["id"] for id in (first, second)] == [first, second]  # noqa: A001


async def test_the_location_of_every_allowed_id_leads_to_its_collection(front: Front) -> None:
    ids: list[int | str] = ["a" * 64, "A-Z_0.9", "...", "-", 10**63, -(10**62), "null"]
    for id in ids:  # noqa: A001
        answer = await front.collect(id, cities=[1])
        location = httpx2.URL(answer.headers["location"])
        assert (location.path, dict(location.params)) == ("/get", {"id": str(id)})
        assert (await front.http.get(answer.headers["location"])).json()["id"] == str(id)


async def test_a_byte_order_mark_and_parameters_of_the_content_type_do_no_harm(front: Front) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    answer = await front.http.post("/collect", content='\ufeff{"id": 1}'.encode(), headers=headers)
    assert answer.status_code == 202


async def test_the_largest_collection_fits_into_the_limits_however_its_body_is_spaced(sqlite: Database) -> None:
    front = Front(sqlite, settings=settings_for(2000))
    cities = ",\n        ".join(str(2**31 - 1 - number) for number in range(2000))
    spaced = f'{{"id": 1, "cities": [{cities}]}}'.replace("\n        ", "\n    ")
    answer = await front.http.post("/collect", content=spaced, headers=JSON)
    assert (answer.status_code, answer.json()["total"], answer.json()["batches"]) == (202, 2000, 100)
