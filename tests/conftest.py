"""Fixtures for all tests: a database of each kind."""

import gc
import logging
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hypothesis import settings

from raingauge.database import Database, open_database
from raingauge.observability.log import LIBRARIES
from tests.support.databases import (
    SERVER_KINDS,
    empty,
    memory_folder,
    need,
    need_port,
    own_database,
    server_schema,
    sqlite_copy,
    sqlite_template,
)
from tests.support.mysql import MYSQLD, SecuredMySQL
from tests.support.secured import SecuredKafka, SecuredMariaDB, SecuredPostgres
from tests.support.servers import MariaDB, killable

# Properties have as many examples as `make test` has time for, or a hundred each.
settings.register_profile("default", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=25)
settings.load_profile("default")


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long the simulation is."""
    parser.addoption("--seeds", type=int, default=5, help="seeds that the simulation runs")


def pytest_collection_finish() -> None:
    """Spare the tests that are collected from each search for garbage: they are a million objects, and stay."""
    gc.freeze()


KINDS = ["sqlite", *SERVER_KINDS]


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Undo what a program that ran within the test did to logging: later tests would hear of it."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    levels = [(logger, logger.level) for logger in (root, *map(logging.getLogger, LIBRARIES))]
    yield
    root.handlers[:] = handlers
    for logger, level in levels:
        logger.setLevel(level)


@pytest.fixture(scope="session")
def template() -> Iterator[Path]:
    """A SQLite file with the schema in it."""
    with sqlite_template() as path:
        yield path


@pytest.fixture(scope="session")
def schemas() -> Iterator[dict[str, str]]:
    """The URLs of this run's databases on servers, filled as tests ask for them."""
    with ExitStack() as opened:
        yield _Schemas(opened)


class _Schemas(dict[str, str]):
    def __init__(self, opened: ExitStack) -> None:
        super().__init__()
        self._opened = opened

    def __missing__(self, name: str) -> str:
        self[name] = self._opened.enter_context(server_schema(name))
        return self[name]


@pytest.fixture
def sqlite(template: Path) -> Iterator[Database]:
    """An empty SQLite database."""
    with sqlite_copy(template) as database:
        yield database


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, template: Path, schemas: dict[str, str]) -> Iterator[Database]:
    """An empty database, of each kind in turn."""
    if request.param == "sqlite":
        with sqlite_copy(template) as fresh:
            yield fresh
        return
    with closing(open_database(schemas[request.param], pool_size=16)) as server:
        yield server
        empty(server)


@pytest.fixture(params=KINDS)
def bare(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database of its own without tables, of each kind in turn."""
    with own_database(request.param) as url, closing(open_database(url)) as database:
        yield database


@pytest.fixture(scope="session")
def memory() -> Iterator[Path]:
    """A folder for servers' data."""
    with memory_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def own_mariadb(memory: Path) -> Iterator[MariaDB]:
    """A database, where `make services` has one, too."""
    need_port(3306, "MariaDB")
    with killable(MariaDB, memory / "mariadb") as server:
        yield server


@pytest.fixture
def mariadb(own_mariadb: MariaDB) -> MariaDB:
    """The same, running, with an empty schema."""
    own_mariadb.start()
    own_mariadb.fresh()
    return own_mariadb


@pytest.fixture(scope="session")
def secured_mariadb(memory: Path) -> Iterator[SecuredMariaDB]:
    """A MariaDB that wants TLS. Whoever changes its certificate puts it back."""
    need_port(3306, "MariaDB")
    with killable(SecuredMariaDB, memory / "secured-mariadb") as server:
        server.start()
        server.fresh()
        yield server


@pytest.fixture(scope="session")
def secured_mysql(memory: Path) -> Iterator[SecuredMySQL]:
    """The same of MySQL, which logs in with `caching_sha2_password`."""
    need(MYSQLD.exists(), "MySQL is not here: run `make mysql`")
    with killable(SecuredMySQL, memory / "secured-mysql") as server:
        server.start()
        server.fresh()
        yield server


@pytest.fixture(scope="session")
def secured_postgres(memory: Path) -> Iterator[SecuredPostgres]:
    """The same of PostgreSQL."""
    need_port(5432, "PostgreSQL")
    with killable(SecuredPostgres, memory / "secured-postgres") as server:
        server.start()
        server.fresh()
        yield server


@pytest.fixture(scope="session")
def secured_kafka(memory: Path) -> Iterator[SecuredKafka]:
    """A Kafka with a listener for each kind of security."""
    need_port(9092, "Kafka")
    with killable(SecuredKafka, memory / "secured-kafka") as server:
        server.start()
        yield server
