"""An export of 131,072 readings takes no more memory than one of a few: the process is measured from outside."""

from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
import requests
from sqlalchemy import Connection, insert, select

from raingauge.database import open_database
from raingauge.storage.models import City, Collection, Reading
from tests.contract.storage_support import NOW
from tests.contract.test_storage_outbox import analyze
from tests.e2e.running import settings_for
from tests.support.databases import SERVER_KINDS, own_database
from tests.support.processes import Program, program

DOUBLINGS: Final = 17
ROWS: Final = 2**DOUBLINGS
NOBODY: Final = "http://127.0.0.1:9"
ALLOWED_MB: Final = 50
WEATHER: Final[dict[str, Any]] = {
    "fetched_at": NOW, "observed_at": NOW, "temperature": 19.42, "feels_like": 18.9, "humidity": 55.0,
    "pressure": 1016.0, "wind_speed": 1.5, "wind_deg": 220.0, "clouds": 75.0, "visibility": 10_000.0,
    "condition_id": 803, "description": "broken clouds", "utc_offset_s": -10_800,
}  # fmt: skip


def double(connection: Connection, table: type[City | Reading], number: str, times: int) -> None:
    """Make 2 ** times rows of the one that is numbered 1."""
    columns = {column.name: column for column in table.__table__.columns}
    for before in (2**n for n in range(times)):
        rows = select(*(column + before if name == number else column for name, column in columns.items()))
        connection.execute(insert(table).from_select([*columns], rows))


def fill(connection: Connection) -> None:
    """A collection that is done."""
    collection = {"requested_at": NOW, "finished_at": NOW, "max_age_s": 0, "cities_hash": "x"}
    connection.execute(insert(Collection).values(id="1", total=ROWS, collected=ROWS, **collection))
    place = {"name": "Paso de los Toros", "country": "UY", "latitude": -32.81, "longitude": -56.51}
    connection.execute(insert(City).values(id=1, **place, **WEATHER))
    connection.execute(insert(Reading).values(collection_id="1", city_id=1, status="collected", **WEATHER))
    double(connection, City, "id", DOUBLINGS)
    double(connection, Reading, "city_id", DOUBLINGS)


def memory_mb(running: Program, what: str) -> float:
    """What it holds now (`VmRSS`), or the most since it began (`VmHWM`)."""
    lines = Path(f"/proc/{running.process.pid}/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))


def exported_mb(running: Program, format_name: str) -> float:
    """The length of an export."""
    url = f"{running.url}/collections/1/export"
    with requests.get(url, {"format": format_name}, stream=True, timeout=60) as answer:
        answer.raise_for_status()
        return sum(map(len, answer.iter_content(2**16))) / 2**20


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["sqlite", *SERVER_KINDS])
def test_it_takes_constant_memory(kind: str) -> None:
    with own_database(kind) as url, program("standalone", settings=settings_for(NOBODY, url, {})) as running:
        with closing(open_database(url)) as database:
            database.write(fill)
            analyze(database, ("cities", "readings"))
        rest_mb = memory_mb(running, "VmRSS")
        lengths = {name: exported_mb(running, name) for name in ("json", "parquet")}  # texts are written alike
        most_mb = memory_mb(running, "VmHWM") - rest_mb
    assert lengths["json"] > ALLOWED_MB, lengths
    assert most_mb < ALLOWED_MB
