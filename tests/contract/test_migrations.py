"""The migrations bring every database to what the models say, and back to nothing."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config, main
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import IntegrityError

from raingauge.storage.database import Database, open_database
from raingauge.storage.models import Schema
from tests.contract.storage_support import SERVER_KINDS, accept, own_database

TABLES = {"alembic_version", *Schema.metadata.tables}


@pytest.fixture(params=["sqlite", *SERVER_KINDS])
def bare(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database of its own without tables, of each kind in turn."""
    with own_database(request.param) as url, closing(open_database(url)) as database:
        yield database


def migrate(database: Database, revision: str) -> None:
    def work(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", "migrations")
        config.attributes["connection"] = connection
        (command.downgrade if revision == "base" else command.upgrade)(config, revision)

    database.write(work)


def tables(database: Database) -> set[str]:
    return database.read(lambda connection: set(inspect(connection).get_table_names()))


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, Schema.metadata))


def test_they_bring_an_empty_database_to_what_the_models_say(bare: Database) -> None:
    assert tables(bare) == set()
    migrate(bare, "head")
    assert tables(bare) == TABLES
    assert bare.read(differences) == []


def test_a_difference_between_models_and_tables_would_be_seen(bare: Database) -> None:
    migrate(bare, "head")
    bare.write(lambda connection: connection.execute(text("DROP INDEX ix_collections_finished_at" + on_table(bare))))
    bare.write(lambda connection: connection.execute(text("ALTER TABLE cities DROP COLUMN country")))
    assert len(bare.read(differences)) == 2


def on_table(database: Database) -> str:
    return " ON collections" if database.dialect == "mysql" else ""


def test_going_down_to_base_leaves_nothing(bare: Database) -> None:
    migrate(bare, "head")
    accept(bare, "1", range(1, 31))
    migrate(bare, "base")
    assert tables(bare) == {"alembic_version"}
    migrate(bare, "head")
    assert bare.read(differences) == []


def test_going_up_again_changes_nothing(bare: Database) -> None:
    migrate(bare, "head")
    accept(bare, "1", range(1, 31))
    migrate(bare, "head")
    assert bare.read(lambda connection: connection.scalar(text("SELECT count(*) FROM batches"))) == 2


def test_the_command_that_the_messages_name_brings_the_schema_up(
    bare: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAINGAUGE_DATABASE__URL", bare.engine.url.render_as_string(hide_password=False))
    main(argv=["upgrade", "head"])
    assert tables(bare) == TABLES


def test_foreign_keys_are_enforced(bare: Database) -> None:
    migrate(bare, "head")
    orphan = text("INSERT INTO readings (collection_id, city_id, status) VALUES ('nobody', 1, 'failed')")
    with pytest.raises(IntegrityError):
        bare.write(lambda connection: connection.execute(orphan))


@pytest.mark.parametrize("bare", SERVER_KINDS[:1], indirect=True)
def test_mariadb_compares_ids_byte_by_byte_and_keeps_microseconds_and_every_character(bare: Database) -> None:
    migrate(bare, "head")
    columns = bare.read(
        lambda connection: connection.execute(
            text(
                "SELECT table_name, column_name, data_type, datetime_precision, collation_name, character_set_name"
                " FROM information_schema.columns"
                " WHERE table_schema = database() AND table_name <> 'alembic_version'"
            )
        ).all()
    )
    keys = {column[4] for column in columns if column[1] in {"collection_id", "account", "claimed_by", "leased_by"}}
    assert keys == {"ascii_bin"}
    assert {column[3] for column in columns if column[2] == "datetime"} == {6}
    assert {column[2] for column in columns} <= {"varchar", "int", "bigint", "double", "datetime", "text"}
    assert {column[5] for column in columns if column[1] in {"name", "country", "description", "reason"}} == {"utf8mb4"}
