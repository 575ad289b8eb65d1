"""Tickets tell which cities their consumers offered, so that others may ask for them, too."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("quota_tickets", sa.Column("offers", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("quota_tickets", "offers")
