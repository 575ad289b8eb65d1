"""Where Alembic begins: the same settings and the same models as the services."""

from alembic import context
from sqlalchemy import Connection

from raingauge.settings import load_settings
from raingauge.storage.database import open_database
from raingauge.storage.models import Schema


def migrate(connection: Connection) -> None:
    """Bring the schema up (or down) within one transaction, where the database can."""
    context.configure(connection=connection, target_metadata=Schema.metadata, render_as_batch=False)
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    database = open_database(load_settings().database.url)
    try:
        database.write(migrate)
    finally:
        database.close()
