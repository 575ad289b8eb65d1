"""Rows on their way into a table, past the handling of each value by SQLAlchemy and by PyMySQL, which is long."""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from json import JSONEncoder
from typing import Any, Final

from sqlalchemy import Connection, null
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.sql.dml import Insert

from raingauge.storage.message import prepare, say
from raingauge.storage.models import Schema

AT_ONCE: Final = 1000
"""Rows in one statement: servers take only so many bytes."""
_LIKE_JSON: Final = frozenset({int, float, type(None)})
"""Numbers and NULL: written in SQL as they are in JSON."""
_JSON: Final = JSONEncoder(allow_nan=False, separators=(",", ":"))
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
        driver: Any = connection.connection.dbapi_connection
        texts = (_in_sql(driver, list(these)) for these in stored)
        lines = [f"({','.join(row)})" for row in zip(*texts, strict=True)]
        before, after = _ROW.split(prepared.text, 1)
        for start in range(0, len(lines), AT_ONCE):
            say(connection, before + ",".join(lines[start : start + AT_ONCE]) + after, prepared.text)
    else:
        connection.exec_driver_sql(prepared.text, list(zip(*stored, strict=True)))


def _in_sql(driver: Any, values: Sequence[Any]) -> Iterable[str]:
    """Values as PyMySQL's connection writes them: it is asked for them one by one only where they need it."""
    kinds = set(map(type, values))
    if kinds <= _LIKE_JSON:
        return _JSON.encode(values)[1:-1].split(",")
    if kinds == {str} and driver.escape(together := "".join(values)) == f"'{together}'":
        return [f"'{value}'" for value in values]
    return map(driver.escape, values)


@cache
def _upsert(dialect: str, table: type[Schema], changed: tuple[str, ...], cleared: tuple[str, ...]) -> Insert:
    nothing = dict.fromkeys(cleared, null())
    if dialect in {"mysql", "mariadb"}:
        insert = mysql.insert(table)
        return insert.on_duplicate_key_update({name: insert.inserted[name] for name in changed} | nothing)
    other = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    given = {name: other.excluded[name] for name in changed}
    return other.on_conflict_do_update(index_elements=["id"], set_=given | nothing)
