"""Version 0.1.0 at work is upgraded: the schema first, then one process after the other, and no request fails.

Old and new producers and consumers work side by side on one database, one topic and one account.
"""

import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from io import BytesIO
from itertools import count
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self

import pytest
import requests
from sqlalchemy import Connection, TextClause, text

from raingauge.clock import SystemClock
from raingauge.database import Database, DatabaseClock, open_database
from tests.chaos.system import QUOTA, TIMEOUT_S, WINDOW_S, Told, assigned
from tests.e2e.running import kafka_settings, settings_for
from tests.support.databases import need, own_database
from tests.support.eventually import eventually
from tests.support.processes import ROOT, Program, program, simulator

pytestmark = [pytest.mark.services, pytest.mark.timeout(1200)]

RELEASED = "2bc936e0a0f8d0ab8017e04a5911cbf7dca71091"  # pragma: allowlist secret
"""Version 0.1.0, whose schema is migration 0001."""
PER_COLLECTION = 5_000
STORED = {
    "mysql": "INSERT INTO readings (collection_id, city_id, status, fetched_at, observed_at, temperature)"
    " SELECT :id, seq, 'collected', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), seq FROM seq_1_to_{cities}",
    "postgresql": "INSERT INTO readings (collection_id, city_id, status, fetched_at, observed_at, temperature)"
    " SELECT :id, n, 'collected', now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC', n"
    " FROM generate_series(1, {cities}) AS n",
}
ATTEMPTS = 5
CLOCK = SystemClock()
NEW_CITIES = count(3_400_000)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of version 0.1.0; its packages take precedence over the installed ones where it is run."""
    archive = subprocess.run(["git", "archive", RELEASED], cwd=ROOT, capture_output=True, check=False)
    need(archive.returncode == 0, f"commit {RELEASED} is not there: fetch the whole history")
    folder = tmp_path_factory.mktemp("released")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    where = (
        "import consumer, migrations, producer, raingauge as r; print(*(m.__file__ for m in (consumer, producer, r)))"
    )
    found = subprocess.run([sys.executable, "-c", where], cwd=folder, capture_output=True, text=True, check=True)
    assert all(path.startswith(str(folder)) for path in found.stdout.split()), found.stdout
    return folder


class Client:
    """Makes requests of all kinds to one producer, one after the other, and has a collection under way all the time."""

    def __init__(self, url: str, name: str) -> None:
        self.answered = 0
        self.slowest_s = 0.0
        self.failures: list[str] = []
        self.repeated: list[float] = []
        """When an answer was `503, try again`."""
        self.posted: dict[str, int] = {}
        self._url = url
        self._name = name
        self._stop = Event()
        self._thread = Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def post(self, name: str, cities: int) -> None:
        """A collection of cities that nobody wanted before."""
        self.posted[name] = cities
        self._request("POST", "/collect", {"id": name, "cities": [next(NEW_CITIES) for _ in range(cities)]})

    def _run(self) -> None:
        for number in count():
            name = f"{self._name}-{number}"
            self.post(name, 25)
            while self._status(name) != "done":
                for path in ("/collections?limit=5", "/quota", "/get?id=stored-1&limit=50", "/events?limit=5"):
                    self._request("GET", path)
                if self._stop.is_set():
                    return

    def _status(self, name: str) -> object:
        answer = self._request("GET", f"/get?id={name}")
        return None if answer is None else answer.json().get("status")

    def _request(self, method: str, path: str, body: object = None) -> requests.Response | None:
        """The answer; where it is `503, try again`, as a busy database may cause, that of a later attempt."""
        answer = self._once(method, path, body)
        for _ in range(ATTEMPTS):
            if answer is None or answer.status_code != 503:
                break
            self.repeated.append(CLOCK.monotonic())
            self._stop.wait(float(answer.headers["Retry-After"]))
            answer = self._once(method, path, body)
        if answer is not None and answer.status_code >= 400:
            self.failures.append(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer

    def _once(self, method: str, path: str, body: object) -> requests.Response | None:
        began = CLOCK.monotonic()
        try:
            answer = requests.request(method, f"{self._url}{path}", json=body, timeout=20)
        except requests.RequestException as error:
            self.failures.append(f"{method} {path}: {error}")
            return None
        self.answered += 1
        self.slowest_s = max(self.slowest_s, CLOCK.monotonic() - began)
        return answer


def store(database: Database, readings: int) -> None:
    """Finished collections with that many readings, as version 0.1.0 stores them."""
    collection = text(
        "INSERT INTO collections (id, requested_at, max_age_s, cities_hash, total, collected, failed, last_turn,"
        " enqueued, released, finished_at) VALUES (:id, :at, 600, 'x', :n, :n, 0, 0, :n, 250, :at)"
    )
    cities = min(readings, PER_COLLECTION)
    stored = text(STORED["postgresql" if database.dialect == "postgresql" else "mysql"].format(cities=cities))
    for number in range(readings // cities):
        given = {"id": f"stored-{number}", "n": cities}
        database.write(partial(_store_one, statements=(collection, stored), given=given, now=database.now))


def _store_one(
    connection: Connection, statements: tuple[TextClause, TextClause], given: dict[str, Any], now: DatabaseClock
) -> None:
    connection.execute(statements[0], {**given, "at": now(connection)})
    connection.execute(statements[1], {"id": given["id"]})


def migrate(folder: Path, settings: dict[str, str]) -> tuple[float, float]:
    """Bring the schema to what the code in a folder wants; when it began and when it was done."""
    began = CLOCK.monotonic()
    command = [sys.executable, "-m", "alembic", "upgrade", "head"]
    ran = subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return began, CLOCK.monotonic()


@contextmanager
def surroundings(kind: str) -> Iterator[tuple[dict[str, str], Database, Callable[[], dict[str, int]]]]:
    """Settings, an empty database, and what the provider saw."""
    with ExitStack() as parts:
        kafka = parts.enter_context(kafka_settings())
        url = parts.enter_context(own_database(kind))
        pace = ("--quota", str(QUOTA), "--window-s", str(WINDOW_S), "--latency-s", "0.05")
        weather = parts.enter_context(simulator(*pace))
        own = {"quota__window_s": WINDOW_S, "openweather__timeout_s": TIMEOUT_S, "broker__partitions": 6, **kafka}
        settings = settings_for(weather.url, url, own)
        database = parts.enter_context(closing(open_database(url, pool_size=4)))
        yield settings, database, lambda: weather.get("/control/witness")


@pytest.mark.parametrize("kind", ["mariadb", "postgres"])
def test_version_0_1_0_is_upgraded_at_work(kind: str, released: Path, thorough: bool, record_property: Told) -> None:
    with surroundings(kind) as (settings, database, witness), ExitStack() as parts:
        migrate(released, settings)
        store(database, 1_000_000 if thorough else 20_000)

        def start(name: str, folder: Path) -> Program:
            return parts.enter_context(program(name, settings=settings, cwd=folder))

        old_producer, old_consumer = start("producer", released), start("consumer", released)
        eventually(lambda: requests.get(f"{old_producer.url}/quota", timeout=20).ok, 60)  # the gate is there
        with ExitStack() as asking:
            new_client: Client
            with Client(old_producer.url, "old") as old_client:
                old_client.post("large", 150)
                eventually(lambda: settled(database) > 40, 60)
                migrated = migrate(ROOT, settings)
                before = settled(database)
                eventually(lambda: settled(database) > before + 20, 60)
                new_producer, new_consumer = start("producer", ROOT), start("consumer", ROOT)
                new_client = asking.enter_context(Client(new_producer.url, "new"))
                eventually(lambda: assigned(new_consumer), 60)
                before = settled(database)
                eventually(lambda: settled(database) > before + 40, 60)
            assert old_consumer.stop() == 0
            assert old_producer.stop() == 0
            before = settled(database)
            eventually(lambda: settled(database) > before + 30, 60)
        posted = old_client.posted | new_client.posted
        eventually(lambda: settled(database) == sum(posted.values()), 120)
        for client in (old_client, new_client):
            assert client.failures == []
            assert client.answered > 20
        check_readings(database, posted)
        assert witness()["most_in_window"] <= QUOTA
        assert witness()["units"] == sum(posted.values()), "each city was requested once"
        for one in (old_producer, old_consumer, new_producer, new_consumer):
            assert "Traceback" not in one.output
        record_property(f"upgrade on {kind}", report(migrated, [old_client, new_client], sum(posted.values())))


def settled(database: Database) -> int:
    """Cities of the clients' collections that have a reading."""
    query = text("SELECT coalesce(sum(collected + failed), 0) FROM collections WHERE id NOT LIKE 'stored-%'")
    return int(database.read(lambda c: c.scalar(query)) or 0)


def check_readings(database: Database, posted: dict[str, int]) -> None:
    """Every collection is done, and each of its cities was collected and stored once."""
    query = text(
        "SELECT c.id, c.finished_at IS NOT NULL AS done, c.collected, count(DISTINCT r.city_id) AS cities,"
        " count(*) AS readings FROM collections c JOIN readings r ON r.collection_id = c.id"
        " WHERE c.id NOT LIKE 'stored-%' AND r.status = 'collected' GROUP BY c.id, c.finished_at, c.collected"
    )
    rows = database.read(lambda c: c.execute(query).all())
    assert {row.id: (bool(row.done), row.collected, row.cities, row.readings) for row in rows} == {
        name: (True, cities, cities, cities) for name, cities in posted.items()
    }


def report(migrated: tuple[float, float], clients: list[Client], cities: int) -> str:
    began, ended = migrated
    repeated = [moment for one in clients for moment in one.repeated]
    meanwhile = sum(began <= moment <= ended + 1 for moment in repeated)
    answered, slowest = sum(one.answered for one in clients), max(one.slowest_s for one in clients)
    return (
        f"migrated in {ended - began:.1f} s; {answered} requests, {len(repeated)} answered 503 at first,"
        f" {meanwhile} of these during the migration; slowest {slowest:.2f} s; {cities} cities collected"
    )
