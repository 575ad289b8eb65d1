"""Steps of a migration that runs while services work: each can be repeated, none blocks others for long.

A change of a table waits for its lock, and everybody who comes later waits behind it. So it waits for a moment only,
and tries again. What each database locks meanwhile: docs/upgrading.md. It must not drop or rename anything, but an
index that was interrupted while it was built.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any, Final

import sqlalchemy as sa
from alembic import op
from sqlalchemy.exc import DBAPIError

from raingauge.database.causes import may_run_again
from raingauge.errors import Fatal

LOCK_MS: Final = 300
"""PostgreSQL: how long a change waits for its lock. Less than a request may take."""
LOCK_S: Final = 1
"""The same on MySQL and MariaDB, where less cannot be had."""
PAUSE_S: Final = 0.5
TRIES: Final = 240
"""Attempts at a step. Each waits for its lock as long as `LOCK_MS` or `LOCK_S` allows: some minutes altogether."""

_INVALID: Final = sa.text(
    "SELECT count(*) FROM pg_class JOIN pg_index ON pg_index.indexrelid = pg_class.oid"
    " WHERE pg_class.relname = :name AND pg_class.relnamespace = current_schema()::regnamespace AND NOT indisvalid"
)


@contextmanager
def online() -> Iterator[None]:
    """The steps within run one by one, each committed by itself, and do not queue others behind them for long.

    SQLite, which has one lock for all, runs them in one transaction.
    """
    dialect = op.get_context().dialect.name
    if dialect == "postgresql":
        with op.get_context().autocommit_block():
            op.execute("SET statement_timeout = 0")
            yield
    else:
        if dialect in {"mysql", "mariadb"}:
            op.execute(f"SET SESSION lock_wait_timeout = {LOCK_S}")
        yield


def create_table(name: str, *parts: sa.schema.SchemaItem) -> None:
    """Create a table that is not there yet."""
    inspector = _inspector()
    if inspector is None or not inspector.has_table(name):
        op.create_table(name, *parts)


def add_column(table: str, column: sa.Column[Any]) -> None:
    """Add a column that is not there yet: it may be empty, so no row is written."""
    inspector = _inspector()
    if inspector is None or column.name not in {found["name"] for found in inspector.get_columns(table)}:
        _set_lock_timeout(LOCK_MS)
        _patiently(table, lambda: op.add_column(table, column))


def create_index(name: str, table: str, columns: list[str]) -> None:
    """Create an index that is not there yet, while others write; one that was interrupted is created anew."""

    def step() -> None:
        if _is_invalid(name):
            op.drop_index(name, table, postgresql_concurrently=True, if_exists=True)
        op.create_index(name, table, columns, postgresql_concurrently=True)

    _set_lock_timeout(0)  # PostgreSQL builds it beside the others: nobody waits for it while it waits
    inspector = _inspector()
    if inspector is None or _is_invalid(name) or name not in {one["name"] for one in inspector.get_indexes(table)}:
        _patiently(table, step)


def _inspector() -> sa.Inspector | None:
    """Tells what is there; None when the migration only prints its statements."""
    return None if op.get_context().as_sql else sa.inspect(op.get_bind())


def _set_lock_timeout(milliseconds: int) -> None:
    if op.get_context().dialect.name == "postgresql":
        op.execute(f"SET lock_timeout = {milliseconds}")


def _is_invalid(name: str) -> bool:
    """Whether it is an index whose creation was interrupted: PostgreSQL keeps what there is, and never uses it."""
    context = op.get_context()
    if context.dialect.name != "postgresql" or context.as_sql:
        return False
    return bool(op.get_bind().scalar(_INVALID, {"name": name}))


def _patiently(table: str, step: Callable[[], object]) -> None:
    """Take a step, again and again while its lock is not granted.

    Raises:
        Fatal: it never was.
    """
    for _ in range(TRIES):
        try:
            step()
        except DBAPIError as error:
            if not may_run_again(error):
                raise
            Event().wait(PAUSE_S)
        else:
            return
    raise Fatal(
        f"{table} could not be changed, because transactions have been using it in all {TRIES} attempts (a backup?): "
        "let them end, and run the migration again, which goes on where it was"
    )
