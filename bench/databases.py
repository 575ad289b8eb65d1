"""Databases of the bench's own: a schema on MariaDB or a file of SQLite, with the tables in it, gone afterwards."""

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

from sqlalchemy import create_engine, make_url, text

from raingauge.database import open_database
from standalone.app import prepare
from tests.support.databases import SERVERS

MARIADB: Final = SERVERS["mariadb"]


@contextmanager
def on_mariadb() -> Iterator[str]:
    """The URL of a fresh database on the server of `make services`."""
    own = f"raingauge_bench_{uuid4().hex[:12]}"
    url = make_url(MARIADB)
    server = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with server.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {own}"))
        try:
            yield _prepared(url.set(database=own).render_as_string(hide_password=False))
        finally:
            with server.connect() as connection:
                connection.execute(text(f"DROP DATABASE {own}"))
    finally:
        server.dispose()


@contextmanager
def on_sqlite() -> Iterator[str]:
    """The URL of a fresh file, on the disk where the repository is: syncing costs what it costs."""
    Path("var").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir="var") as folder:
        yield _prepared(f"sqlite:///{folder}/raingauge.db")


def _prepared(url: str) -> str:
    with closing(open_database(url)) as database:
        prepare(database)
    return url
