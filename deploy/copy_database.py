"""Copy all rows of one Raingauge database to another, empty one: `python deploy/copy_database.py FROM TO`.

Nothing may work on either database meanwhile. The target needs the schema (`python -m alembic upgrade head`). It is one
transaction: after an error the target is as empty as before. It must not change the source.
"""

import sys
from contextlib import ExitStack, closing

from sqlalchemy import Column, Connection, Table, func, insert, select, text

from raingauge.database import open_database
from raingauge.errors import RaingaugeError, SettingsError
from raingauge.storage.models import Schema

ROWS = 1000


def columns(table: Table) -> list[Column[object]]:
    """Those that are stored: the database computes the others."""
    return [column for column in table.columns if column.computed is None]


def copy_table(table: Table, source: Connection, target: Connection) -> int:
    """Copy a table's rows; return their number."""
    count = 0
    for rows in source.execution_options(yield_per=ROWS).execute(select(*columns(table))).mappings().partitions():
        target.execute(insert(table), [dict(row) for row in rows])
        count += len(rows)
    numbered = table.autoincrement_column
    if numbered is not None and target.dialect.name == "postgresql":
        last = func.pg_get_serial_sequence(table.name, numbered.name)
        target.execute(select(func.setval(last, func.coalesce(func.max(numbered), 0) + 1, text("false"))))
    return count


def copy_database(source_url: str, target_url: str) -> dict[str, int]:
    """Copy every table; return the numbers of rows.

    Raises:
        SettingsError: there is something in the target already.
        RaingaugeError: a URL or a database cannot be used.
    """

    def copy(source: Connection, target: Connection) -> dict[str, int]:
        for table in tables:
            if target.scalar(select(func.count()).select_from(table)):
                raise SettingsError(f"{table.name} of the target is not empty: nothing was copied")
        return {table.name: copy_table(table, source, target) for table in tables}

    tables = Schema.metadata.sorted_tables
    with ExitStack() as opened:
        source, target = (opened.enter_context(closing(open_database(url))) for url in (source_url, target_url))
        return target.write(lambda writing: source.read(lambda reading: copy(reading, writing)))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    try:
        for name, rows in copy_database(*sys.argv[1:]).items():
            print(f"{name}: {rows} rows")
    except RaingaugeError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
