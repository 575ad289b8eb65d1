"""Charges tell which cities are claimed; cities do not any more."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

NAME = sa.String(64).with_variant(mysql.VARCHAR(64, charset="ascii", collation="ascii_bin"), "mysql", "mariadb")
MOMENT = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
REMOVED = (("claimed_by", NAME), ("claimed_until", MOMENT))


def upgrade() -> None:
    op.add_column("quota_charges", sa.Column("cities", sa.Text(), nullable=True))
    for column, _ in REMOVED:
        op.drop_column("cities", column)


def downgrade() -> None:
    for column, kind in REMOVED:
        op.add_column("cities", sa.Column(column, kind, nullable=True))
    op.drop_column("quota_charges", "cities")
