"""Every migration after 0001 only adds, so that the version before keeps working on the new schema.

It reads the SQL that alembic's offline mode prints; it must not use a database.
"""

import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import op
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory

DIALECTS = ("sqlite", "mysql", "postgresql")
LATER = [
    script
    for script in ScriptDirectory(str(Path(__file__).parents[2] / "migrations")).walk_revisions()
    if script.revision != "0001"
]
HARMFUL = {
    "drops": r"\bDROP\b",
    "renames": r"\bRENAME\b|\bCHANGE\b",
    "changes a column": r"\bALTER COLUMN\b|\bMODIFY\b",
    "adds a column that old statements leave out": r"\bADD COLUMN\b(?!.*\bDEFAULT\b).*\bNOT NULL\b",
    "forbids what old statements write": r"\bALTER TABLE\b.*\bADD (CONSTRAINT|CHECK|FOREIGN|PRIMARY|UNIQUE)\b"
    r"|\bCREATE UNIQUE INDEX\b|\bSET NOT NULL\b",
    "changes rows": r"^\s*(UPDATE|DELETE|TRUNCATE)\b",
}


def statements(upgrade: Callable[[], None], dialect: str) -> list[str]:
    """What it would run, one statement each, on one line."""
    output = StringIO()
    context = MigrationContext.configure(dialect_name=dialect, opts={"as_sql": True, "output_buffer": output})
    with Operations.context(context):
        upgrade()
    return [" ".join(statement.split()) for statement in output.getvalue().split(";")]


def harm(upgrade: Callable[[], None], dialect: str) -> list[str]:
    """What it does that an older version would notice."""
    found = statements(upgrade, dialect)
    return [
        f"{what}: {one}" for one in found for what, pattern in HARMFUL.items() if re.search(pattern, one, re.IGNORECASE)
    ]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("revision", [script.revision for script in LATER])
def test_later_migrations_only_add(revision: str, dialect: str) -> None:
    (script,) = (each for each in LATER if each.revision == revision)
    assert len(statements(script.module.upgrade, dialect)) > 5
    assert harm(script.module.upgrade, dialect) == []


@pytest.mark.parametrize(
    "upgrade",
    [
        lambda: op.drop_table("readings"),
        lambda: op.drop_column("readings", "reason"),
        lambda: op.drop_index("ix_cities_fetched_at", "cities"),
        lambda: op.rename_table("readings", "observations"),
        lambda: op.alter_column("readings", "reason", new_column_name="why", existing_type=sa.Text()),
        lambda: op.alter_column("readings", "reason", type_=sa.String(10), existing_type=sa.Text()),
        lambda: op.add_column("readings", sa.Column("source", sa.Integer(), nullable=False)),
        lambda: op.create_unique_constraint("uq", "readings", ["city_id"]),
        lambda: op.create_index("uq", "readings", ["city_id"], unique=True),
        lambda: op.execute("DELETE FROM readings"),
    ],
)
def test_a_migration_that_would_stop_an_older_version_is_refused(upgrade: Callable[[], None]) -> None:
    assert harm(upgrade, "mysql")
    assert harm(upgrade, "postgresql")


def test_what_may_be_missing_from_a_statement_may_be_added() -> None:
    column = sa.Column("source", sa.Integer(), nullable=False, server_default="0")
    assert harm(lambda: op.add_column("readings", column), "postgresql") == []
