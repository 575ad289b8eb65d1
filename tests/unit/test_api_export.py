"""`GET /collections/{id}/export`: each format row by row, over several pages, and what breaks it off."""

import asyncio
import csv
import io
import json
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from arro3.io import read_parquet
from sqlalchemy import insert

from producer.exports import exporting, parquet
from producer.exports.columns import KINDS, SHOWN
from producer.exports.exporting import NO_PARQUET, Exports
from producer.exports.parquet import ParquetFormat
from raingauge.blocking import Threads
from raingauge.database import Database
from raingauge.errors import DatabaseUnavailable
from raingauge.model import Observation
from raingauge.storage import readings
from raingauge.storage.models import Reading
from raingauge.storage.readings import OF_THE_CITY
from raingauge.storage.weather import WEATHER_COLUMNS
from tests.api_support import NOON, OBSERVED_AT, Front, assert_problem, observation

ODD = 'São "Paulo", the\nlarge'


@pytest.fixture
async def front(sqlite: Database) -> Front:
    """With a collection of three cities: one failed."""
    front = Front(sqlite)
    await front.collect(1, cities=[3, 1, 2])
    odd = observation(2, -0.5, name=ODD, country=None, latitude=None, longitude=None, wind_speed=10.0, condition_id=800)
    front.settle("1", [observation(1), odd], {3: "unknown city"})
    return front


async def export(front: Front, format: str, **query: Any) -> bytes:  # noqa: A002
    answer = await front.http.get("/collections/1/export", params={"format": format, **query})
    assert answer.status_code == 200, answer.text
    return answer.content


def many(front: Front, rows: int) -> None:
    """More readings of the collection, as if it had so many cities."""
    reading = {"collection_id": "1", "status": "collected", "fetched_at": NOON, "observed_at": OBSERVED_AT}
    more = [reading | {"city_id": n, "temperature": n / 10} for n in range(100, 100 + rows)]
    front.database.write(lambda connection: connection.execute(insert(Reading), more))


def test_every_field_of_an_observation_has_its_column() -> None:
    assert set(SHOWN) == {*WEATHER_COLUMNS, *OF_THE_CITY} >= set(Observation._fields[1:])


async def test_csv_has_a_header_and_a_line_for_each_reading(front: Front) -> None:
    text = (await export(front, "csv")).decode()
    header, young, odd, failed = csv.reader(io.StringIO(text, newline=""))
    assert text.count("\r\n") == 4
    assert header[:7] == ["city_id", "status", "reason", "name", "country", "latitude", "longitude"]
    assert header[7:10] == ["observed_at", "fetched_at", "temperature_c"]
    moments = ["2026-11-20T11:53:00.000Z", "2026-11-20T12:00:00.000Z"]
    assert young[:10] == ["1", "collected", "", "City 1", "UY", "-32.7", "-57.6", *moments, "19.4"]
    assert odd[:7] == ["2", "collected", "", ODD, "", "", ""]
    assert failed == ["3", "failed", "unknown city", *[""] * (len(KINDS) - 3)]


async def test_each_line_of_json_lines_is_an_object_as_in_the_list(front: Front) -> None:
    listed = json.loads(await export(front, "json", units="imperial"))
    lines = (await export(front, "jsonl", units="imperial")).decode().splitlines()
    assert [json.loads(line) for line in lines] == listed
    values = [(one["city_id"], one["temperature_f"], one["wind_speed_mph"]) for one in listed]
    assert values == [(1, 66.92, None), (2, 31.1, 22.37), (3, None, None)]


async def test_a_feature_without_coordinates_has_no_geometry(front: Front) -> None:
    features = json.loads(await export(front, "geojson"))["features"]
    assert [one["geometry"] for one in features] == [{"type": "Point", "coordinates": [-57.6, -32.7]}, None, None]


async def test_parquet_has_the_same_rows_and_types_of_its_own(front: Front) -> None:
    table = read_parquet(io.BytesIO(await export(front, "parquet", units="standard"))).read_all()
    assert table.column_names[9:11] == ["temperature_k", "feels_like_k"]
    texts = {"name": ["City 1", ODD, None], "reason": [None, None, "unknown city"]}
    numbers = {"temperature_k": [292.55, 272.65, None], "condition_id": [None, 800, None]}
    expected: dict[str, Any] = texts | numbers | {"observed_at": [OBSERVED_AT, OBSERVED_AT, None]}
    assert {name: table.column(name).to_pylist() for name in expected} == expected


async def test_an_empty_collection_makes_a_file_of_each_format(front: Front, sqlite: Database) -> None:
    await front.collect(2, cities=[7])
    bodies = {name: (await front.http.get(f"/collections/2/export?format={name}")).content for name in exporting.TEXT}
    assert bodies["csv"].count(b"\r\n") == 1
    assert (json.loads(bodies["json"]), bodies["jsonl"], json.loads(bodies["geojson"])["features"]) == ([], b"", [])
    parquet = await front.http.get("/collections/2/export?format=parquet")
    assert read_parquet(io.BytesIO(parquet.content)).read_all().num_rows == 0


@pytest.mark.parametrize("more", [2 * exporting.PAGE_ROWS - 3, 2 * exporting.PAGE_ROWS])
async def test_no_reading_is_lost_or_repeated_where_pages_meet(front: Front, more: int) -> None:
    many(front, more)
    ids = [1, 2, 3, *range(100, 100 + more)]
    assert [one["city_id"] for one in json.loads(await export(front, "json"))] == ids
    assert [json.loads(line)["city_id"] for line in (await export(front, "jsonl")).splitlines()] == ids
    table = read_parquet(io.BytesIO(await export(front, "parquet"))).read_all()
    assert table.column("city_id").to_pylist() == ids


async def test_without_the_extra_parquet_is_refused_with_its_name(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "producer.exports.parquet", None)
    assert_problem(await front.http.get("/collections/1/export?format=parquet"), 501, NO_PARQUET)
    assert (await front.http.get("/collections/1/export")).status_code == 200


@pytest.mark.parametrize("format_name", ["csv", "parquet"])
async def test_a_file_has_no_proper_end_when_the_database_goes_away_meanwhile(
    front: Front, monkeypatch: pytest.MonkeyPatch, format_name: exporting.Format
) -> None:
    many(front, exporting.PAGE_ROWS)
    exports = Exports(front.collections.transactions)
    pages, page = iter(range(1)), readings.page

    def once(*given: Any) -> Any:
        if next(pages, None) is None:
            raise DatabaseUnavailable("gone")
        return page(*given)

    state = await exports.find("1")
    assert state is not None
    monkeypatch.setattr(readings, "page", once)
    with pytest.raises(DatabaseUnavailable, match="gone"):
        async for _ in exports.parts(state, format_name, "metric"):
            pass


@pytest.mark.parametrize("closes", [True, False], ids=["one that leaves", "one that takes nothing more"])
async def test_a_client_that_reads_no_further_frees_the_thread_of_its_parquet(
    closes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "TAKEN_WITHIN_S", 600.0 if closes else 0.05)
    monkeypatch.setattr(parquet, "ROWS_IN_GROUP", 1000)
    form, threads, given = ParquetFormat("metric"), Threads(1, "parquet"), 0

    async def endless() -> AsyncIterator[Any]:
        nonlocal given
        while True:
            given += 1
            values = {"city_id": given, "status": "collected", "fetched_at": NOON + timedelta(seconds=given)}
            yield form.encode([[values.get(name) for name in KINDS]] * 2000)

    file = form.file(endless(), threads)
    assert (await anext(file)).startswith(b"PAR1")
    read = given
    if closes:
        await file.aclose()  # type: ignore[attr-defined]
    await asyncio.wait_for(threads(lambda: None), 10)  # the only thread is free
    assert given <= read + 1
    if not closes:
        with pytest.raises(Exception, match="Timeout"):
            [part async for part in file]
    threads.close()
