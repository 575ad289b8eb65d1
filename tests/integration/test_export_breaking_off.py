"""An export whose database goes away, or whose collection is deleted, seen by a client on a real connection."""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import httpx2
import pytest
from sqlalchemy import Connection, insert, update

from producer.exports import exporting
from raingauge.database import Database
from raingauge.errors import DatabaseUnavailable
from raingauge.model import CollectionRequest
from raingauge.process import serving
from raingauge.storage import collections, readings, retention
from raingauge.storage.models import Collection, Reading
from tests.api_support import NOON, Front, api

LATER: Final = NOON + timedelta(days=1)


def go_away(_connection: Connection) -> None:
    raise DatabaseUnavailable("gone")


def delete(connection: Connection) -> None:
    retention.delete_collection(connection, LATER, "1")


def delete_and_post_again(connection: Connection) -> None:
    delete(connection)
    collections.accept_all(connection, LATER, [CollectionRequest("1", (1,), 600, named=True)], {}, 10)


def prune(connection: Connection) -> None:
    retention.mark_readings(connection, LATER, LATER)
    retention.remove_some(connection, None)


GONE: Final = "the collection 1 or its readings were deleted meanwhile"


@pytest.mark.parametrize(
    ("happen", "why"), [(go_away, "gone"), (delete, GONE), (delete_and_post_again, GONE), (prune, GONE)]
)
@pytest.mark.parametrize("format_name", [*exporting.TEXT, "parquet"])
async def test_a_client_does_not_take_a_part_for_the_whole(
    sqlite: Database,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    format_name: str,
    happen: Callable[[Connection], None],
    why: str,
) -> None:
    front = Front(sqlite)
    await front.collect(1, cities=[1])
    rows = [
        {"collection_id": "1", "city_id": n, "status": "collected", "fetched_at": NOON}
        for n in range(1, 2 * exporting.PAGE_ROWS)
    ]
    sqlite.write(lambda connection: connection.execute(insert(Reading), rows))
    sqlite.write(lambda connection: connection.execute(update(Collection).values(finished_at=NOON)))
    pages, page = iter(range(1)), readings.page

    def once(*given: Any) -> Any:
        if next(pages, None) is None:
            sqlite.write(happen)
        return page(*given)

    monkeypatch.setattr(readings, "page", once)
    caplog.clear()
    taken = bytearray()

    async def take(http: httpx2.AsyncClient) -> None:
        async with http.stream("GET", "/collections/1/export", params={"format": format_name}) as answer:
            assert answer.status_code == 200
            async for part in answer.aiter_bytes():
                taken.extend(part)

    async with (
        serving(api(front.settings, front.collections, front.relay), "127.0.0.1", 0) as url,
        httpx2.AsyncClient(base_url=url) as http,
    ):
        with pytest.raises(httpx2.RemoteProtocolError):
            await take(http)
        assert (await http.get("/health")).status_code == 200
    assert taken
    assert not taken.endswith((b"\n]\n", b"\n]}\n")), "JSON that is complete"
    assert format_name != "parquet" or not taken[4:].endswith(b"PAR1")
    assert [
        (record.levelno, record.getMessage(), vars(record)["collection_id"], vars(record)["error"])
        for record in caplog.records
        if record.name.startswith("raingauge")
    ] == [(logging.WARNING, "export.broken_off", "1", why)]
    assert not any(record.exc_info for record in caplog.records)
