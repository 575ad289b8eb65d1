"""The schema: collections, batches, the queue, cities, readings, the quota, the heartbeats, events, webhooks, streams.

MySQL and MariaDB commit every CREATE on its own. So each step looks first whether it was done: a migration that was
interrupted can be run again.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STANDING = "CASE WHEN finished_at IS NULL THEN 0 WHEN cancelled_at IS NULL THEN 1 ELSE 2 END"


def exact(length: int) -> sa.String:
    """Text that compares byte by byte in every database."""
    return sa.String(length).with_variant(
        mysql.VARCHAR(length, charset="ascii", collation="ascii_bin"), "mysql", "mariadb"
    )


def words(length: int) -> sa.String:
    """Text in any language."""
    return sa.String(length).with_variant(mysql.VARCHAR(length, charset="utf8mb4"), "mysql", "mariadb")


def moment() -> sa.DateTime:
    """UTC with microseconds."""
    return sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def number() -> sa.BigInteger:
    """A key that the database counts up."""
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def weather() -> list[sa.Column[Any]]:
    """The columns of one city's weather."""
    measured = ("temperature", "humidity", "feels_like", "pressure", "wind_speed", "wind_deg", "clouds", "visibility")
    return [
        sa.Column("fetched_at", moment()),
        sa.Column("observed_at", moment()),
        *(sa.Column(name, sa.Double()) for name in (*measured, "rain_1h", "snow_1h")),
        sa.Column("condition_id", sa.Integer()),
        sa.Column("description", words(200)),
        sa.Column("utc_offset_s", sa.Integer()),
    ]


def create_table(name: str, *parts: sa.schema.SchemaItem) -> None:
    """Create a table that is not there yet."""
    if not sa.inspect(op.get_bind()).has_table(name):
        op.create_table(name, *parts)


def create_index(name: str, table: str, columns: list[str]) -> None:
    """Create an index that is not there yet."""
    if name not in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}:
        op.create_index(name, table, columns)


def upgrade() -> None:
    _create_collections()
    _create_queue()
    _create_cities()
    _create_quota()
    _create_events()
    _create_webhooks()
    _create_outgoing()


def _create_collections() -> None:
    create_table(
        "collections",
        sa.Column("id", exact(64), primary_key=True),
        sa.Column("requested_at", moment(), nullable=False),
        sa.Column("max_age_s", sa.Integer(), nullable=False),
        sa.Column("cities_hash", exact(64), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("collected", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("last_turn", sa.BigInteger(), nullable=False),
        sa.Column("enqueued", sa.Integer(), nullable=False),
        sa.Column("released", sa.Integer(), nullable=False),
        sa.Column("last_progress_at", moment()),
        sa.Column("idle_since", moment()),
        sa.Column("finished_at", moment()),
        sa.Column("cancelled_at", moment()),
        sa.Column("traceparent", exact(55)),
        sa.Column("standing", sa.SmallInteger(), sa.Computed(STANDING, persisted=True)),
    )
    create_index("ix_collections_listed", "collections", ["standing", "requested_at", "id"])
    create_index("ix_collections_open", "collections", ["finished_at", "idle_since"])
    create_table(
        "batches",
        sa.Column("collection_id", exact(64), sa.ForeignKey("collections.id"), primary_key=True),
        sa.Column("batch", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("city_ids", sa.Text(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("settled", sa.Integer(), nullable=False),
        sa.Column("publish_order", sa.Integer()),
        sa.Column("published_at", moment()),
        sa.Column("leased_by", exact(64)),
        sa.Column("lease_until", moment()),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("settled_at", moment()),
    )
    create_index("ix_batches_lease_until", "batches", ["lease_until"])
    create_index("ix_batches_publish_order", "batches", ["publish_order"])


def _create_queue() -> None:
    create_table(
        "queue",
        sa.Column("collection_id", exact(64), primary_key=True),
        sa.Column("city_id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("account", exact(64), nullable=False),
        sa.Column("since", moment(), nullable=False),
        sa.Column("newcomer", sa.Boolean()),
        sa.Column("turn", sa.BigInteger()),
        sa.Column("ready_at", moment()),
        sa.Column("charge_id", sa.BigInteger()),
        sa.Column("attempts", sa.Integer(), nullable=False),
    )
    create_index("ix_queue_turn", "queue", ["account", "newcomer", "turn"])
    create_index("ix_queue_ready", "queue", ["account", "ready_at"])
    create_index("ix_queue_city", "queue", ["city_id", "charge_id"])


def _create_cities() -> None:
    create_table(
        "cities",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("name", words(200)),
        sa.Column("country", words(200)),
        sa.Column("latitude", sa.Double()),
        sa.Column("longitude", sa.Double()),
        *weather(),
        sa.Column("unknown_at", moment()),
        sa.Column("doubted_at", moment()),
    )
    create_index("ix_cities_fetched_at", "cities", ["fetched_at"])
    create_table(
        "readings",
        sa.Column("collection_id", exact(64), sa.ForeignKey("collections.id"), primary_key=True),
        sa.Column("city_id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("status", exact(16), nullable=False),
        sa.Column("reason", words(200)),
        *weather(),
    )


def _create_quota() -> None:
    create_table(
        "quota_gate",
        sa.Column("account", exact(64), primary_key=True),
        sa.Column("cities_per_window", sa.Integer(), nullable=False),
        sa.Column("window_s", sa.Double(), nullable=False),
        sa.Column("pacing", exact(16), nullable=False),
        sa.Column("last_now", moment(), nullable=False),
        sa.Column("next_start_at", moment(), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.Column("state", exact(16), nullable=False),
        sa.Column("blocked_until", moment(), nullable=False),
        sa.Column("strikes", sa.Integer(), nullable=False),
        sa.Column("probe_until", moment(), nullable=False),
        sa.Column("endpoint", exact(16), nullable=False),
        sa.Column("endpoint_at", moment(), nullable=False),
        sa.Column("month", exact(7), nullable=False),
        sa.Column("month_spent", sa.BigInteger(), nullable=False),
        sa.Column("next_month_spent", sa.BigInteger(), nullable=False),
        sa.Column("refused_key", exact(64)),
    )
    create_table(
        "quota_charges",
        sa.Column("id", number(), primary_key=True),
        sa.Column("account", exact(64), nullable=False),
        sa.Column("consumer", exact(64), nullable=False),
        sa.Column("cost", sa.Integer(), nullable=False),
        sa.Column("reserved_at", moment(), nullable=False),
        sa.Column("ends_at", moment(), nullable=False),
        sa.Column("closed_at", moment()),
    )
    create_index("ix_quota_charges_held", "quota_charges", ["account", "ends_at", "cost", "closed_at"])
    create_index("ix_quota_charges_reserved", "quota_charges", ["account", "reserved_at"])
    create_table(
        "consumers",
        sa.Column("id", exact(64), primary_key=True),
        sa.Column("account", exact(64), nullable=False),
        sa.Column("seen_at", moment(), nullable=False),
        sa.Column("partitions_held", sa.Integer(), nullable=False),
    )


def _create_events() -> None:
    create_table(
        "events",
        sa.Column("number", number(), primary_key=True),
        sa.Column("event_id", exact(36), nullable=False),
        sa.Column("type", exact(40), nullable=False),
        sa.Column("user_id", words(200), nullable=False),
        sa.Column("description", words(2000), nullable=False),
        sa.Column("status", exact(16), nullable=False),
        sa.Column("created_at", moment(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("publish_at", moment()),
        sa.UniqueConstraint("event_id"),
    )
    create_index("ix_events_publish_at", "events", ["publish_at"])


def _create_webhooks() -> None:
    create_table(
        "webhooks",
        sa.Column("id", exact(64), primary_key=True),
        sa.Column("url", words(2083), nullable=False),
        sa.Column("types", sa.Text(), nullable=False),
    )
    create_table(
        "webhook_deliveries",
        sa.Column("event_number", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("webhook_id", exact(64), primary_key=True),
        sa.Column("status", exact(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", moment()),
        sa.Column("last_status", sa.Integer()),
        sa.Column("last_error", words(200)),
    )
    create_index("ix_webhook_deliveries_due", "webhook_deliveries", ["webhook_id", "due_at"])


def _create_outgoing() -> None:
    create_table(
        "outgoing",
        sa.Column("number", number(), primary_key=True),
        sa.Column("collection_id", exact(64), nullable=False),
        sa.Column("city_id", sa.Integer(), nullable=False),
        sa.Column("stored_at", moment(), nullable=False),
        sa.Column("publish_at", moment(), nullable=False),
    )
    create_index("ix_outgoing_publish_at", "outgoing", ["publish_at"])


def downgrade() -> None:
    quota = ("quota_gate", "quota_charges", "consumers")
    webhooks = ("webhook_deliveries", "webhooks")
    for name in ("outgoing", *webhooks, "events", "readings", "queue", "batches", "collections", "cities", *quota):
        op.drop_table(name)
