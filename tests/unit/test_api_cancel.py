"""`POST /collections/{id}/cancel`: what it answers, what it ends, and what it leaves as it is."""

import logging
from datetime import timedelta
from urllib.parse import unquote

import pytest

from tests.api_support import JSON, NOON, Front, assert_problem, observation


@pytest.fixture
def front(served: Front) -> Front:
    return served


async def test_a_collection_that_is_cancelled_says_so_and_keeps_what_is_collected(front: Front) -> None:
    await front.collect(1, cities=[1, 2, 3])
    front.settle("1", [observation(1)])
    front.clock.moment = NOON + timedelta(seconds=5)
    answer = await front.http.post("/collections/1/cancel")
    counts = {"progress": pytest.approx(1 / 3), "total": 3, "collected": 1, "failed": 0}
    times = {"requested_at": "2026-11-20T12:00:00.000Z", "finished_at": "2026-11-20T12:00:05.000Z", "expected_at": None}
    assert answer.status_code == 200
    assert answer.json() == {"id": "1", "status": "cancelled", "reason": None} | counts | times
    body = await front.body(1)
    assert {name: body[name] for name in answer.json()} == answer.json()
    assert [datum["city_id"] for datum in body["data"]] == [1]


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


async def test_posting_the_same_request_again_starts_nothing(front: Front) -> None:
    await front.collect(1)
    await front.http.post("/collections/1/cancel")
    again = await front.collect(1)
    assert (again.status_code, again.json()["status"], again.json()["expected_at"]) == (200, "cancelled", None)
    assert front.relay.woken == 1


async def test_an_id_that_nothing_has_is_not_found(front: Front) -> None:
    await front.collect(1)
    for id in ["2", "a", "sweep:1", "a" * 64, "a" * 65, "a b", "ñ", "1%00"]:  # noqa: A001
        answer = await front.http.post(f"/collections/{id}/cancel")
        name = unquote(id) if len(id) <= 64 else "a" * 64
        assert_problem(answer, 404, f"there is no collection {name}")
        assert (await front.body(1))["status"] == "queued"


async def test_an_unknown_parameter_or_another_method_is_refused_and_cancels_nothing(front: Front) -> None:
    await front.collect(1)
    answer = await front.http.post("/collections/1/cancel?force=true")
    assert_problem(answer, 422, "force: it is not known here")
    for method in ("GET", "PUT", "DELETE"):
        answer = await front.http.request(method, "/collections/1/cancel")
        assert_problem(answer, 405, f"/collections/1/cancel takes POST, not {method}")
    assert (await front.body(1))["status"] == "queued"


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"{"])
async def test_neither_a_body_nor_a_trailing_slash_says_anything_here(front: Front, body: bytes, slash: str) -> None:
    await front.collect(1)
    answer = await front.http.post(f"/collections/1/cancel{slash}", content=body, headers=JSON)
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
