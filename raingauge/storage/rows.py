"""Rows on their way into a table, past the handling of each value by SQLAlchemy and by PyMySQL, which is long."""

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, null
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.sql.dml import Insert

from raingauge.storage.message import prepare, say
from raingauge.storage.models import Schema

AT_ONCE: Final = 1000
"""Rows in one statement: servers take only so many bytes."""
_UNQUOTED: Final = frozenset({int, float, type(None)})
_ROW: Final = re.compile(r"\(%s(?:, %s)*\)")
"""The marks of a row's values, in an INSERT for PyMySQL."""


def upsert(
    connection: Connection,
    table: type[Schema],
    columns: tuple[str, ...],
    rows: Sequence[tuple[Any, ...]],
    changed: tuple[str, ...],
    cleared: tuple[str, ...] = (),
) -> None:
    """Insert rows of these columns; where one with the same `id` stands, set its `changed` ones, and clear `cleared`.

    The rows go in their order, so callers sort them: opposite orders would deadlock.
    """
    store(connection, _upsert(connection.dialect.name, table, changed, cleared), columns, rows)


def store(connection: Connection, statement: Insert, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows of these columns, in their order; the statement says where. Defaults are not filled in."""
    prepared = prepare(connection.dialect, statement, columns)
    values = list(zip(*rows, strict=True))
    given = (values[columns.index(name)] for name in prepared.names)
    stored = (these if make is None else map(make, these) for make, these in zip(prepared.makers, given, strict=True))
    if connection.dialect.driver == "pymysql":
        write = _writer(connection.connection.dbapi_connection)
        lines = [f"({','.join(map(write, row))})" for row in zip(*stored, strict=True)]
        before, after = _ROW.split(prepared.text, 1)
        for start in range(0, len(lines), AT_ONCE):
            say(connection, before + ",".join(lines[start : start + AT_ONCE]) + after, prepared.text)
    else:
        connection.exec_driver_sql(prepared.text, list(zip(*stored, strict=True)))


def _writer(driver: Any) -> Callable[[Any], str]:
    """How PyMySQL writes a value into SQL, by a shorter way for those that need no quotes."""
    encoders, escape = driver.encoders, driver.escape

    def write(value: Any) -> str:
        kind = type(value)
        text: str = encoders[kind](value, encoders) if kind in _UNQUOTED else escape(value)
        return text

    return write


@cache
def _upsert(dialect: str, table: type[Schema], changed: tuple[str, ...], cleared: tuple[str, ...]) -> Insert:
    nothing = dict.fromkeys(cleared, null())
    if dialect in {"mysql", "mariadb"}:
        insert = mysql.insert(table)
        return insert.on_duplicate_key_update({name: insert.inserted[name] for name in changed} | nothing)
    other = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    given = {name: other.excluded[name] for name in changed}
    return other.on_conflict_do_update(index_elements=["id"], set_=given | nothing)
