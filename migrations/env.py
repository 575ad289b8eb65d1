"""Alembic's entry point, with the settings and models of the services. Prints one line about what it did."""

import sys
from contextlib import closing
from typing import Final

from alembic import context
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, make_url

from raingauge.database import Database, open_database
from raingauge.errors import RaingaugeError
from raingauge.settings import load_settings
from raingauge.storage.models import Schema

MIGRATION_S: Final = 86_400
"""Longer than an index of the largest table takes."""


def migrate(database: Database) -> None:
    """Run the migrations: on SQLite in one transaction, elsewhere each step by itself where it says so."""

    def work(connection: Connection) -> None:
        context.configure(connection=connection, target_metadata=Schema.metadata, render_as_batch=False)
        with context.begin_transaction():
            context.run_migrations()

    (database.write if database.dialect == "sqlite" else database.read)(work)


def revision(connection: Connection) -> str:
    """The revision of the schema."""
    return MigrationContext.configure(connection).get_current_revision() or "empty"


def migrate_and_report(database: Database, url: str) -> None:
    """Run the migrations and print the revisions before and after."""
    before = database.read(revision)
    migrate(database)
    after = database.read(revision)
    change = f"unchanged at {after}" if before == after else f"{before} before, {after} now"
    print(f"schema of {make_url(url).render_as_string()}: {change}")  # noqa: T201


given = context.config.attributes.get("url")
if given is not None:
    with closing(open_database(given, pool_size=1, statement_s=MIGRATION_S)) as database:
        migrate(database)
else:
    try:
        url = load_settings().database.url
        with closing(open_database(url, pool_size=1, statement_s=MIGRATION_S)) as database:
            migrate_and_report(database, url)
    except RaingaugeError as error:
        print(error, file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None
