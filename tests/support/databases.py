"""Databases for tests: a SQLite file each, or a schema of its own on the MariaDB and PostgreSQL of `make services`."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine, delete, event, make_url, text

from raingauge.database import Database, DatabaseClock, open_database, server_time
from raingauge.storage.models import Schema

SERVERS = {
    "mariadb": os.environ.get("TEST_MARIADB_URL", "mysql+pymysql://raingauge:raingauge@127.0.0.1:3306/raingauge"),
    "postgres": "postgresql+psycopg://raingauge:raingauge@127.0.0.1:5432/raingauge",
}
SERVER_KINDS = [pytest.param(kind, marks=pytest.mark.services) for kind in SERVERS]


def port_open(port: int) -> bool:
    """Whether somebody listens."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def need(condition: object, message: str) -> None:
    """Skip the test when something is missing; in CI that is a failure."""
    if not condition:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)


def need_port(port: int, name: str) -> None:
    """Skip the test when a service is missing; in CI that is a failure."""
    need(port_open(port), f"{name} does not answer on port {port}: run `make services`")


def prepare(database: Database) -> None:
    """Create the schema."""
    Schema.metadata.create_all(database.engine)


@contextmanager
def memory_folder() -> Iterator[Path]:
    """A folder on a memory file system where there is one: syncing to it costs nothing."""
    parent = "/dev/shm" if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="raingauge-test-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def sqlite_template() -> Iterator[Path]:
    """A SQLite file with the schema in it, to be copied."""
    with memory_folder() as folder:
        path = folder / "template.db"
        with closing(open_database(f"sqlite:///{path}")) as database:
            prepare(database)
        yield path


@contextmanager
def sqlite_copy(template: Path, clock: DatabaseClock = server_time) -> Iterator[Database]:
    """A fresh SQLite database."""
    path = template.with_name(f"{uuid4().hex}.db")
    shutil.copy(template, path)
    with closing(open_database(f"sqlite:///{path}", pool_size=16, clock=clock)) as database:
        yield database
    for leftover in path.parent.glob(f"{path.name}*"):
        leftover.unlink()


@cache
def _kept(path: Path) -> Engine:
    """An engine that keeps its compiled statements, for one file after the other under the same name."""
    engine = open_database(f"sqlite:///{path}").engine

    @event.listens_for(engine, "connect")
    def never_sync(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA synchronous=OFF")  # the machine does not lose power

    return engine


@contextmanager
def sqlite_again(template: Path) -> Iterator[Engine]:
    """A fresh SQLite database on the engine of the last one: compiling all statements anew takes long."""
    path = template.with_name(f"again-{os.getpid()}.db")
    shutil.copy(template, path)
    engine = _kept(path)
    try:
        yield engine
    finally:
        engine.dispose()
        for leftover in path.parent.glob(f"{path.name}*"):
            leftover.unlink()


@contextmanager
def own_database(kind: str) -> Iterator[str]:
    """The URL of a database without any tables."""
    if kind == "sqlite":
        with memory_folder() as folder:
            yield f"sqlite:///{folder}/own.db"
        return
    url = make_url(SERVERS[kind])
    need_port(url.port or 0, kind)
    name = f"raingauge_test_{uuid4().hex[:12]}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name}"))
        engine.dispose()


@contextmanager
def server_schema(kind: str) -> Iterator[str]:
    """The URL of a fresh database on a server, with the schema in it."""
    with own_database(kind) as url:
        with closing(open_database(url)) as database:
            prepare(database)
        yield url


def empty(database: Database) -> None:
    """Delete every row."""
    database.write(lambda c: [c.execute(delete(table)) for table in reversed(Schema.metadata.sorted_tables)])
