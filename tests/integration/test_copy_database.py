"""Copying one database to another, as the guide to MySQL does: every row of every table, onto every database."""

import sys
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from sqlalchemy import Column, Connection, SmallInteger, insert, select

from raingauge.database import Database, open_database
from raingauge.storage.models import Event, Schema
from tests.support.databases import SERVER_KINDS, own_database, prepare
from tests.support.processes import Ended, run_to_end

NUMBER: Final = 1_000_001
VALUES: Final = {
    str: "a",
    int: NUMBER,
    float: 1 / 3,
    bool: True,
    datetime: datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=UTC),
}


def value(column: Column[Any]) -> object:
    if isinstance(column.type, SmallInteger):
        return 1
    return VALUES[datetime if "DateTime" in type(column.type).__name__ else column.type.python_type]


def fill(connection: Connection) -> None:
    for table in Schema.metadata.sorted_tables:
        row = {column.name: value(column) for column in table.columns if column.computed is None}
        connection.execute(insert(table).values(row))


def everything(database: Database) -> dict[str, list[Any]]:
    tables = Schema.metadata.sorted_tables
    return database.read(lambda c: {table.name: [*c.execute(select(table)).mappings()] for table in tables})


def copy(*urls: str) -> Ended:
    return run_to_end([sys.executable, "deploy/copy_database.py", *urls])


@pytest.mark.long
@pytest.mark.parametrize("kind", ["sqlite", *SERVER_KINDS])
def test_every_row_is_copied_once_and_numbers_go_on_behind_them(kind: str) -> None:
    with (
        own_database("sqlite") as old,
        own_database(kind) as new,
        closing(open_database(old)) as source,
        closing(open_database(new)) as target,
    ):
        prepare(source)
        prepare(target)
        source.write(fill)
        done = copy(old, new)
        assert done.returncode == 0, done.stderr
        assert everything(target) == everything(source)
        assert "quota_charges: 1 rows" in done.stdout
        again = copy(old, new)
        assert (again.returncode, "not empty: nothing was copied" in again.stderr) == (2, True)
        columns = Schema.metadata.tables["events"].columns
        event = {column.name: value(column) for column in columns if column.name != "number"}
        target.write(lambda connection: connection.execute(insert(Event).values(event | {"event_id": "b"})))
        numbers = target.read(lambda connection: connection.scalars(select(Event.number)).all())
    assert sorted(numbers) == [NUMBER, max(numbers)]
    assert len(numbers) == 2
