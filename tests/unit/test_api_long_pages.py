"""Pages that are longer than what is read at once: they are sent as they are read."""

from typing import Any

import pytest
from sqlalchemy import event, insert

from raingauge.storage.database import Database
from raingauge.storage.models import Collection, Reading
from raingauge.storage.pages import MOST
from tests.api_support import NOON, Front

LENGTH = 3 * MOST + 7
FAILED = {5, MOST, MOST + 1, LENGTH}


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


@pytest.mark.parametrize("limit", [MOST - 1, MOST, MOST + 1, 2 * MOST, LENGTH - 1, LENGTH, LENGTH + 1])
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


async def test_a_long_page_comes_in_parts(front: Front) -> None:
    async with front.http.stream("GET", "/get?id=1&limit=10000") as answer:
        assert "content-length" not in answer.headers
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")


async def test_no_statement_reads_more_than_a_part(front: Front) -> None:
    limits: list[Any] = []

    def keep(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        if "readings" in statement:
            limits.append(parameters)

    event.listen(front.database.engine, "before_cursor_execute", keep)
    await front.body(1, limit=10_000)
    event.remove(front.database.engine, "before_cursor_execute", keep)
    assert len(limits) > LENGTH // MOST
    await front.http.get("/get?id=1&limit=10000", headers={"If-None-Match": "*"})
