"""Names, descriptions and reasons take every character, whatever the database's default character set is.

What was made in a database whose default is utf8mb4 stays as it is.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

WORDS = [("cities", "name"), ("cities", "country"), ("cities", "description")]
WORDS += [("readings", "reason"), ("readings", "description")]
NARROW = sa.text(
    "SELECT table_name, column_name FROM information_schema.columns"
    " WHERE table_schema = database() AND character_set_name <> 'utf8mb4'"
)


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name not in {"mysql", "mariadb"}:
        return
    narrow = {(row[0], row[1]) for row in connection.execute(NARROW)}
    for table, column in WORDS:
        if (table, column) in narrow:
            op.alter_column(table, column, type_=mysql.VARCHAR(200, charset="utf8mb4"), existing_nullable=True)


def downgrade() -> None:
    """Nothing: a narrower character set would refuse what is stored."""
