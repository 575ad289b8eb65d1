"""Tickets tell which cities may be asked for by others, too, and charges for which collections they are."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ADDED = (("quota_tickets", "offers"), ("quota_charges", "asked"))


def upgrade() -> None:
    for table, column in ADDED:
        op.add_column(table, sa.Column(column, sa.Text(), nullable=True))


def downgrade() -> None:
    for table, column in ADDED:
        op.drop_column(table, column)
