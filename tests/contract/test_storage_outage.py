"""When the database is away or refuses: reported in bounded time, with advice where there is some, never a password."""

import socket
import sqlite3
import traceback
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import URL, Connection, insert, make_url, select, text
from sqlalchemy.exc import DBAPIError

from raingauge.clock import SystemClock
from raingauge.database import Database, engines, open_database
from raingauge.database.engines import CONNECT_S
from raingauge.errors import DatabaseUnavailable, SettingsError
from raingauge.storage import cities, collections
from raingauge.storage.models import City, Schema
from tests.contract.storage_support import NOW, ON_SERVERS, an_observation, rows, url_of
from tests.support.databases import SERVER_KINDS, SERVERS, need_port

TAKES_LONG = {"mysql": "SELECT SLEEP(20)", "postgresql": "SELECT pg_sleep(20)"}
PASSWORD = "not-to-be-shown"  # pragma: allowlist secret


def add_city(connection: Connection) -> None:
    connection.execute(insert(City), [{"id": 1}])


def ask(connection: Connection, statement: str = "SELECT 1") -> object:
    return connection.execute(text(statement)).all()


@pytest.mark.long
@pytest.mark.parametrize("driver", ["mysql+pymysql", "postgresql+psycopg"])
def test_a_server_that_takes_connections_and_never_says_anything_is_given_up(driver: str) -> None:
    clock = SystemClock()
    began = clock.monotonic()
    with socket.create_server(("127.0.0.1", 0), backlog=1) as server:
        url = f"{driver}://raingauge:raingauge@127.0.0.1:{server.getsockname()[1]}/raingauge"
        with closing(open_database(url, statement_s=1)) as silent, pytest.raises(DatabaseUnavailable):
            silent.read(ask)
    assert clock.monotonic() - began < CONNECT_S + 2


@pytest.fixture(params=SERVER_KINDS)
def url(request: pytest.FixtureRequest) -> URL:
    """A server's URL, with its right password."""
    found = make_url(SERVERS[request.param])
    need_port(found.port or 0, request.param)
    return found


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"password": PASSWORD}, "Access denied|authentication failed"),
        ({"username": "nobody"}, "Access denied|authentication failed|does not exist"),
        ({"database": "nothing"}, "to database 'nothing'|\"nothing\" does not exist|Unknown database"),
    ],
    ids=["password", "user", "database"],
)
def test_a_refusal_ends_a_start_and_is_waited_out_later(url: URL, changes: dict[str, str], words: str) -> None:
    wrong = url.set(**changes)  # type: ignore[arg-type]
    place = f"127.0.0.1:{url.port}/{wrong.database}"
    with closing(open_database(wrong.render_as_string(hide_password=False))) as database:
        with pytest.raises(SettingsError, match=f"^database.url: {place}: .*({words})") as refused:
            database.check_at_start()
        with pytest.raises(DatabaseUnavailable, match=words) as away:
            database.read(ask)
    assert away.value.shown == "it refuses this service"
    for error in (refused.value, away.value):
        assert PASSWORD not in "".join(traceback.format_exception(error)) + repr(error)


@pytest.mark.services
def test_options_in_the_url_are_kept_beside_the_limits_of_a_session() -> None:
    need_port(5432, "postgres")
    with closing(open_database(f"{SERVERS['postgres']}?options=-c%20work_mem%3D1234kB")) as database:
        found = database.read(
            lambda c: [c.scalar(text(f"SHOW {name}")) for name in ("work_mem", "statement_timeout", "lock_timeout")]
        )
    assert found == ["1234kB", "15s", "10s"]


def test_sqlite_makes_the_folder_of_its_file(tmp_path: Path) -> None:
    with closing(open_database(f"sqlite:///{tmp_path}/some/where/new.db")) as database:
        database.read(ask)
    assert (tmp_path / "some/where/new.db").is_file()


def test_without_tables_or_with_old_ones_it_is_unavailable_and_says_what_to_do(bare: Database) -> None:
    advice = "it has no tables, or old ones: run `python -m alembic upgrade head`"
    for is_old in (False, True):
        if is_old:
            Schema.metadata.create_all(bare.engine)
            bare.write(lambda connection: connection.execute(text("ALTER TABLE collections DROP COLUMN max_age_s")))
            bare.write(lambda connection: connection.execute(text("ALTER TABLE cities DROP COLUMN name")))
        with pytest.raises(DatabaseUnavailable, match=advice):
            bare.read(lambda connection: collections.find(connection, "1"))
        with pytest.raises(DatabaseUnavailable, match=advice):
            bare.write(lambda connection: cities.remember(connection, {1: an_observation(1)}, (), NOW))


def test_a_mistake_in_a_statement_is_no_outage(database: Database) -> None:
    with pytest.raises(DBAPIError, match="ELECT"):
        database.read(lambda connection: ask(connection, "ELECT 1"))
    database.write(add_city)
    with pytest.raises(DBAPIError):
        database.write(add_city)


@ON_SERVERS
def test_a_statement_that_takes_too_long_is_given_up(database: Database) -> None:
    began = SystemClock().monotonic()
    with closing(open_database(url_of(database), statement_s=1)) as hasty:
        with pytest.raises(DatabaseUnavailable):
            hasty.read(lambda connection: ask(connection, TAKES_LONG[hasty.dialect]))
        assert SystemClock().monotonic() - began < 10
        assert hasty.read(lambda connection: connection.scalar(select(1))) == 1


def test_sqlite_locked_by_another_process_for_too_long_is_unavailable_to_writers_only(sqlite: Database) -> None:
    with closing(open_database(url_of(sqlite), statement_s=0)) as hasty:
        with closing(sqlite3.connect(str(sqlite.engine.url.database), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(DatabaseUnavailable):
                hasty.write(add_city)
            assert rows(hasty, City) == []
        hasty.write(add_city)
    assert len(rows(sqlite, City)) == 1


def test_a_busy_pool_is_unavailable_in_bounded_time(sqlite: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "CONNECT_S", 0.05)
    with (
        closing(open_database(url_of(sqlite), pool_size=1)) as narrow,
        narrow.engine.connect(),
        pytest.raises(DatabaseUnavailable, match="all connections are in use"),
    ):
        narrow.read(ask)
