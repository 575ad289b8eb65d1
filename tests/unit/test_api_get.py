"""`GET /get`: progress and readings before, while and after a collection is collected."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, delete, event, insert, update

from raingauge.database import Database
from raingauge.storage.models import Collection, QueuedCity, QuotaGate, Reading
from tests.api_support import NOON, Front, assert_problem, observation

CITIES = [7, 3, 5, 1, 9]


@pytest.fixture
def front(served: Front) -> Front:
    return served


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """The SQL that is executed meanwhile."""
    seen: list[str] = []

    def keep(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        seen.append(statement)

    event.listen(database.engine, "before_cursor_execute", keep)
    yield seen
    event.remove(database.engine, "before_cursor_execute", keep)


async def test_before_anything_is_settled_a_collection_is_queued(front: Front) -> None:
    await front.collect(1, cities=CITIES)
    front.clock.moment += timedelta(seconds=1)
    counts = {"progress": 0.0, "total": 5, "collected": 0, "failed": 0}
    times = {"requested_at": "2026-11-20T12:00:00.000Z", "finished_at": None, "expected_at": "2026-11-20T12:00:01.000Z"}
    nothing: dict[str, Any] = {"data": [], "errors": [], "next": None}
    assert await front.body(1) == {"id": "1", "status": "queued", "reason": None} | counts | times | nothing


async def test_while_it_is_collected_the_rows_so_far_are_read(front: Front) -> None:
    await front.collect(1, cities=CITIES)
    front.clock.moment += timedelta(seconds=2, milliseconds=345)
    front.settle("1", [observation(7, -3.5)], {3: "unknown city"})
    body = await front.body(1)
    assert (body["status"], body["reason"], body["progress"]) == ("collecting", None, 0.4)
    assert (body["total"], body["collected"], body["failed"], body["finished_at"]) == (5, 1, 1, None)
    times = dict.fromkeys(("datetime", "fetched_at"), "2026-11-20T12:00:02.345Z")
    row = {"city_id": 7, "name": "City 7", "temperature": -3.5, "humidity": 55.0, **times}
    assert body["data"] == [row | {"observed_at": "2026-11-20T11:53:00.000Z"}]
    assert body["errors"] == [{"city_id": 3, "reason": "unknown city"}]


async def test_when_all_are_settled_it_is_done(front: Front) -> None:
    await front.collect(1, cities=CITIES)
    front.clock.moment += timedelta(seconds=9)
    front.settle("1", map(observation, [1, 5, 7, 9]), {3: "unknown city"})
    front.clock.moment += timedelta(hours=9)
    body = await front.body(1)
    assert (body["status"], body["reason"], body["progress"]) == ("done", None, 1.0)
    assert (body["finished_at"], body["expected_at"]) == ("2026-11-20T12:00:09.000Z",) * 2
    assert [row["city_id"] for row in body["data"]] == [1, 5, 7, 9]


def change_gate(front: Front, **columns: object) -> None:
    front.database.write(lambda c: c.execute(update(QuotaGate).values(columns)))


async def test_what_everything_waits_for_is_told_and_a_consumer_that_fell_silent_is_none(front: Front) -> None:
    await front.collect(1)
    reasons = {state: state for state in ("provider", "key", "database", "failover")} | {"quota": "provider"}
    for state, reason in (reasons | {"open": "month"}).items():
        change_gate(front, state=state, month_spent=1_000_000 if state == "open" else 0)
        front.clock.moment += timedelta(seconds=1)
        body = await front.body(1)
        assert (body["status"], body["reason"]) == ("waiting", reason)
    front.clock.moment = NOON + timedelta(seconds=21)
    body = await front.body(1)
    assert (body["status"], body["reason"], body["expected_at"]) == ("waiting", "no consumer", None)


async def test_a_collection_of_which_nothing_is_queued_waits_while_a_partition_is_held(front: Front) -> None:
    for name in ("queued", "behind"):
        await front.collect(name, cities=[1, 2])
    row = {"collection_id": "queued", "city_id": 1, "batch": 0, "account": front.account, "since": front.clock.moment}
    row |= {"turn": 1, "ready_at": front.clock.moment, "attempts": 0}
    front.database.write(lambda c: c.execute(insert(QueuedCity), row))
    front.clock.moment += timedelta(seconds=9)
    front.beat(partitions_held=1)
    assert (await front.body("behind"))["reason"] is None
    front.clock.moment += timedelta(seconds=2)
    body = await front.body("behind")
    assert (body["status"], body["reason"], body["expected_at"]) == ("waiting", "newer message", None)
    assert (await front.body("queued"))["reason"] is None
    front.clock.moment += timedelta(seconds=1)
    front.beat()
    assert (await front.body("behind"))["reason"] is None


async def test_other_collections_make_a_collection_take_longer(front: Front) -> None:
    await front.collect("small", cities=list(range(1, 21)))
    assert (await front.body("small"))["expected_at"] == "2026-11-20T12:00:00.000Z"
    await front.collect("big")
    assert (await front.body("small"))["expected_at"] == "2026-11-20T12:00:20.000Z"


@pytest.mark.parametrize(("after_s", "changes"), [(0.09, False), (0.11, True)])
async def test_what_does_not_concern_the_collection_alone_may_be_a_tenth_of_a_second_old(
    front: Front, after_s: float, changes: bool
) -> None:
    await front.collect("small", cities=list(range(1, 21)))
    front.clock.moment += timedelta(seconds=1)
    before = (await front.body("small"))["expected_at"]
    await front.collect("big")
    front.clock.moment += timedelta(seconds=after_s)
    assert ((await front.body("small"))["expected_at"] != before) == changes


async def test_progress_is_never_old_and_a_forecast_follows_it_at_once(front: Front) -> None:
    await front.collect("a", cities=[1, 2, 3])
    front.clock.moment += timedelta(seconds=1)
    assert (await front.body("a"))["collected"] == 0
    front.settle("a", [observation(1), observation(2)])
    change_gate(front, state="key")
    body = await front.body("a")
    assert (body["collected"], len(body["data"]), body["reason"]) == (2, 2, "key")
    front.settle("a", [observation(3)])
    body = await front.body("a")
    assert (body["status"], body["collected"], len(body["data"])) == ("done", 3, 3)


async def test_an_unknown_id_is_not_found(front: Front) -> None:
    await front.collect(1)
    await front.collect("one")
    for id in ["7", "1 ", "1\n", "ONE", "a/b", "ñ", "\0", "x" * 65, "'; DROP TABLE collections; --"]:  # noqa: A001
        assert_problem(await front.get(id), 404, f"there is no collection {id[:64]}")


async def test_a_collection_of_the_systems_own_can_be_read(front: Front) -> None:
    row = {"requested_at": NOON, "max_age_s": 600, "cities_hash": "-", "total": 1}
    front.database.write(lambda c: c.execute(insert(Collection).values(id="sweep:1", **row)))
    assert (await front.body("sweep:1"))["id"] == "sweep:1"


@pytest.mark.parametrize(("limit", "pages"), [(1, 7), (2, 4), (3, 3), (7, 1), (8, 1)])
async def test_the_pages_lead_from_one_to_the_next_until_all_is_read(front: Front, limit: int, pages: int) -> None:
    await front.collect("a.b", cities=list(range(1, 8)))
    front.settle("a.b", map(observation, [1, 2, 4, 5, 7]), {3: "unknown city", 6: "unknown city"})
    bodies = await front.pages(f"/get?id=a.b&limit={limit}&fields=country&fields=clouds,latitude")
    seen: list[int] = []
    for body in bodies:
        rows = body["data"] + body["errors"]
        assert 1 <= len(rows) <= limit
        assert all((row["country"], row["latitude"], row["clouds"]) == ("UY", -32.7, None) for row in body["data"])
        seen += sorted(row["city_id"] for row in rows)
    assert (seen, len(bodies)) == (list(range(1, 8)), pages)


async def test_a_page_has_a_thousand_rows_unless_asked_otherwise(front: Front) -> None:
    await front.collect(1, cities=list(range(1, 1002)))
    front.settle("1", map(observation, range(1, 1002)))
    body = await front.body(1)
    assert (len(body["data"]), body["next"]) == (1000, "/get?id=1&limit=1000&after=1000")
    assert len((await front.body(1, limit=10_000))["data"]) == 1001


async def test_a_page_is_one_select_and_of_a_finished_collection_it_is_read_once(front: Front) -> None:
    await front.collect(1, cities=CITIES)
    front.settle("1", map(observation, CITIES))
    with statements(front.database) as executed:
        first = await front.get(1, limit=3)
        assert (await front.get(1, limit=3)).content == first.content
        await front.get(1, limit=3, after=1)
    assert len([statement for statement in executed if "FROM readings" in statement]) == 2


async def test_rows_can_be_left_out(front: Front) -> None:
    await front.collect(1, cities=CITIES)
    front.settle("1", [observation(1)], {3: "unknown city"})
    with statements(front.database) as executed:
        body = await front.body(1, data="false", limit=1)
    assert (body["data"], body["errors"], body["next"]) == ([], [], None)
    assert (body["collected"], body["failed"]) == (1, 1)
    assert executed
    assert not [statement for statement in executed if "FROM readings" in statement]


async def test_of_a_collection_that_is_over_only_its_own_row_is_read(front: Front) -> None:
    await front.collect(1, cities=[1])
    await front.collect(2, cities=[2])
    front.settle("1", [observation(1)])
    with statements(front.database) as executed:
        assert (await front.body(1, data="false"))["status"] == "done"
    assert len([statement for statement in executed if statement.startswith("SELECT")]) == 1
    with statements(front.database) as executed:
        assert (await front.body(2, data="false"))["status"] == "queued"
    assert [statement for statement in executed if "FROM quota_gate" in statement]


async def test_fields_adds_what_else_is_stored(front: Front) -> None:
    await front.collect(1, cities=[1])
    front.settle("1", [observation(1, pressure=1016.0, condition_id=800, description="clear sky", rain_1h=None)])
    more = ["pressure", "condition_id", "description", "rain_1h", "country", "latitude"]
    (row,) = (await front.body(1, fields=",".join(more)))["data"]
    assert set(row) - set((await front.body(1))["data"][0]) == {*more}
    for same in (more, [",".join(more), "name", "", "pressure,,pressure"]):
        assert (await front.body(1, fields=same))["data"] == [row]
    assert (row["pressure"], row["condition_id"], row["description"]) == (1016.0, 800, "clear sky")
    assert (row["rain_1h"], row["country"], row["latitude"], row["name"]) == (None, "UY", -32.7, "City 1")


async def test_an_unchanged_collection_is_answered_304_without_reading_rows(front: Front) -> None:
    await front.collect(1, cities=CITIES)
    front.settle("1", [observation(1)])
    first = await front.get(1)
    tag = first.headers["etag"]
    assert (tag[:3], tag[-1]) == ('W/"', '"')
    assert first.headers["cache-control"] == "no-cache"
    several = [("If-None-Match", '"other"'), ("If-None-Match", tag)]
    alone = (tag, tag.removeprefix("W/"), f'"other", {tag}', f'{tag},"other"', "*")
    for headers in [*([("If-None-Match", named)] for named in alone), several]:
        with statements(front.database) as executed:
            answer = await front.http.get("/get?id=1", headers=headers)
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
        assert executed
        assert not [statement for statement in executed if "FROM readings" in statement]


async def test_another_tag_or_none_reads_everything_and_what_is_not_found_has_none(front: Front) -> None:
    assert (await front.http.get("/get?id=1", headers={"If-None-Match": "*"})).status_code == 404
    await front.collect(1)
    for named in ('W/"0"', "", "W/", "nonsense"):
        assert (await front.http.get("/get?id=1", headers={"If-None-Match": named})).status_code == 200


async def test_every_change_that_a_client_sees_has_another_tag(front: Front) -> None:
    async def tag(**query: Any) -> str:
        return (await front.get(1, **query)).headers["etag"]

    await front.collect(1, cities=CITIES)
    tags = [await tag(), await tag(limit=1)]
    front.settle("1", [observation(1)])
    tags.append(await tag())
    front.settle("1", [], {3: "unknown city"})
    tags.append(await tag())
    for state in ("key", "provider"):
        change_gate(front, state=state)
        tags.append(await tag())
    await front.http.post("/collections/1/cancel")
    tags.append(await tag())
    front.database.write(lambda c: c.execute(update(Collection).values(requested_at=NOON - timedelta(days=1))))
    tags.append(await tag())
    assert len(set(tags)) == len(tags)


async def test_after_a_failover_as_many_readings_are_not_taken_for_the_same_ones(front: Front) -> None:
    await front.collect(1, cities=CITIES)
    front.settle("1", [observation(1)])
    before = await front.get(1)
    reading = {"collection_id": "1", "city_id": 3, "status": "collected", "fetched_at": NOON}

    def lose_the_last_transaction_and_go_on(connection: Connection) -> None:
        connection.execute(delete(Reading))
        connection.execute(insert(Reading).values(reading))
        connection.execute(update(Collection).values(last_progress_at=NOON + timedelta(seconds=5)))

    front.database.write(lose_the_last_transaction_and_go_on)
    after = await front.http.get("/get?id=1", headers={"If-None-Match": before.headers["etag"]})
    assert (after.status_code, [row["city_id"] for row in after.json()["data"]]) == (200, [3])


async def test_readings_that_json_cannot_say_are_null(front: Front) -> None:
    await front.collect(1, cities=[1])
    front.settle("1", [observation(1, float("inf"), humidity=float("-inf"), pressure=float("inf"), wind_deg=0.0)])
    (row,) = (await front.body(1, fields="pressure,wind_deg"))["data"]
    assert (row["temperature"], row["humidity"], row["pressure"], row["wind_deg"]) == (None, None, None, 0.0)
