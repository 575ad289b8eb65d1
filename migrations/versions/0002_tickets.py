"""Tickets: consumers that wait for quota stand in line."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def exact(length: int) -> sa.String:
    """Text that compares byte by byte in every database."""
    variant = mysql.VARCHAR(length, charset="ascii", collation="ascii_bin")
    return sa.String(length).with_variant(variant, "mysql", "mariadb")


def moment() -> sa.DateTime:
    """UTC with microseconds."""
    return sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def upgrade() -> None:
    op.create_table(
        "quota_tickets",
        sa.Column("id", exact(64), nullable=False),
        sa.Column("account", exact(64), nullable=False),
        sa.Column("collection_ids", sa.Text(), nullable=False),
        sa.Column("taken_at", moment(), nullable=False),
        sa.Column("due_at", moment(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def downgrade() -> None:
    op.drop_table("quota_tickets")
