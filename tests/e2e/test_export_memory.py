"""An export of 250,000 readings takes no more memory than one of a few: the process is measured from outside."""

from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
import requests
from sqlalchemy import Connection, insert

from producer.exports.exporting import TEXT
from raingauge.database import open_database
from raingauge.storage.models import City, Collection, Reading
from tests.contract.storage_support import NOW
from tests.contract.test_storage_outbox import analyze
from tests.e2e.running import settings_for
from tests.support.databases import SERVER_KINDS, SERVERS, own_database
from tests.support.processes import Program, program

ROWS: Final = 250_000
ROWS_AT_ONCE: Final = 10_000
NOBODY: Final = "http://127.0.0.1:9"
ALLOWED_MB: Final = 50
WEATHER: Final[dict[str, Any]] = {
    "fetched_at": NOW, "observed_at": NOW, "temperature": 19.42, "feels_like": 18.9, "humidity": 55.0,
    "pressure": 1016.0, "wind_speed": 1.5, "wind_deg": 220.0, "clouds": 75.0, "visibility": 10_000.0,
    "condition_id": 803, "description": "broken clouds", "utc_offset_s": -10_800,
}  # fmt: skip


def fill(connection: Connection) -> None:
    """A collection that is done."""
    collection = {"requested_at": NOW, "finished_at": NOW, "max_age_s": 0, "cities_hash": "x"}
    connection.execute(insert(Collection).values(id="1", total=ROWS, collected=ROWS, **collection))
    for first in range(1, ROWS, ROWS_AT_ONCE):
        numbers = range(first, first + ROWS_AT_ONCE)
        place = {"name": "Paso de los Toros", "country": "UY", "latitude": -32.81, "longitude": -56.51}
        connection.execute(insert(City), [WEATHER | place | {"id": n} for n in numbers])
        reading = WEATHER | {"collection_id": "1", "status": "collected"}
        connection.execute(insert(Reading), [reading | {"city_id": n} for n in numbers])


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
    settings: dict[str, object] = {}
    with own_database(kind) as url, program("standalone", settings=settings_for(NOBODY, url, settings)) as running:
        with closing(open_database(url)) as database:
            database.write(fill)
            analyze(database, ("cities", "readings"))
        rest_mb = memory_mb(running, "VmRSS")
        formats = ("csv", "parquet") if kind in SERVERS else (*TEXT, "parquet")
        lengths = {name: exported_mb(running, name) for name in formats}
        most_mb = memory_mb(running, "VmHWM") - rest_mb
    assert min(length for name, length in lengths.items() if name in TEXT) > ALLOWED_MB / 2, lengths
    assert most_mb < ALLOWED_MB
