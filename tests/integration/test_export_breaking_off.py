"""An export whose database goes away, seen by a client on a real connection."""

from typing import Any

import httpx2
import pytest
from sqlalchemy import insert

from producer.exports import exporting
from raingauge.database import Database
from raingauge.errors import DatabaseUnavailable
from raingauge.process import serving
from raingauge.storage import readings
from raingauge.storage.models import Reading
from tests.api_support import NOON, Front, api


@pytest.mark.parametrize("format_name", [*exporting.TEXT, "parquet"])
async def test_a_client_does_not_take_a_part_for_the_whole(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch, format_name: str
) -> None:
    front = Front(sqlite)
    await front.collect(1, cities=[1])
    rows = [
        {"collection_id": "1", "city_id": n, "status": "collected", "fetched_at": NOON}
        for n in range(1, 2 * exporting.PAGE_ROWS)
    ]
    sqlite.write(lambda connection: connection.execute(insert(Reading), rows))
    pages, page = iter(range(1)), readings.page

    def once(*given: Any) -> Any:
        if next(pages, None) is None:
            raise DatabaseUnavailable("gone")
        return page(*given)

    monkeypatch.setattr(readings, "page", once)
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
