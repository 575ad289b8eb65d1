"""The endpoints of schedules."""

from typing import Any

import httpx2
import pytest

from raingauge.database import Database
from tests.api_support import Front, assert_problem


@pytest.fixture
def front(sqlite: Database) -> Front:
    front = Front(sqlite)
    front.beat()
    front.open_gate(endpoint="group")
    return front


async def create(front: Front, name: str = "hourly", **fields: Any) -> httpx2.Response:
    return await front.http.post("/schedules", json={"name": name, **({"cron": "0 * * * *"} | fields)})


async def test_a_schedule_is_created_once(front: Front) -> None:
    created = await create(front)
    assert (created.status_code, created.headers["location"]) == (201, "/schedules/hourly")
    assert created.json() == {
        "name": "hourly",
        "cron": "0 * * * *",
        "every_s": None,
        "zone": "UTC",
        "cities": 167,
        "max_age_s": 600,
        "missed": "latest",
        "overlap": "skip",
        "origin": "api",
        "description": "At the start of every hour",
        "paused_at": None,
        "next_at": "2026-11-20T13:00:00.000Z",
        "next_at_local": "2026-11-20T13:00:00+00:00",
        "last_run": None,
    }
    again = await create(front)
    assert (again.status_code, again.json()) == (200, created.json())
    other = await create(front, cron="5 * * * *")
    assert_problem(other, 409, "a schedule hourly exists already, with another content")
    assert (await front.http.get("/schedules/hourly")).json() == created.json()


async def test_pages_lead_from_one_to_the_next(front: Front) -> None:
    for name in ("c", "a", "b"):
        await create(front, name)
    path, seen = "/schedules?limit=2", []
    while path:
        answer = await front.http.get(path)
        seen += [one["name"] for one in answer.json()["data"]]
        path = answer.json()["next"]
        assert ("Link" in answer.headers) == bool(path)
    assert seen == ["a", "b", "c"]
