"""When the database is away: told in bounded time, with advice where there is some, and without any password."""

import socket
import sqlite3
import traceback
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, make_url, select, text
from sqlalchemy.exc import DBAPIError

from raingauge.clock import SystemClock
from raingauge.errors import DatabaseUnavailable, RaingaugeError, SettingsError
from raingauge.model import CollectionRequest
from raingauge.storage import cities, collections
from raingauge.storage import database as database_module
from raingauge.storage.database import CONNECT_S, Database, open_database
from raingauge.storage.models import City, Schema
from tests.contract.storage_support import NOW, ON_SERVERS, an_observation, rows
from tests.support.accepting import accept as accept_one
from tests.support.databases import SERVER_KINDS, SERVERS, need_port, own_database

TAKES_LONG = {"mysql": "SELECT SLEEP(20)", "postgresql": "SELECT pg_sleep(20)"}
PASSWORD = "not-to-be-shown"  # pragma: allowlist secret
DRIVERS = ["mysql+pymysql", "postgresql+psycopg"]


def url_of(database: Database) -> str:
    return database.engine.url.render_as_string(hide_password=False)


def add_cities(*city_ids: int) -> Callable[[Connection], object]:
    return lambda connection: connection.execute(insert(City), [{"id": city} for city in city_ids])


def ask(connection: Connection, statement: str = "SELECT 1") -> object:
    return connection.execute(text(statement)).all()


def seconds_until_unavailable(url: str, statement_s: int = 1) -> tuple[float, DatabaseUnavailable]:
    """How long it took to be told, and what was told."""
    clock = SystemClock()
    began = clock.monotonic()
    with closing(open_database(url, statement_s=statement_s)) as away, pytest.raises(DatabaseUnavailable) as told:
        away.read(ask)
    return clock.monotonic() - began, told.value


def whole_text(error: RaingaugeError) -> str:
    """All that a log could show of it, its causes too."""
    return "".join(traceback.format_exception(error)) + repr(error)


@pytest.fixture
def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(("backlog", "within_s"), [(None, CONNECT_S), (1, CONNECT_S + 2)], ids=["closed", "silent"])
def test_a_port_where_no_database_answers_is_given_up(
    driver: str, closed_port: int, backlog: int | None, within_s: float
) -> None:
    with ExitStack() as open_ports:
        if backlog:  # it takes connections and never says anything
            open_ports.enter_context(socket.create_server(("127.0.0.1", closed_port), backlog=backlog))
        url = f"{driver}://raingauge:{PASSWORD}@127.0.0.1:{closed_port}/raingauge"
        seconds, error = seconds_until_unavailable(url)
    assert seconds < within_s
    assert PASSWORD not in whole_text(error)


@pytest.mark.parametrize("kind", SERVER_KINDS)
def test_a_wrong_password_is_not_shown(kind: str) -> None:
    need_port(make_url(SERVERS[kind]).port or 0, kind)
    _, error = seconds_until_unavailable(SERVERS[kind].replace(":raingauge@", f":{PASSWORD}@"))
    assert PASSWORD not in whole_text(error)


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(f"mysql+pymysql://raingauge:{PASSWORD}@127.0.0.1:port/raingauge", id="a port that is no number"),
        pytest.param(f"raingauge:{PASSWORD}@127.0.0.1", id="no scheme"),
        pytest.param(f"oracle://raingauge:{PASSWORD}@127.0.0.1/raingauge", id="another database"),
        pytest.param(f"mysql+nothing://raingauge:{PASSWORD}@127.0.0.1/raingauge", id="another driver"),
    ],
)
def test_a_setting_that_is_no_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^database\.url: ") as told:
        open_database(url)
    assert PASSWORD not in whole_text(told.value)


def test_opening_connects_to_nothing_yet(closed_port: int) -> None:
    open_database(f"mysql+pymysql://raingauge:{PASSWORD}@127.0.0.1:{closed_port}/raingauge").close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_sqlite_without_a_file_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="needs a file"):
        open_database(url)


def test_sqlite_makes_the_folder_of_its_file(tmp_path: Path) -> None:
    with closing(open_database(f"sqlite:///{tmp_path}/some/where/new.db")) as database:
        database.read(ask)
    assert (tmp_path / "some/where/new.db").is_file()


@pytest.mark.parametrize("kind", ["sqlite", *SERVER_KINDS])
def test_without_tables_it_is_unavailable_and_says_what_to_do(kind: str) -> None:
    request = CollectionRequest("1", [1], 600, named=True)
    with own_database(kind) as url, closing(open_database(url)) as bare:
        with pytest.raises(DatabaseUnavailable, match="run `python -m alembic upgrade head`"):
            bare.read(lambda connection: collections.find(connection, "1"))
        with pytest.raises(DatabaseUnavailable, match="run `python -m alembic upgrade head`"):
            bare.write(lambda connection: accept_one(connection, NOW, request))


@pytest.mark.parametrize("kind", ["sqlite", *SERVER_KINDS])
def test_with_tables_of_an_older_version_it_says_so(kind: str) -> None:
    old = "or old ones: run `python -m alembic upgrade head`"
    with own_database(kind) as url, closing(open_database(url)) as behind:
        Schema.metadata.create_all(behind.engine)
        with behind.engine.begin() as connection:
            connection.execute(text("ALTER TABLE collections DROP COLUMN cancelled_at"))
            connection.execute(text("ALTER TABLE cities DROP COLUMN name"))
        with pytest.raises(DatabaseUnavailable, match=old):
            behind.read(lambda connection: collections.find(connection, "1"))
        with pytest.raises(DatabaseUnavailable, match=old):
            behind.write(lambda connection: cities.remember(connection, {1: an_observation(1)}, (), NOW))


def test_a_mistake_in_a_statement_is_no_outage(database: Database) -> None:
    with pytest.raises(DBAPIError, match="ELECT"):
        database.read(lambda connection: ask(connection, "ELECT 1"))
    database.write(add_cities(1))
    with pytest.raises(DBAPIError):
        database.write(add_cities(1))


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
                hasty.write(add_cities(1))
            assert rows(hasty, City) == []
        hasty.write(add_cities(1))
    assert len(rows(sqlite, City)) == 1


def test_a_busy_pool_is_unavailable_in_bounded_time(sqlite: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "CONNECT_S", 0.05)
    with (
        closing(open_database(url_of(sqlite), pool_size=1)) as narrow,
        narrow.engine.connect(),
        pytest.raises(DatabaseUnavailable, match="all connections are in use"),
    ):
        narrow.read(ask)
