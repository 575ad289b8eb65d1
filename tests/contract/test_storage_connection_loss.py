"""When the way to the database breaks or goes silent under way: whole or nothing, told in time, and found again."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from threading import Event, Thread
from types import TracebackType
from typing import Self

import pytest
from sqlalchemy import Connection, insert, select, text

from raingauge.clock import SystemClock
from raingauge.errors import DatabaseUnavailable
from raingauge.storage import database as database_module
from raingauge.storage.database import STATEMENT_S, Database, open_database
from raingauge.storage.models import City
from tests.contract.storage_support import ON_SERVERS, rows

ON_MARIADB = pytest.mark.parametrize("database", [pytest.param("mariadb", marks=pytest.mark.services)], indirect=True)
ON_POSTGRES = pytest.mark.parametrize("database", [pytest.param("postgres", marks=pytest.mark.services)], indirect=True)


class Road:
    """A port that leads to a server, and can be cut or blocked."""

    def __init__(self, host: str, port: int) -> None:
        self._goal = (host, port)
        self._sockets: list[socket.socket] = []
        self._threads: list[Thread] = []
        self._passable = Event()
        self._passable.set()

    def __enter__(self) -> Self:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join(10)
        for end in (*self._sockets, self._server):
            end.close()

    def cut(self) -> None:
        """Break every connection; new ones get through."""
        self._passable.set()
        for end in self._sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def block(self) -> None:
        """Let nothing through from now on, without saying so."""
        self._passable.clear()

    def _start(self, work: Callable[..., None], *args: socket.socket) -> None:
        thread = Thread(target=work, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._server.accept()
                there = socket.create_connection(self._goal)
                self._sockets += [here, there]
                self._start(self._pump, here, there)
                self._start(self._pump, there, here)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while some := source.recv(65_536):
                self._passable.wait()
                sink.sendall(some)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def road(database: Database) -> Iterator[Road]:
    """The way to the database's server."""
    url = database.engine.url
    assert url.host is not None
    assert url.port is not None
    with Road(url.host, url.port) as road:
        yield road


@pytest.fixture
def far(database: Database, road: Road) -> Iterator[Database]:
    """The same database by way of the road."""
    url = database.engine.url.set(port=road.port).render_as_string(hide_password=False)
    with closing(open_database(url, statement_s=1)) as far:
        yield far


def one(database: Database) -> int | None:
    return database.read(lambda connection: connection.scalar(select(1)))


@ON_SERVERS
@pytest.mark.parametrize(
    "ping_after_s", [pytest.param(0.0, id="tested before use"), pytest.param(60.0, id="just used")]
)
def test_a_reader_does_not_notice_that_its_connection_broke_between_transactions(
    far: Database, road: Road, monkeypatch: pytest.MonkeyPatch, ping_after_s: float
) -> None:
    monkeypatch.setattr(database_module, "PING_AFTER_S", ping_after_s)
    assert one(far) == 1
    road.cut()
    assert one(far) == 1


@ON_SERVERS
def test_one_who_writes_is_told_once_of_a_connection_that_broke_right_after_its_use(
    database: Database, far: Database, road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(connection: Connection) -> None:
        connection.execute(insert(City), [{"id": 1}])

    monkeypatch.setattr(database_module, "PING_AFTER_S", 60.0)
    assert one(far) == 1
    road.cut()
    with pytest.raises(DatabaseUnavailable):
        far.write(add)
    assert not rows(database, City)
    far.write(add)
    assert len(rows(database, City)) == 1


@ON_SERVERS
def test_a_connection_that_breaks_while_one_reads_is_replaced_once(far: Database, road: Road) -> None:
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
    database: Database, far: Database, road: Road, is_last: bool
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
def test_a_server_that_falls_silent_is_given_up_and_found_again(far: Database, road: Road) -> None:
    clock = SystemClock()

    def work(connection: Connection) -> None:
        connection.execute(text("SELECT 1"))
        road.block()
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
