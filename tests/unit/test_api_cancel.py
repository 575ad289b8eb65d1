"""`POST /collections/{id}/cancel`: what it answers, what it ends, and what it leaves as it is."""

import logging
from datetime import timedelta
from urllib.parse import unquote

import pytest

from raingauge.database import Database
from tests.api_support import JSON, NOON, Front, assert_problem, observation


@pytest.fixture
def front(sqlite: Database) -> Front:
    front = Front(sqlite)
    front.beat()
    front.open_gate()
    return front


async def test_a_collection_that_is_cancelled_says_so_and_keeps_what_is_collected(front: Front) -> None:
    await front.collect(1, cities=[1, 2, 3])
    front.settle("1", [observation(1)])
    front.clock.moment = NOON + timedelta(seconds=5)
    answer = await front.http.post("/collections/1/cancel")
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "id": "1",
            "status": "cancelled",
            "reason": None,
            "progress": pytest.approx(1 / 3),
            "total": 3,
            "collected": 1,
            "failed": 0,
            "requested_at": "2026-11-20T12:00:00.000Z",
            "finished_at": "2026-11-20T12:00:05.000Z",
            "expected_at": None,
        },
    )
    body = await front.body(1)
    assert {name: body[name] for name in answer.json()} == answer.json()
    assert [datum["city_id"] for datum in body["data"]] == [1]


async def test_nothing_of_it_is_published_or_stored_any_more(front: Front) -> None:
    await front.collect(1, cities=[1, 2])
    await front.http.post("/collections/1/cancel")
    front.settle("1", [observation(1)])
    await front.relay.work_once()
    assert (front.rows(), front.shelf.keys) == ((1, 1, 0), [])


async def test_cancelling_it_again_changes_nothing(front: Front, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "raingauge.producer")
    await front.collect(1)
    first = await front.http.post("/collections/1/cancel")
    front.clock.moment = NOON + timedelta(seconds=5)
    again = await front.http.post("/collections/1/cancel")
    assert (again.status_code, again.json()) == (200, first.json())
    assert caplog.messages == ["collection.accepted", "collection.cancelled"]
    assert {vars(record)["collection_id"] for record in caplog.records} == {"1"}
    assert (vars(caplog.records[0])["cities"], vars(caplog.records[1])["total"]) == (167, 167)
    assert vars(caplog.records[1])["at"] == NOON


async def test_what_is_done_stays_done(front: Front) -> None:
    await front.collect(1, cities=[1])
    front.settle("1", [observation(1)])
    done = await front.body(1, data="false")
    answer = await front.http.post("/collections/1/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "done")
    assert await front.body(1, data="false") == done


async def test_posting_the_same_request_again_starts_nothing(front: Front) -> None:
    await front.collect(1)
    await front.http.post("/collections/1/cancel")
    again = await front.collect(1)
    assert (again.status_code, again.json()["status"], again.json()["expected_at"]) == (200, "cancelled", None)
    assert front.relay.woken == 1


async def test_a_client_with_a_tag_learns_of_it(front: Front) -> None:
    await front.collect(1)
    tag = (await front.get(1)).headers["etag"]
    await front.http.post("/collections/1/cancel")
    assert (await front.http.get("/get?id=1", headers={"If-None-Match": tag})).status_code == 200


async def test_an_id_that_nothing_has_is_not_found(front: Front) -> None:
    await front.collect(1)
    for id in ["2", "a", "sweep:1", "a" * 64, "a" * 65, "a b", "ñ", "1%00"]:  # noqa: A001
        answer = await front.http.post(f"/collections/{id}/cancel")
        name = unquote(id) if len(id) <= 64 else "a" * 64
        assert_problem(answer, 404, f"there is no collection {name}")
        assert (await front.body(1))["status"] == "queued"


async def test_a_parameter_that_is_not_known_is_refused_and_cancels_nothing(front: Front) -> None:
    await front.collect(1)
    answer = await front.http.post("/collections/1/cancel?force=true")
    assert_problem(answer, 422, "force: it is not known here")
    assert (await front.body(1))["status"] == "queued"


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"{"])
async def test_a_body_says_nothing_here(front: Front, body: bytes) -> None:
    await front.collect(1)
    answer = await front.http.post("/collections/1/cancel", content=body, headers=JSON)
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")


async def test_it_works_with_the_trailing_slash_and_takes_nothing_but_post(front: Front) -> None:
    await front.collect(1)
    assert (await front.http.post("/collections/1/cancel/")).status_code == 200
    for method in ("GET", "PUT", "DELETE"):
        answer = await front.http.request(method, "/collections/1/cancel")
        assert_problem(answer, 405, f"/collections/1/cancel takes POST, not {method}")
