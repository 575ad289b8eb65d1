"""Embedded mode on databases as operators run them: one that turns read-only, one behind a pooler."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
import requests
from sqlalchemy import create_engine, delete, make_url, text

from raingauge.database import Database, open_database
from raingauge.errors import DatabaseUnavailable
from raingauge.storage.models import City
from tests.e2e.running import settings_for
from tests.support.databases import need, own_database
from tests.support.eventually import eventually
from tests.support.processes import Program, program, simulator
from tests.support.servers import PATH, MariaDB, PgBouncer, killable

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("outages")]

CITIES = range(3_400_000, 3_400_100)
RESUMES_S = 30.0


@contextmanager
def embedded(url: str) -> Iterator[Program]:
    """Embedded mode on that database, and a provider; 100 cities take some seconds."""
    with (
        simulator("--quota", "60", "--window-s", "4", "--latency-s", "0.02") as provider,
        program("standalone", settings=settings_for(provider.url, url, {"quota__window_s": 4})) as service,
    ):
        yield service


def progress(service: Program, name: str) -> int:
    return int(service.get("/get", id=name)["collected"])


def readiness(service: Program) -> tuple[int, str]:
    answer = requests.get(f"{service.url}/ready", timeout=10)
    return answer.status_code, answer.json()["status"]


ReadOnly = Callable[[bool], None]


def on_postgres(url: str) -> ReadOnly:
    """Its sessions are cut; new ones are read-only, and stay so when the database is writable again."""
    target = make_url(url)
    others = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")

    def switch(read_only: bool) -> None:
        engine = create_engine(target.set(database="raingauge"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            change = "SET default_transaction_read_only = on" if read_only else "RESET default_transaction_read_only"
            connection.execute(text(f"ALTER DATABASE {target.database} {change}"))
            if read_only:
                connection.execute(others, {"name": target.database})
        engine.dispose()

    return switch


@pytest.fixture(params=["mariadb", "postgres"])
def switchable(request: pytest.FixtureRequest) -> Iterator[tuple[str, ReadOnly]]:
    """The URL of a database, and what makes it read-only or writable."""
    if request.param == "mariadb":
        server: MariaDB = request.getfixturevalue("mariadb")
        yield server.url, lambda read_only: server.set_global("read_only", int(read_only))
        return
    with own_database("postgres") as url:
        yield url, on_postgres(url)


def test_a_database_that_turns_read_only_is_an_outage_that_ends_by_itself(switchable: tuple[str, ReadOnly]) -> None:
    url, read_only = switchable
    with embedded(url) as service:
        service.collect(id=1, cities=[*CITIES])
        eventually(lambda: progress(service, "1"), RESUMES_S)
        read_only(True)
        assert service.collect(id=2, cities=[1]).status_code == 503
        why = "The database cannot be used now: it is read-only"
        eventually(lambda: readiness(service) == (503, why), RESUMES_S)
        before = progress(service, "1")
        assert before < len(CITIES)
        read_only(False)
        eventually(lambda: progress(service, "1") == len(CITIES), RESUMES_S)
        eventually(lambda: readiness(service) == (200, "ready"), RESUMES_S)
        assert service.collect(id=2, cities=[CITIES[0]]).status_code == 202


def test_all_connections_are_new_after_a_write_was_refused_as_read_only(mariadb: MariaDB) -> None:
    def connections(database: Database) -> set[int]:
        with ExitStack() as opened:
            several = [opened.enter_context(database.engine.connect()) for _ in range(3)]
            return {connection.scalar(text("SELECT connection_id()")) or 0 for connection in several}

    with closing(open_database(mariadb.url)) as database:
        before = connections(database)
        mariadb.set_global("read_only", 1)
        with pytest.raises(DatabaseUnavailable, match="read-only"):
            database.write(lambda connection: connection.execute(delete(City)))
        assert connections(database).isdisjoint(before)


def test_behind_a_pooler_in_transaction_mode_it_accepts_collects_and_answers(tmp_path: Path) -> None:
    need(shutil.which("pgbouncer", path=PATH), "pgbouncer is not installed")
    with own_database("postgres") as direct, killable(PgBouncer, tmp_path / "pooler") as pooler:
        pooler.start()
        with embedded(make_url(direct).set(port=pooler.port).render_as_string(hide_password=False)) as service:
            for number in range(20):  # each transaction may run in another session than the one before
                assert service.collect(id=number, cities=[*CITIES[number : number + 20]]).status_code == 202
                assert service.get("/get", id=number)["total"] == 20
            eventually(lambda: all(progress(service, str(number)) == 20 for number in range(20)), RESUMES_S)
            assert "unexpected" not in service.output
            assert "unavailable" not in service.output
