"""`GET /readings`: its pages, columns, units, and its CSV file."""

import csv
import io
from datetime import timedelta

import pytest

from raingauge.database import Database
from tests.api_support import Front, observation


@pytest.fixture
async def front(sqlite: Database) -> Front:
    """Cities 1 and 2 are observed five times, a minute apart."""
    front = Front(sqlite)
    for number in range(5):
        front.clock.moment += timedelta(minutes=1)
        await front.collect(f"c{number}", cities=[1, 2, 3], max_age_s=0)
        weather = [observation(city, temperature=10.0 * number, pressure=1000.5) for city in (1, 2)]
        front.settle(f"c{number}", weather, {3: "unknown city"})
    return front


async def test_an_observation_has_its_collection_its_times_and_the_fields_that_are_selected(front: Front) -> None:
    answer = await front.http.get("/readings?city_id=1&limit=1&fields=name,pressure&units=imperial")
    following = "/readings?city_id=1&limit=1&fields=name,pressure&units=imperial&after=2026-11-20T12:01:00.000000Z,1"
    times = {"fetched_at": "2026-11-20T12:01:00.000Z", "observed_at": "2026-11-20T11:53:00.000Z"}
    weather = {"temperature": 32.0, "humidity": 55.0, "name": "City 1", "pressure": 1000.5}
    assert answer.json() == {"data": [{"city_id": 1, "collection_id": "c0"} | times | weather], "next": following}
    assert answer.headers["link"] == f'<{following}>; rel="next"'


async def test_pages_lead_to_the_end_and_an_unchanged_one_is_not_sent_again(front: Front) -> None:
    url = "/readings?city_id=2,1&limit=4&from=2026-11-20T12:02:00Z&to=2026-11-20T12:05:00Z"
    rows = [row for page in await front.pages(url) for row in page["data"]]
    assert [(row["collection_id"], row["city_id"]) for row in rows] == [
        (f"c{n}", city) for n in (1, 2, 3) for city in (1, 2)
    ]
    first = await front.http.get(url)
    again = await front.http.get(url, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("rows_at_once", [1, 3, 1000])
async def test_a_file_has_all_rows_and_its_columns_say_their_units(
    front: Front, monkeypatch: pytest.MonkeyPatch, rows_at_once: int
) -> None:
    monkeypatch.setattr("producer.api.readings.history.FILE_ROWS", rows_at_once)
    answer = await front.http.get("/readings?city_id=1&format=csv&fields=datetime,pressure")
    header, *rows = csv.reader(io.StringIO(answer.text))
    assert header[2:] == [
        *("fetched_at", "observed_at", "temperature_c", "humidity_percent", "datetime", "pressure_hpa")
    ]
    assert [row[1] for row in rows] == [f"c{number}" for number in range(5)]
    assert rows[0] == [
        *("1", "c0", "2026-11-20T12:01:00.000Z", "2026-11-20T11:53:00.000Z", "0.0", "55.0"),
        *("2026-11-20T12:01:00.000Z", "1000.5"),
    ]


async def test_a_city_without_readings_has_an_empty_history(front: Front) -> None:
    assert (await front.http.get("/readings?city_id=3,99")).json() == {"data": [], "next": None}


async def test_a_wrong_parameter_is_refused(sqlite: Database) -> None:
    http = Front(sqlite).http
    cities = ("", "city_id=0", f"city_id={','.join(map(str, range(1, 22)))}")
    moment = "2026-11-20T12:02:00Z"
    others = {
        "after": ["after=yesterday", "after=2026-13-20T12:01:00.000000Z,1"],
        "fields": ["fields=wind"],
        "from": [f"from={moment}&to={moment}"],
        "format": ["format=xml"],
        "limit": ["format=csv&limit=5"],
    }
    queries = [(f"city_id=1&{query}", where) for where in others for query in others[where]]
    for query, where in [*((query, "city_id") for query in cities), *queries]:
        answer = await http.get(f"/readings?{query}")
        assert (answer.status_code, answer.json()["errors"][0]["where"]) == (422, where)
