"""The migrations bring every database to what the models say, and back to nothing."""

from collections.abc import Iterator
from contextlib import closing, suppress

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config, main
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event, inspect, text
from sqlalchemy.exc import IntegrityError

from raingauge.storage.cities import remember
from raingauge.storage.database import Database, open_database
from raingauge.storage.models import City, Schema
from tests.contract.storage_support import NOW, SERVER_KINDS, accept, an_observation, own_database, rows

TABLES = {"alembic_version", *Schema.metadata.tables}
ON_MARIADB = pytest.mark.parametrize("bare", SERVER_KINDS[:1], indirect=True)


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
    bare.write(lambda connection: connection.execute(text("DROP INDEX ix_collections_open" + on_table(bare))))
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


def test_the_command_upgrades_the_schema_and_prints_the_revisions_before_and_after(
    bare: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAINGAUGE_DATABASE__URL", bare.engine.url.render_as_string(hide_password=False))
    main(argv=["upgrade", "head"])
    assert tables(bare) == TABLES
    main(argv=["upgrade", "head"])
    head = ScriptDirectory("migrations").get_current_head()
    shown = f"schema of {bare.engine.url.render_as_string()}: "
    assert capsys.readouterr().out.splitlines() == [f"{shown}empty before, {head} now", f"{shown}unchanged at {head}"]


def test_foreign_keys_are_enforced(bare: Database) -> None:
    migrate(bare, "head")
    orphan = text("INSERT INTO readings (collection_id, city_id, status) VALUES ('nobody', 1, 'failed')")
    with pytest.raises(IntegrityError):
        bare.write(lambda connection: connection.execute(orphan))


@ON_MARIADB
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
    keys = {column[4] for column in columns if column[1] in {"collection_id", "account", "leased_by"}}
    assert keys == {"ascii_bin"}
    assert {column[3] for column in columns if column[2] == "datetime"} == {6}
    assert {column[2] for column in columns} <= {"varchar", "int", "bigint", "tinyint", "double", "datetime", "text"}
    assert {column[5] for column in columns if column[1] in {"name", "country", "description", "reason"}} == {"utf8mb4"}


@ON_MARIADB
def test_a_migration_that_was_interrupted_after_any_statement_can_be_run_again(bare: Database) -> None:
    class Interrupted(Exception):
        """The process ends."""

    interrupted: list[str] = []

    def interrupt(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.strip().startswith("CREATE"):
            interrupted.append(statement)
            raise Interrupted

    event.listen(bare.engine, "after_cursor_execute", interrupt)
    while tables(bare) != TABLES or bare.read(differences):
        with suppress(Interrupted):
            migrate(bare, "head")
    event.remove(bare.engine, "after_cursor_execute", interrupt)
    assert len(interrupted) == len(set(interrupted)) > len(TABLES)
    migrate(bare, "head")
    assert bare.read(differences) == []


@ON_MARIADB
def test_a_database_whose_default_is_latin1_keeps_every_character(bare: Database) -> None:
    bare.write(lambda connection: connection.execute(text("ALTER DATABASE CHARACTER SET latin1")))
    migrate(bare, "head")
    assert bare.read(differences) == []
    lodz = an_observation(1, name="Łódź", description="小雨 🌦️")
    bare.write(lambda connection: remember(connection, {1: lodz}, (), NOW))
    (city,) = rows(bare, City)
    assert (city.name, city.description) == ("Łódź", "小雨 🌦️")
