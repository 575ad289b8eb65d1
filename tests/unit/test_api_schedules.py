"""The endpoints of schedules."""

from datetime import timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import update

from raingauge.storage.models import Schedule
from tests.api_support import NOON, Front, assert_problem


@pytest.fixture
def front(served: Front) -> Front:
    return served


async def create(front: Front, name: str = "hourly", **fields: Any) -> httpx2.Response:
    return await front.http.post("/schedules", json={"name": name, **({"cron": "0 * * * *"} | fields)})


async def test_a_schedule_is_created_once(front: Front) -> None:
    created = await create(front)
    assert (created.status_code, created.headers["location"]) == (201, "/schedules/hourly")
    times = {"name": "hourly", "cron": "0 * * * *", "every_s": None, "zone": "UTC"}
    usual = {"cities": 167, "max_age_s": 600, "missed": "latest", "overlap": "skip", "origin": "api"}
    words = {"description": "At the start of every hour", "paused_at": None, "last_run": None}
    following = {"next_at": "2026-11-20T13:00:00.000Z", "next_at_local": "2026-11-20T13:00:00+00:00"}
    assert created.json() == times | usual | words | following
    again = await create(front)
    assert (again.status_code, again.json()) == (200, created.json())
    other = await create(front, cron="5 * * * *")
    assert_problem(other, 409, "a schedule hourly exists already, with another content")
    assert (await front.http.get("/schedules/hourly")).json() == created.json()


async def test_pages_lead_from_one_to_the_next(front: Front) -> None:
    for name in ("c", "a", "b"):
        await create(front, name)
    pages = await front.pages("/schedules?limit=2")
    assert [[one["name"] for one in page["data"]] for page in pages] == [["a", "b"], ["c"]]


async def change(front: Front, name: str = "hourly", **fields: Any) -> httpx2.Response:
    return await front.http.patch(f"/schedules/{name}", json=fields)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"every_s": 600}, {"cron": None, "every_s": 600, "next_at": "2026-11-20T12:10:00.000Z"}),
        ({"zone": "Asia/Kolkata"}, {"cron": "0 * * * *", "next_at": "2026-11-20T12:30:00.000Z"}),
        ({"cities": [1, 2, 1]}, {"cities": 2}),
        ({"missed": "skip", "max_age_s": 0}, {"missed": "skip", "max_age_s": 0, "overlap": "skip"}),
        ({}, {"next_at": "2026-11-20T13:00:00.000Z"}),
    ],
)
async def test_a_change_sets_what_it_names(front: Front, fields: dict[str, Any], expected: dict[str, Any]) -> None:
    before = (await create(front)).json()
    answer = await change(front, **fields)
    assert answer.status_code == 200, answer.text
    assert expected.items() <= answer.json().items()
    same = before.keys() - expected.keys() - {"description", "next_at_local"} - fields.keys()
    assert {name: answer.json()[name] for name in same} == {name: before[name] for name in same}


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": None}, "cron"),
        ({"every_s": 59}, "every_s"),
        ({"every_s": True}, "every_s"),
        ({"zone": "Europe"}, "zone"),
        ({"cities": []}, "cities"),
        ({"cities": [0]}, "cities.0"),
        ({"max_age_s": 86_401}, "max_age_s"),
        ({"overlap": "wait"}, "overlap"),
        ({"next_at": "2026-11-20T12:10:00Z"}, "next_at"),
    ],
)
async def test_a_wrong_field_is_named_and_changes_nothing(front: Front, fields: dict[str, Any], where: str) -> None:
    before = (await create(front)).json()
    for answer in (await change(front, **fields), await create(front, "other", **fields)):
        assert (answer.status_code, answer.json()["errors"][0]["where"]) == (422, where)
    assert (await front.http.get("/schedules")).json()["data"] == [before]


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a:b", "ä", "x" * 41])
async def test_a_name_that_no_schedule_can_have_is_refused(front: Front, name: str) -> None:
    answer = await create(front, name)
    assert (answer.status_code, answer.json()["errors"][0]["where"]) == (422, "name")


@pytest.mark.parametrize("name", ["%00", "%C3%A4", "x", "%F0%9F%8C%A6"])
async def test_an_unknown_schedule_is_not_found(front: Front, name: str) -> None:
    for path in (f"/schedules/{name}", f"/schedules/{name}/runs"):
        assert (await front.http.get(path)).status_code == 404
    assert (await front.http.get("/schedules", params={"after": "ä"})).status_code == 422


async def test_what_the_month_cannot_pay_for_is_refused_when_it_is_changed_or_resumed(front: Front) -> None:
    cities = list(range(1, 501))
    await create(front, "one", cities=cities)  # 372,000 cities in the dearest month
    await create(front, "two", cities=cities)
    dear = await create(front, "three", cities=cities)
    assert (dear.status_code, dear.json()["errors"][0]["where"]) == (422, "cron")
    assert "up to 372,000 cities in 2026-12 and 744,000 by the other active ones" in dear.json()["detail"]
    await front.http.post("/schedules/one/pause")
    assert (await create(front, "three", cities=cities)).status_code == 201
    resumed = await front.http.post("/schedules/one/resume")
    assert (resumed.status_code, resumed.json()["errors"][0]["where"]) == (422, "name")
    changed = await change(front, "two", every_s=900)
    assert (changed.status_code, changed.json()["errors"][0]["where"]) == (422, "every_s")
    assert (await change(front, "one", every_s=900)).status_code == 200  # it is paused, and costs nothing
    foreseen = await front.http.post("/schedules?dry_run=true", json={"name": "x", "cron": "0 0 * * *"})
    assert (foreseen.json()["others_per_month"], foreseen.json()["share"]) == (744_000, 5177 / 1_000_000)


async def test_a_schedule_whose_time_zone_is_gone_says_so_and_can_be_paused_changed_and_deleted(front: Front) -> None:
    for name in ("changed", "deleted"):
        await create(front, name, zone="Europe/Berlin")
    gone = update(Schedule).values(zone="Mars/Base")
    front.database.write(lambda connection: connection.execute(gone))
    listed = (await front.http.get("/schedules")).json()["data"]
    assert listed == [(await front.http.get(f"/schedules/{name}")).json() for name in ("changed", "deleted")]
    assert {each["description"] for each in listed} == {
        "At the start of every hour (this machine does not know the time zone Mars/Base)"
    }
    assert {(each["next_at"], each["next_at_local"]) for each in listed} == {("2026-11-20T13:00:00.000Z", None)}
    assert (await create(front, "other")).status_code == 201
    front.clock.moment += timedelta(hours=2)
    assert (await front.http.post("/schedules/changed/pause")).status_code == 200
    resumed = await front.http.post("/schedules/changed/resume")
    assert (resumed.status_code, resumed.json()["detail"][-9:]) == (422, "Mars/Base")
    kept = await change(front, "changed", missed="skip")
    assert (kept.status_code, kept.json()["errors"][0]["where"]) == (422, "zone")
    assert (await change(front, "changed", zone="UTC")).status_code == 200
    assert (await front.http.post("/schedules/changed/resume")).json()["next_at_local"] == "2026-11-20T15:00:00+00:00"
    assert (await front.http.delete("/schedules/deleted")).status_code == 204


@pytest.mark.parametrize("action", ["pause", "change"])
async def test_a_due_run_that_a_change_takes_away_has_its_reason(front: Front, action: str) -> None:
    await create(front)
    front.clock.moment = NOON + timedelta(hours=1)
    await (front.http.post("/schedules/hourly/pause") if action == "pause" else change(front, every_s=7200))
    [run] = (await front.http.get("/schedules/hourly/runs")).json()["data"]
    assert run == {
        "nominal_at": "2026-11-20T13:00:00.000Z",
        "decided_at": "2026-11-20T13:00:00.000Z",
        "collection_id": None,
        "reason": "the schedule was changed or paused before it started",
    }


async def test_runs_are_paged_the_newest_first(front: Front) -> None:
    await create(front, "m", cron="* * * * *", cities=[1])
    front.clock.moment = NOON + timedelta(minutes=5)
    await front.http.post("/schedules/m/pause")
    pages = await front.pages("/schedules/m/runs?limit=2")
    minutes = [[run["nominal_at"][14:16] for run in page["data"]] for page in pages]
    assert minutes == [["05", "04"], ["03", "02"], ["01"]]


@pytest.mark.parametrize("after", ["12", "2026-11-20T12:00:00", "0001-01-01T00:00:00+14:00", "x"])
async def test_runs_after_what_is_no_moment_are_refused(front: Front, after: str) -> None:
    await create(front)
    answer = await front.http.get("/schedules/hourly/runs", params={"after": after})
    assert (answer.status_code, answer.json()["errors"][0]["where"]) == (422, "after")
