"""Driving a running system through every error that can be provoked, and reading all that it shows of itself."""

from collections.abc import Callable, Iterator
from typing import Final

import requests
from sqlalchemy import select

from raingauge.database import Database
from raingauge.storage.models import Schema
from tests.e2e.echo import FAILURES, GOOD, REFUSED, THROTTLED, Echo
from tests.e2e.marks import assert_unmarked
from tests.support.eventually import eventually

PATIENCE_S: Final = 60.0
STRUCK: Final = sorted(FAILURES.keys() - {*THROTTLED, REFUSED})
FIRST: Final = [*GOOD[:4], *STRUCK[:12], *GOOD[4:12], *STRUCK[12:], *GOOD[12:]]
"""Good ones among them: in an outage the system would ask less and less often."""
BAD_BODIES: Final = (
    b"{",
    b"",
    b"[]",
    b'{"id": []}',
    b'{"id": "?", "cities": ["x"]}',
    b"\xff\x00",
    b'{"id": 1, "key": 1}',
)
PATHS: Final = (
    *("/", "/docs", "/openapi.json", "/health", "/ready", "/metrics", "/nothing", "/collect", "/get", "/get?id=nobody"),
    *("/get?id=first", "/get?id=first&fields=description,country", "/get?id=first&limit=0", "/get?id=second"),
    *("/get?id=third", "/get?id=third&data=false", "/control/settings", "/env", "/config", "/debug"),
)


def provoke(url: str, provider: Echo, told: Callable[[str], bool]) -> None:
    """Every failure of the provider's, once; `told` says whether an event is in the log."""
    assert collect(url, "first", FIRST) == 202
    eventually(lambda: provider.seen >= set(STRUCK), PATIENCE_S)
    for collection, city_id in (("second", THROTTLED[0]), ("second-b", THROTTLED[1])):
        assert collect(url, collection, [city_id]) == 202
        eventually(lambda city_id=city_id: city_id in provider.seen, PATIENCE_S)  # type: ignore[misc]
    assert collect(url, "third", [REFUSED]) == 202
    eventually(lambda: REFUSED in provider.seen and told("state=key"), PATIENCE_S)
    reason = lambda: requests.get(f"{url}/get?id=third", timeout=10).json()["reason"]  # noqa: E731
    assert eventually(reason, PATIENCE_S) == "key"


def collect(url: str, collection: str, city_ids: list[int]) -> int:
    """The status of a POST."""
    return requests.post(f"{url}/collect", json={"id": collection, "cities": city_ids}, timeout=10).status_code


def answers(url: str) -> Iterator[tuple[str, requests.Response]]:
    """What every path says, and what bad requests are told."""
    for path in PATHS:
        yield path, requests.get(f"{url}{path}", timeout=10)
    for body in BAD_BODIES:
        yield f"POST {body!r}", requests.post(f"{url}/collect", data=body, timeout=10)
    yield "HEAD", requests.head(f"{url}/get?id=first", timeout=10)
    yield "DELETE", requests.delete(f"{url}/get?id=first", timeout=10)


def assert_answers_unmarked(url: str) -> set[int]:
    """No secret is in any answer or its headers. Their statuses."""
    statuses = set()
    for where, answer in answers(url):
        assert_unmarked(answer.content, where)
        assert_unmarked(repr(answer.headers), where)
        statuses.add(answer.status_code)
    return statuses


def assert_database_unmarked(database: Database) -> dict[str, int]:
    """No secret is in any column of any row. How many rows each table has."""
    counts = {}
    for name, table in Schema.metadata.tables.items():
        rows = database.read(lambda c, table=table: c.execute(select(table)).all())  # type: ignore[misc]
        assert_unmarked(repr([tuple(row) for row in rows]), f"table {name}")
        counts[name] = len(rows)
    return counts
