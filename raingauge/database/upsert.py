"""INSERT or UPDATE by primary key `id`, in the words of each dialect."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, null
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase

Condition = Callable[[Any], ColumnElement[bool]]
"""Given the new row's columns, whether to change the existing row."""


def upsert(
    connection: Connection,
    table: type[DeclarativeBase],
    rows: Sequence[Mapping[str, Any]],
    changed: Sequence[str],
    cleared: Sequence[str] = (),
    only_if: Condition | None = None,
) -> None:
    """Insert rows; where one with the same `id` exists, set its `changed` columns and empty its `cleared` ones.

    MySQL sets one column after another, so what the condition reads must be the last of `changed`, and the condition
    must still hold when that is set (`<=`). Callers sort the rows: opposite orders would deadlock.
    """
    statement = _statement(connection.dialect.name, table, tuple(changed), tuple(cleared), only_if)
    connection.execute(statement, rows)


@functools.cache
def _statement(
    dialect: str,
    table: type[DeclarativeBase],
    changed: tuple[str, ...],
    cleared: tuple[str, ...],
    only_if: Condition | None,
) -> Any:
    if dialect in {"mysql", "mariadb"}:
        statement = mysql.insert(table)
        new: list[tuple[str, Any]] = [(name, statement.inserted[name]) for name in changed] + [
            (name, null()) for name in cleared
        ]
        if only_if is not None:
            condition, old = only_if(statement.inserted), table.__table__.c
            new = [(name, case((condition, value), else_=old[name])) for name, value in new]
        return statement.on_duplicate_key_update(new)
    other = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    values = {name: other.excluded[name] for name in changed} | dict.fromkeys(cleared, null())
    where = None if only_if is None else only_if(other.excluded)
    return other.on_conflict_do_update(index_elements=["id"], set_=values, where=where)
