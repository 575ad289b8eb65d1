"""Long pages: whole, in order, and joined without a gap."""

from typing import Any

import pytest
from sqlalchemy import event, insert

from raingauge.storage.database import Database
from raingauge.storage.models import Collection, Reading
from tests.api_support import NOON, Front

LENGTH = 3007
FAILED = {5, 1000, 1001, LENGTH}


@pytest.fixture
def front(database: Database) -> Front:
    """With one large collection that is done."""
    front = Front(database)
    usual = {"collection_id": "1", "fetched_at": NOON, "observed_at": NOON, "temperature": 19.5, "reason": None}
    rows = [
        usual | {"city_id": n, "status": "collected"}
        if n not in FAILED
        else usual | {"city_id": n, "status": "failed", "reason": "unknown city"}
        for n in range(1, LENGTH + 1)
    ]
    collection = {"id": "1", "requested_at": NOON, "max_age_s": 0, "cities_hash": "-", "total": LENGTH}
    done = {"collected": LENGTH - len(FAILED), "failed": len(FAILED), "finished_at": NOON}
    database.write(lambda c: c.execute(insert(Collection).values(collection | done)))
    database.write(lambda c: c.execute(insert(Reading), rows))
    return front


def seen(body: dict[str, Any]) -> list[int]:
    return sorted(row["city_id"] for row in (*body["data"], *body["errors"]))


async def test_a_long_page_is_whole_and_in_order(front: Front) -> None:
    body = await front.body(1, limit=10_000)
    assert seen(body) == [*range(1, LENGTH + 1)]
    assert [row["city_id"] for row in body["data"]] == sorted(row["city_id"] for row in body["data"])
    assert [row["city_id"] for row in body["errors"]] == sorted(FAILED)
    assert (body["next"], body["collected"]) == (None, LENGTH - len(FAILED))


@pytest.mark.parametrize("limit", [999, 1000, 1001, 2000, LENGTH - 1, LENGTH, LENGTH + 1])
async def test_pages_of_every_length_join(front: Front, limit: int) -> None:
    url: str | None = f"/get?id=1&limit={limit}"
    found: list[int] = []
    pages = 0
    while url is not None:
        answer = await front.http.get(url)
        body = answer.json()
        assert len(seen(body)) <= limit
        found += seen(body)
        url = body["next"]
        assert answer.headers.get("link") == (f'<{url}>; rel="next"' if url else None)
        pages += 1
    assert (found, pages) == ([*range(1, LENGTH + 1)], -(-LENGTH // limit))


async def test_a_page_is_one_select_and_of_a_finished_collection_it_is_read_once(front: Front) -> None:
    selects: list[str] = []

    def keep(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if "FROM readings" in statement:
            selects.append(statement)

    event.listen(front.database.engine, "before_cursor_execute", keep)
    first = await front.get(1, limit=2000)
    assert len(selects) == 1
    assert (await front.get(1, limit=2000)).content == first.content
    assert len(selects) == 1
    await front.get(1, limit=2000, after=1)
    event.remove(front.database.engine, "before_cursor_execute", keep)
    assert len(selects) == 2
