"""Alembic's entry point, with the settings and models of the services. Prints one line about what it did."""

import sys
from contextlib import closing

from alembic import context
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, make_url

from raingauge.database import Database, open_database
from raingauge.errors import RaingaugeError
from raingauge.settings import load_settings
from raingauge.storage.models import Schema


def migrate(connection: Connection) -> None:
    """Run the migrations in one transaction, where the database supports that."""
    context.configure(connection=connection, target_metadata=Schema.metadata, render_as_batch=False)
    with context.begin_transaction():
        context.run_migrations()


def revision(connection: Connection) -> str:
    """The revision of the schema."""
    return MigrationContext.configure(connection).get_current_revision() or "empty"


def migrate_and_report(database: Database, url: str) -> None:
    """Run the migrations and print the revisions before and after."""
    before = database.read(revision)
    database.write(migrate)
    after = database.read(revision)
    change = f"unchanged at {after}" if before == after else f"{before} before, {after} now"
    print(f"schema of {make_url(url).render_as_string()}: {change}")  # noqa: T201


given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    try:
        url = load_settings().database.url
        with closing(open_database(url)) as database:
            migrate_and_report(database, url)
    except RaingaugeError as error:
        print(error, file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None
