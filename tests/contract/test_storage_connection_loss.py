"""When the way to the database breaks or goes silent under way: whole or nothing, reported in time, and found again."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import Connection, insert, make_url, select, text

from raingauge.clock import SystemClock
from raingauge.database import Database, engines, open_database
from raingauge.database.engines import STATEMENT_S
from raingauge.errors import DatabaseUnavailable
from raingauge.storage.models import City
from tests.contract.storage_support import ON_SERVERS, rows, url_of
from tests.e2e.network import Door, door
from tests.support.databases import SERVER_KINDS

ON_MARIADB, ON_POSTGRES = (pytest.mark.parametrize("database", [kind], indirect=True) for kind in SERVER_KINDS)


@pytest.fixture
def road(database: Database) -> Iterator[Door]:
    """The way to the database's server."""
    url = database.engine.url
    with door(str(url.host), url.port or 0) as road:
        yield road


@pytest.fixture
def far(database: Database, road: Door) -> Iterator[Database]:
    """The same database by way of the road."""
    url = make_url(url_of(database)).set(port=road.port).render_as_string(hide_password=False)
    with closing(open_database(url, statement_s=1)) as far:
        yield far


def one(database: Database) -> int | None:
    return database.read(lambda connection: connection.scalar(select(1)))


@ON_SERVERS
@pytest.mark.parametrize(
    "ping_after_s", [pytest.param(0.0, id="tested before use"), pytest.param(60.0, id="just used")]
)
def test_a_reader_does_not_notice_that_its_connection_broke_between_transactions(
    far: Database, road: Door, monkeypatch: pytest.MonkeyPatch, ping_after_s: float
) -> None:
    monkeypatch.setattr(engines, "PING_AFTER_S", ping_after_s)
    assert one(far) == 1
    road.cut()
    assert one(far) == 1


@ON_SERVERS
def test_one_who_writes_is_told_once_of_a_connection_that_broke_right_after_its_use(
    database: Database, far: Database, road: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(connection: Connection) -> None:
        connection.execute(insert(City), [{"id": 1}])

    monkeypatch.setattr(engines, "PING_AFTER_S", 60.0)
    assert one(far) == 1
    road.cut()
    with pytest.raises(DatabaseUnavailable):
        far.write(add)
    assert not rows(database, City)
    far.write(add)
    assert len(rows(database, City)) == 1


@ON_SERVERS
def test_a_connection_that_breaks_while_one_reads_is_replaced_once(far: Database, road: Door) -> None:
    tries = 0

    def work(connection: Connection) -> None:
        nonlocal tries
        tries += 1
        connection.execute(text("SELECT 1"))
        road.cut()
        connection.execute(text("SELECT 2"))

    with pytest.raises(DatabaseUnavailable):
        far.read(work)
    assert tries == 2


@ON_SERVERS
@pytest.mark.parametrize(
    "is_last", [pytest.param(False, id="before a statement"), pytest.param(True, id="at the commit")]
)
def test_a_connection_that_breaks_within_a_transaction_leaves_nothing_of_it(
    database: Database, far: Database, road: Door, is_last: bool
) -> None:
    def work(connection: Connection) -> None:
        connection.execute(insert(City), [{"id": 1}])
        road.cut()
        if not is_last:
            connection.execute(insert(City), [{"id": 2}])

    with pytest.raises(DatabaseUnavailable):
        far.write(work)
    assert one(far) == 1
    assert not rows(database, City)


@ON_MARIADB
def test_a_server_that_falls_silent_is_given_up_and_found_again(far: Database, road: Door) -> None:
    clock = SystemClock()

    def work(connection: Connection) -> None:
        connection.execute(text("SELECT 1"))
        road.shut()
        connection.execute(text("SELECT 2"))

    began = clock.monotonic()
    with pytest.raises(DatabaseUnavailable):
        far.write(work)
    with pytest.raises(DatabaseUnavailable):
        one(far)
    assert clock.monotonic() - began < 10
    road.cut()
    assert one(far) == 1


@ON_POSTGRES
def test_the_network_gives_up_a_postgresql_server_that_is_gone(database: Database) -> None:
    """psycopg itself waits without end, so the kernel has to; that it does is not tried here."""

    def options(connection: Connection) -> list[int]:
        driver = connection.connection.driver_connection
        assert driver is not None
        with socket.socket(fileno=os.dup(driver.fileno())) as copy:
            return [copy.getsockopt(socket.IPPROTO_TCP, option) for option in wanted]

    wanted = [socket.TCP_USER_TIMEOUT, socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT]
    assert database.read(options) == [STATEMENT_S * 1000, 5, 2, 5]
