"""`POST /collect`: what it answers, what it stores, and what it answers the second time."""

import asyncio
from contextlib import closing

import httpx2
import pytest
from sqlalchemy import select

from producer.api.schemas import AcceptedBody
from producer.cities import default_cities
from raingauge.blocking import Threads
from raingauge.database import Database
from raingauge.model import BATCH_SIZE
from raingauge.storage.models import Batch
from tests.api_support import JSON, Front, assert_problem, observation, settings_for


@pytest.fixture
def front(sqlite: Database) -> Front:
    return Front(sqlite)


async def test_a_collection_is_accepted_with_its_location_and_what_to_expect(front: Front) -> None:
    front.beat()
    front.open_gate()
    answer = await front.collect(1)
    assert (answer.status_code, answer.headers["location"]) == (202, "/get?id=1")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "id": "1",
        "status": "queued",
        "total": 167,
        "batches": 9,
        "expected_at": "2026-11-20T12:02:40.000Z",
    }
    assert list(answer.json()) == list(AcceptedBody.model_fields), "in the order of the documentation"


async def test_without_a_consumer_it_is_accepted_and_waits(front: Front) -> None:
    answer = await front.collect(1)
    assert (answer.status_code, answer.json()["status"], answer.json()["expected_at"]) == (202, "waiting", None)


async def test_the_default_cities_travel_in_eight_full_batches_and_one_of_seven(front: Front) -> None:
    await front.collect(1)
    stored = front.database.read(lambda c: c.execute(select(Batch.batch, Batch.size).order_by(Batch.batch)).all())
    assert [tuple(row) for row in stored] == [(number, BATCH_SIZE) for number in range(8)] + [(8, 7)]
    assert len(set(default_cities())) == 167


async def test_an_accepted_collection_wakes_the_relay_which_publishes_its_batches(front: Front) -> None:
    await front.collect(1)
    assert front.relay.woken == 1
    await front.relay.work_once()
    assert front.shelf.keys == [f"1/{batch}" for batch in range(9)]


async def test_the_same_request_again_answers_200_and_collects_nothing_twice(front: Front) -> None:
    first = await front.collect(1)
    again = await front.collect(1)
    assert (again.status_code, again.headers["location"], again.json()) == (200, "/get?id=1", first.json())
    assert (front.rows(), front.relay.woken) == ((1, 9, 0), 1)


async def test_the_same_request_again_answers_the_state_as_it_stands(front: Front) -> None:
    await front.collect("x", cities=[1, 2])
    front.settle("x", [observation(1), observation(2)])
    again = await front.collect("x", cities=[1, 2])
    assert (again.status_code, again.json()["status"]) == (200, "done")
    assert again.json()["expected_at"] == "2026-11-20T12:00:00.000Z"


async def test_fifty_parallel_requests_of_one_id_make_one_collection(sqlite: Database) -> None:
    with closing(Threads(16, "test")) as threads:
        front = Front(sqlite, threads, deadline_s=60)
        answers = await asyncio.gather(*(front.collect("same") for _ in range(50)))
    assert sorted(answer.status_code for answer in answers) == [200] * 49 + [202]
    assert (front.rows(), front.relay.woken) == ((1, 9, 0), 1)


async def test_parallel_requests_of_one_id_for_different_cities_let_one_win(sqlite: Database) -> None:
    with closing(Threads(16, "test")) as threads:
        front = Front(sqlite, threads, deadline_s=60)
        answers = await asyncio.gather(*(front.collect("same", cities=[n + 1]) for n in range(8)))
    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 7
    assert front.rows() == (1, 1, 0)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"cities": [1]}),
        ({"cities": [1]}, {}),
        ({"cities": [1, 2]}, {"cities": [1, 3]}),
        ({"cities": [1, 2]}, {"cities": [1]}),
        ({"max_age_s": 5}, {"max_age_s": 6}),
        ({}, {"max_age_s": 0}),
    ],
)
async def test_the_same_id_for_another_request_is_refused(
    front: Front, first: dict[str, object], second: dict[str, object]
) -> None:
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


async def test_naming_the_default_cities_is_another_request_than_leaving_them_out(front: Front) -> None:
    await front.collect(1)
    assert (await front.collect(1, cities=list(default_cities()))).status_code == 409


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
