"""The first schema: collections, batches, readings, cities, the quota and the heartbeats."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def exact(length: int) -> sa.String:
    """Text that compares byte by byte in every database."""
    variant = mysql.VARCHAR(length, charset="ascii", collation="ascii_bin")
    return sa.String(length).with_variant(variant, "mysql", "mariadb")


def moment() -> sa.DateTime:
    """UTC with microseconds."""
    return sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def number() -> sa.BigInteger:
    """A key that the database counts up."""
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "cities",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(200), nullable=True),
        sa.Column("country", sa.String(200), nullable=True),
        sa.Column("latitude", sa.Double(), nullable=True),
        sa.Column("longitude", sa.Double(), nullable=True),
        sa.Column("unknown_at", moment(), nullable=True),
        sa.Column("claimed_by", exact(64), nullable=True),
        sa.Column("claimed_until", moment(), nullable=True),
        sa.Column("fetched_at", moment(), nullable=True),
        sa.Column("observed_at", moment(), nullable=True),
        sa.Column("temperature", sa.Double(), nullable=True),
        sa.Column("humidity", sa.Double(), nullable=True),
        sa.Column("feels_like", sa.Double(), nullable=True),
        sa.Column("pressure", sa.Double(), nullable=True),
        sa.Column("wind_speed", sa.Double(), nullable=True),
        sa.Column("wind_deg", sa.Double(), nullable=True),
        sa.Column("clouds", sa.Double(), nullable=True),
        sa.Column("visibility", sa.Double(), nullable=True),
        sa.Column("rain_1h", sa.Double(), nullable=True),
        sa.Column("snow_1h", sa.Double(), nullable=True),
        sa.Column("condition_id", sa.Integer(), nullable=True),
        sa.Column("description", sa.String(200), nullable=True),
        sa.Column("utc_offset_s", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "collections",
        sa.Column("id", exact(64), nullable=False),
        sa.Column("requested_at", moment(), nullable=False),
        sa.Column("max_age_s", sa.Integer(), nullable=False),
        sa.Column("cities_hash", exact(64), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("collected", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("last_progress_at", moment(), nullable=True),
        sa.Column("finished_at", moment(), nullable=True),
        sa.Column("cancelled_at", moment(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_collections_finished_at"), "collections", ["finished_at"], unique=False)
    op.create_table(
        "consumers",
        sa.Column("id", exact(64), nullable=False),
        sa.Column("account", exact(64), nullable=False),
        sa.Column("started_at", moment(), nullable=False),
        sa.Column("seen_at", moment(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "quota_charges",
        sa.Column("id", number(), nullable=False),
        sa.Column("account", exact(64), nullable=False),
        sa.Column("cost", sa.Integer(), nullable=False),
        sa.Column("reserved_at", moment(), nullable=False),
        sa.Column("release_at", moment(), nullable=False),
        sa.Column("closed_at", moment(), nullable=True),
        sa.Column("consumer", exact(64), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_quota_charges_held", "quota_charges", ["account", "release_at", "cost"], unique=False)
    op.create_table(
        "quota_gate",
        sa.Column("account", exact(64), nullable=False),
        sa.Column("cities_per_window", sa.Integer(), nullable=False),
        sa.Column("window_s", sa.Double(), nullable=False),
        sa.Column("pacing", exact(16), nullable=False),
        sa.Column("last_now", moment(), nullable=False),
        sa.Column("next_start_at", moment(), nullable=False),
        sa.Column("state", exact(16), nullable=False),
        sa.Column("blocked_until", moment(), nullable=False),
        sa.Column("strikes", sa.Integer(), nullable=False),
        sa.Column("probe_until", moment(), nullable=False),
        sa.Column("endpoint", exact(16), nullable=False),
        sa.Column("endpoint_at", moment(), nullable=False),
        sa.Column("month", exact(7), nullable=False),
        sa.Column("month_spent", sa.BigInteger(), nullable=False),
        sa.Column("next_month_spent", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account"),
    )
    op.create_table(
        "batches",
        sa.Column("collection_id", exact(64), nullable=False),
        sa.Column("batch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("city_ids", sa.Text(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("settled", sa.Integer(), nullable=False),
        sa.Column("published_at", moment(), nullable=True),
        sa.Column("leased_by", exact(64), nullable=True),
        sa.Column("lease_until", moment(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("settled_at", moment(), nullable=True),
        sa.ForeignKeyConstraint(
            ["collection_id"],
            ["collections.id"],
        ),
        sa.PrimaryKeyConstraint("collection_id", "batch"),
    )
    op.create_index(op.f("ix_batches_lease_until"), "batches", ["lease_until"], unique=False)
    op.create_index(
        "ix_batches_open", "batches", ["collection_id", "settled_at", "published_at", "batch"], unique=False
    )
    op.create_table(
        "readings",
        sa.Column("collection_id", exact(64), nullable=False),
        sa.Column("city_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("status", exact(16), nullable=False),
        sa.Column("reason", sa.String(200), nullable=True),
        sa.Column("fetched_at", moment(), nullable=True),
        sa.Column("observed_at", moment(), nullable=True),
        sa.Column("temperature", sa.Double(), nullable=True),
        sa.Column("humidity", sa.Double(), nullable=True),
        sa.Column("feels_like", sa.Double(), nullable=True),
        sa.Column("pressure", sa.Double(), nullable=True),
        sa.Column("wind_speed", sa.Double(), nullable=True),
        sa.Column("wind_deg", sa.Double(), nullable=True),
        sa.Column("clouds", sa.Double(), nullable=True),
        sa.Column("visibility", sa.Double(), nullable=True),
        sa.Column("rain_1h", sa.Double(), nullable=True),
        sa.Column("snow_1h", sa.Double(), nullable=True),
        sa.Column("condition_id", sa.Integer(), nullable=True),
        sa.Column("description", sa.String(200), nullable=True),
        sa.Column("utc_offset_s", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["collection_id"],
            ["collections.id"],
        ),
        sa.PrimaryKeyConstraint("collection_id", "city_id"),
    )


def downgrade() -> None:
    op.drop_table("readings")
    op.drop_index("ix_batches_open", table_name="batches")
    op.drop_index(op.f("ix_batches_lease_until"), table_name="batches")
    op.drop_table("batches")
    op.drop_table("quota_gate")
    op.drop_index("ix_quota_charges_held", table_name="quota_charges")
    op.drop_table("quota_charges")
    op.drop_table("consumers")
    op.drop_index(op.f("ix_collections_finished_at"), table_name="collections")
    op.drop_table("collections")
    op.drop_table("cities")
