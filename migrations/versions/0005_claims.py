"""Charges tell which cities are claimed. The columns of `cities` that did stay for consumers that read them."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("quota_charges", sa.Column("cities", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("quota_charges", "cities")
