"""The migrations bring every database to what the models say, and back to nothing."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config, main
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, event, inspect, text
from sqlalchemy.exc import IntegrityError, OperationalError

from raingauge.clock import SystemClock
from raingauge.database import Database
from raingauge.storage.cities import remember
from raingauge.storage.models import Batch, City, Schema
from tests.contract.storage_support import NOW, accept, an_observation, rows, url_of
from tests.support.databases import SERVER_KINDS

NAMED = {"name", "country", "description", "reason", "user_id"}
TABLES = {"alembic_version", *Schema.metadata.tables}
KINDS = {"varchar", "int", "bigint", "tinyint", "smallint", "double", "datetime", "text", "mediumtext"}
CLOCK = SystemClock()
ON_MARIADB = pytest.mark.parametrize("bare", SERVER_KINDS[:1], indirect=True)
ON_POSTGRESQL = pytest.mark.parametrize("bare", SERVER_KINDS[1:], indirect=True)


def migrate(database: Database, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", "migrations")
    config.attributes["url"] = url_of(database)
    (command.downgrade if revision == "base" else command.upgrade)(config, revision)


def tables(database: Database) -> set[str]:
    return database.read(lambda connection: set(inspect(connection).get_table_names()))


def differences(database: Database) -> list[object]:
    options = {"compare_type": True}
    return database.read(lambda c: list(compare_metadata(MigrationContext.configure(c, opts=options), Schema.metadata)))


def execute(database: Database, statement: str) -> None:
    database.write(lambda connection: connection.execute(text(statement)))


def test_they_bring_a_database_to_what_the_models_say_and_going_down_leaves_nothing(bare: Database) -> None:
    assert tables(bare) == set()
    for _ in range(2):
        migrate(bare, "head")
        assert (tables(bare), differences(bare)) == (TABLES, [])
        accept(bare, "1", range(1, 31))
        migrate(bare, "head")
        assert len(rows(bare, Batch)) == 2, "going up again changes nothing"
        migrate(bare, "base")
        assert tables(bare) == {"alembic_version"}


def test_foreign_keys_are_enforced_and_a_difference_between_models_and_tables_would_be_seen(bare: Database) -> None:
    migrate(bare, "head")
    with pytest.raises(IntegrityError):
        execute(bare, "INSERT INTO readings (collection_id, city_id, status) VALUES ('nobody', 1, 'failed')")
    execute(bare, "DROP INDEX ix_collections_open" + (" ON collections" if bare.dialect == "mysql" else ""))
    execute(bare, "ALTER TABLE cities DROP COLUMN country")
    assert len(differences(bare)) == 2


def test_the_command_upgrades_the_schema_and_prints_the_revisions_before_and_after(
    bare: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAINGAUGE_DATABASE__URL", url_of(bare))
    for _ in range(2):
        main(argv=["upgrade", "head"])
        assert tables(bare) == TABLES
    head = ScriptDirectory("migrations").get_current_head()
    shown = f"schema of {bare.engine.url.render_as_string()}: "
    assert capsys.readouterr().out.splitlines() == [f"{shown}empty before, {head} now", f"{shown}unchanged at {head}"]


@ON_MARIADB
def test_mariadb_compares_ids_byte_by_byte_and_keeps_microseconds_and_every_character(bare: Database) -> None:
    execute(bare, "ALTER DATABASE CHARACTER SET latin1")
    migrate(bare, "head")
    assert differences(bare) == []
    query = (
        "SELECT table_name AS parent, column_name AS name, data_type AS kind,"
        " datetime_precision AS digits, collation_name AS collation"
        " FROM information_schema.columns WHERE table_schema = database() AND table_name <> 'alembic_version'"
    )
    found = bare.read(lambda connection: connection.execute(text(query)).all())
    assert {row.collation for row in found if row.name in {"collection_id", "account", "leased_by"}} == {"ascii_bin"}
    assert {row.digits for row in found if row.kind == "datetime"} == {6}
    assert {row.kind for row in found} <= KINDS
    words = [row.collation for row in found if row.name in NAMED and row.parent not in {"schedules", "tokens"}]
    assert len(words) == 8  # of people: schedules and tokens have plain names
    assert all(collation.startswith("utf8mb4_") for collation in words)
    lodz = an_observation(1, name="Łódź", description="小雨 🌦️")
    bare.write(lambda connection: remember(connection, {1: lodz}, (), NOW))
    (city,) = rows(bare, City)
    assert (city.name, city.description) == ("Łódź", "小雨 🌦️")


def interrupted_anywhere(bare: Database) -> list[str]:
    """Migrate to the end, interrupted once after each of these statements."""

    class Interrupted(Exception):
        """The process ends."""

    interrupted: list[str] = []

    def interrupt(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.strip().startswith(("CREATE", "ALTER")) and statement not in interrupted:
            interrupted.append(statement)
            raise Interrupted

    event.listen(Engine, "after_cursor_execute", interrupt)
    try:
        while tables(bare) != TABLES or differences(bare):
            with suppress(Interrupted):
                migrate(bare, "head")
    finally:
        event.remove(Engine, "after_cursor_execute", interrupt)
    assert len(interrupted) == len(set(interrupted))
    return interrupted


@pytest.mark.parametrize("bare", SERVER_KINDS, indirect=True)
def test_a_migration_that_was_interrupted_after_any_statement_can_be_run_again(bare: Database) -> None:
    is_upgrade = bare.dialect == "postgresql"  # it creates all tables of the first version at once
    if is_upgrade:
        migrate(bare, "0001")
    assert len(interrupted_anywhere(bare)) > (10 if is_upgrade else len(TABLES))
    migrate(bare, "head")
    assert differences(bare) == []


@ON_POSTGRESQL
def test_an_index_whose_creation_was_interrupted_is_created_anew(bare: Database) -> None:
    migrate(bare, "0001")
    alone = bare.engine.execution_options(isolation_level="AUTOCOMMIT")
    with bare.engine.connect() as writing, alone.connect() as creating:
        writing.execute(text("LOCK TABLE readings IN ROW EXCLUSIVE MODE"))  # as a writer does
        creating.execute(text("SET statement_timeout = 300"))
        with pytest.raises(OperationalError):
            creating.execute(text("CREATE INDEX CONCURRENTLY ix_readings_history ON readings (city_id, fetched_at)"))
        creating.execute(text("RESET statement_timeout"))
        invalid = text("SELECT count(*) FROM pg_index WHERE NOT indisvalid")
        assert creating.scalar(invalid) == 1
    migrate(bare, "head")
    assert bare.read(lambda connection: connection.scalar(invalid)) == 0
    assert differences(bare) == []


@pytest.mark.parametrize("bare", SERVER_KINDS, indirect=True)
def test_a_change_that_waits_for_a_transaction_keeps_nobody_waiting_for_long(bare: Database) -> None:
    migrate(bare, "0001")
    old = {"max_age_s": 0, "total": 1, "collected": 0, "failed": 0, "last_turn": 0, "enqueued": 0, "released": 0}
    row = {"id": "'1'", "cities_hash": "'x'", "requested_at": "'2026-11-20 12:00:00'", **old}
    execute(bare, f"INSERT INTO collections ({', '.join(row)}) VALUES ({', '.join(map(str, row.values()))})")
    slowest, count = 0.0, text("SELECT count(*) FROM collections")
    with bare.engine.connect() as long, ThreadPoolExecutor(1) as thread:
        long.execute(count)
        upgrading = thread.submit(migrate, bare, "head")
        began = CLOCK.monotonic()
        while CLOCK.monotonic() - began < 3:
            before = CLOCK.monotonic()
            assert bare.read(lambda connection: connection.scalar(count)) == 1
            slowest = max(slowest, CLOCK.monotonic() - before)
        assert not upgrading.done()
        long.rollback()
        upgrading.result(30)
    assert slowest < (0.7 if bare.dialect == "postgresql" else 1.4)
    assert differences(bare) == []
