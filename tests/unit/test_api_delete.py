"""`DELETE /collections/{id}`, and what is answered of a collection without its readings; pruning in the background."""

import logging
from datetime import timedelta

import pytest

from producer.retention import Retention
from raingauge.blocking import inline
from raingauge.database import Database
from raingauge.database.transactions import Transactions
from raingauge.settings import RetentionSettings
from raingauge.storage import retention
from tests.api_support import NOON, Front, assert_problem, observation, scrape


@pytest.fixture
async def front(sqlite: Database) -> Front:
    """A collection that is done, and one that is open."""
    front = Front(sqlite)
    await front.collect("done", cities=[1, 2])
    front.settle("done", [observation(1)], {2: "unknown city"})
    await front.collect("open", cities=[1, 3], max_age_s=0)
    return front


async def prune(front: Front, caplog: pytest.LogCaptureFixture, **days: int) -> list[tuple[str, dict[str, int]]]:
    """One round a year later; what it logged."""
    front.clock.moment = NOON + timedelta(days=365)
    caplog.set_level(logging.INFO, "raingauge.retention")
    transactions = Transactions(front.database, inline, front.clock)
    await Retention(transactions, RetentionSettings(**days), holder="test")._round()
    tables = ("readings", "batches", "collections", "events")
    return [
        (record.message, {name: getattr(record, name) for name in tables if hasattr(record, name)})
        for record in caplog.records
        if record.name == "raingauge.retention"
    ]


def process_events(front: Front) -> None:
    front.database.write(lambda c: c.exec_driver_sql("UPDATE events SET status = 'Processed', publish_at = NULL"))


async def test_a_deleted_collection_is_gone_and_its_id_is_free(front: Front) -> None:
    answer = await front.http.delete("/collections/done")
    assert (answer.status_code, answer.content) == (204, b"")
    for gone in (
        await front.get("done"),
        await front.http.delete("/collections/done"),
        await front.http.get("/collections/done/export"),
        await front.http.post("/collections/done/cancel"),
    ):
        assert_problem(gone, 404, "there is no collection done")
    assert front.rows() == (1, 1, 0)
    assert (await front.collect("done", cities=[5])).status_code == 202
    assert (await front.http.get("/readings/latest?city_id=1")).json()["readings"][0]["name"] == "City 1"
    found = await scrape(front.http)
    assert found["raingauge_removed_rows_total{table=readings}"] == 2


async def test_an_open_collection_is_not_deleted_and_an_unknown_one_not_found(front: Front) -> None:
    answer = await front.http.delete("/collections/open")
    assert_problem(answer, 409, "the collection open is open: cancel it first")
    assert (await front.body("open"))["status"] == "waiting"
    for name in ("7", "x" * 65):
        assert_problem(await front.http.delete(f"/collections/{name}"), 404, f"there is no collection {name[:64]}")


async def test_the_id_of_a_large_one_is_free_when_its_rows_are_removed(
    front: Front, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retention, "STEP_ROWS", 1)
    assert (await front.http.delete("/collections/done")).status_code == 204
    for url in ("/get?id=done", "/collections/done/export"):
        assert (await front.http.get(url)).status_code == 404
    refused = await front.collect("done", cities=[1, 2])
    assert (refused.status_code, refused.headers["retry-after"]) == (409, "2")
    assert "being deleted" in refused.json()["detail"]
    assert await prune(front, caplog) == [("retention.removed", {"readings": 1, "batches": 1, "collections": 1})]
    assert (await front.collect("done", cities=[1, 2])).status_code == 202


async def test_old_readings_go_and_their_collection_says_so(front: Front, caplog: pytest.LogCaptureFixture) -> None:
    process_events(front)
    before = await front.get("done")
    assert "readings_pruned_at" not in before.json()
    assert await prune(front, caplog, readings_days=30) == [("retention.removed", {"readings": 2})]
    after = await front.get("done")
    assert after.headers["etag"] != before.headers["etag"]
    pruned_at = after.json().pop("readings_pruned_at")
    assert pruned_at == "2027-11-20T12:00:00.000Z"
    assert after.json() == before.json() | {"data": [], "errors": [], "readings_pruned_at": pruned_at}
    why = f"its readings were deleted at {pruned_at} because of their age (retention.readings_days)"
    assert_problem(await front.http.get("/collections/done/export"), 410, why)


async def test_old_collections_and_events_go_and_open_ones_stay(front: Front, caplog: pytest.LogCaptureFixture) -> None:
    await front.http.post("/events", json={"user_id": "1", "description": "the last event stays"})
    process_events(front)
    too_young: list[dict[str, int]] = [{}, {"readings_days": 366}, {"collections_days": 366}]
    for days in too_young:
        assert await prune(front, caplog, **days) == []
        assert front.rows() == (2, 2, 2)
    removed = {"readings": 2, "batches": 1, "collections": 1, "events": 1}
    assert await prune(front, caplog, readings_days=300, collections_days=200) == [("retention.removed", removed)]
    assert front.rows() == (1, 1, 0)
