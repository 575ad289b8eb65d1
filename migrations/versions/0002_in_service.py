"""Schedules, tokens, retention, the history of a city, the identity of the database, and what a proof needs.

It only adds, and all that it adds may be missing from a statement: version 0.1.0 keeps working on the new schema.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from migrations.online import add_column, create_index, create_table, online

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NEW_COLUMNS = {
    "collections": ("requested_by", "readings_pruned_at", "removing"),
    "quota_gate": ("database_id",),
    "quota_charges": ("calls", "outcome"),
}
NEW_INDICES = {
    "ix_collections_requested_by": ("collections", ["requested_by", "finished_at"]),
    "ix_collections_prunable": ("collections", ["readings_pruned_at", "finished_at"]),
    "ix_collections_removing": ("collections", ["removing"]),
    "ix_readings_history": ("readings", ["city_id", "fetched_at"]),
}


def exact(length: int) -> sa.String:
    """Text that compares byte by byte in every database."""
    text = mysql.VARCHAR(length, charset="ascii", collation="ascii_bin")
    return sa.String(length).with_variant(text, "mysql", "mariadb")


def words(length: int) -> sa.String:
    """Text in any language."""
    return sa.String(length).with_variant(mysql.VARCHAR(length, charset="utf8mb4"), "mysql", "mariadb")


def moment() -> sa.DateTime:
    """UTC with microseconds."""
    return sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def long_text() -> sa.Text:
    """Text of a list of 250,000 numbers."""
    return sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")


def upgrade() -> None:
    with online():
        add_column("collections", sa.Column("requested_by", exact(64)))
        add_column("collections", sa.Column("readings_pruned_at", moment()))
        add_column("collections", sa.Column("removing", sa.SmallInteger()))
        add_column("quota_gate", sa.Column("database_id", exact(200)))
        add_column("quota_charges", sa.Column("calls", sa.Integer()))
        add_column("quota_charges", sa.Column("outcome", exact(16)))
        for name, (table, columns) in NEW_INDICES.items():
            create_index(name, table, columns)
        _create_quota_terms()
        _create_schedules()
        _create_tokens()
        _create_retention()


def _create_quota_terms() -> None:
    create_table(
        "quota_terms",
        sa.Column("account", exact(64), primary_key=True),
        sa.Column("since", moment(), primary_key=True),
        sa.Column("cities_per_window", sa.Integer(), nullable=False),
        sa.Column("window_s", sa.Double(), nullable=False),
        sa.Column("cities_per_month", sa.BigInteger(), nullable=False),
    )


def _create_schedules() -> None:
    create_table(
        "schedules",
        sa.Column("name", exact(40), primary_key=True),
        sa.Column("cron", exact(120)),
        sa.Column("every_s", sa.Integer()),
        sa.Column("zone", exact(64), nullable=False),
        sa.Column("city_ids", long_text()),
        sa.Column("cities", sa.Integer()),
        sa.Column("max_age_s", sa.Integer(), nullable=False),
        sa.Column("missed", exact(16), nullable=False),
        sa.Column("overlap", exact(16), nullable=False),
        sa.Column("origin", exact(16), nullable=False),
        sa.Column("created_at", moment(), nullable=False),
        sa.Column("changed_at", moment(), nullable=False),
        sa.Column("paused_at", moment()),
        sa.Column("next_at", moment()),
    )
    create_index("ix_schedules_next_at", "schedules", ["next_at"])
    create_table(
        "scheduled_runs",
        sa.Column("schedule", exact(40), primary_key=True),
        sa.Column("nominal_at", moment(), primary_key=True),
        sa.Column("decided_at", moment(), nullable=False),
        sa.Column("collection_id", exact(64)),
        sa.Column("reason", words(200)),
    )


def _create_tokens() -> None:
    create_table(
        "tokens",
        sa.Column("name", exact(64), primary_key=True),
        sa.Column("sha256", exact(64), nullable=False),
        sa.Column("scope", exact(8), nullable=False),
        sa.Column("created_at", moment(), nullable=False),
        sa.Column("expires_at", moment()),
        sa.Column("revoked_at", moment()),
        sa.Column("last_used_at", moment()),
        sa.UniqueConstraint("sha256"),
    )


def _create_retention() -> None:
    create_table(
        "deletions",
        sa.Column("id", exact(64), primary_key=True),
        sa.Column("requested_at", moment(), nullable=False),
        sa.Column("deleted_at", moment(), nullable=False),
    )
    create_index("ix_deletions_deleted_at", "deletions", ["deleted_at"])
    create_table(
        "leases",
        sa.Column("id", exact(40), primary_key=True),
        sa.Column("holder", exact(64), nullable=False),
        sa.Column("until", moment(), nullable=False),
    )


def downgrade() -> None:
    for table in ("leases", "deletions", "tokens", "scheduled_runs", "schedules", "quota_terms"):
        op.drop_table(table)
    for name, (table, _) in NEW_INDICES.items():
        op.drop_index(name, table)
    for table, columns in NEW_COLUMNS.items():
        for column in columns:
            op.drop_column(table, column)
