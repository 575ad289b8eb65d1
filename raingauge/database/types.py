"""Column types that mean the same in every database: times in UTC, ids compared byte by byte, text of any language."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, String, TypeDecorator
from sqlalchemy.dialects import mysql


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC, stored without its zone and with microseconds."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        return dialect.type_descriptor(mysql.DATETIME(fsp=6) if dialect.name in {"mysql", "mariadb"} else DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is not UTC:
            if value.tzinfo is None:
                raise ValueError("a time without its zone")
            value = value.astimezone(UTC)
        # PyMySQL would produce the same text, three times more slowly.
        if dialect.name in {"mysql", "mariadb"}:
            return value.isoformat(" ").removesuffix("+00:00")
        return value.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else value.replace(tzinfo=UTC)


def exact(length: int) -> String:
    """Text that compares byte by byte: MySQL's default collation would take "A" and "a" for the same id.

    On PostgreSQL it is equal byte by byte, but in the order of the database's collation, which may have "a" before "B".
    """
    # So transactions that lock rows in SQL's order and in Python's may deadlock there. It is harmless: the database
    # ends one of them, and `Database.write` runs it again. Another collation of the columns would have their indices
    # built anew while nobody can use the tables.
    text = mysql.VARCHAR(length, charset="ascii", collation="ascii_bin")
    return String(length).with_variant(text, "mysql", "mariadb")


def words(length: int) -> String:
    """Text of any language, whatever the database's default character set is."""
    return String(length).with_variant(mysql.VARCHAR(length, charset="utf8mb4"), "mysql", "mariadb")
