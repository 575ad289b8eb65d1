"""Bare loops on the same database: what it takes at most when nothing but the rows is written.

The driver is used directly, on connections that are set up like the system's: same durability, no SQLAlchemy, no work.
"""

from contextlib import closing
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import insert

from bench.processes import CLOCK
from raingauge.storage.database import Database, open_database
from raingauge.storage.models import WEATHER_COLUMNS, Collection

ROWS: Final = 20
NOW: Final = datetime(2026, 11, 10, 12, tzinfo=UTC)
COLUMNS: Final = ("collection_id", "city_id", "status", *WEATHER_COLUMNS)
WEATHER: Final = (
    *(NOW.replace(tzinfo=None).isoformat(" "), NOW.replace(tzinfo=None).isoformat(" ")),
    *(21.4, 59.0, 21.1, 1016.0, 4.1, 140.0, 0.0, 10_000.0, None, None, 800, "clear sky", -10_800),
)


def rows_per_second(url: str, seconds: float, name: str) -> float:
    """Readings inserted in transactions of twenty rows, one after another on one connection, for that long."""
    with closing(open_database(url, pool_size=1)) as database:
        _have_collection(database, name)
        with closing(database.engine.raw_connection()) as connection:
            return _insert_for(connection, database.dialect, seconds, name)


def _have_collection(database: Database, name: str) -> None:
    """Closed, so that no program looks for its batches."""
    values = {"id": name, "requested_at": NOW, "max_age_s": 0, "cities_hash": "", "total": 0, "finished_at": NOW}
    database.write(lambda connection: connection.execute(insert(Collection).values(**values)))


def _insert_for(connection: Any, dialect: str, seconds: float, name: str) -> float:
    mark, begin = ("?", "BEGIN IMMEDIATE") if dialect == "sqlite" else ("%s", "BEGIN")
    statement = f"INSERT INTO readings ({', '.join(COLUMNS)}) VALUES ({', '.join([mark] * len(COLUMNS))})"
    cursor, city_id = connection.cursor(), 1
    began = CLOCK.monotonic()
    while (took := CLOCK.monotonic() - began) < seconds:
        cursor.execute(begin)
        cursor.executemany(statement, [(name, city, "collected", *WEATHER) for city in range(city_id, city_id + ROWS)])
        cursor.execute("COMMIT")
        city_id += ROWS
    return (city_id - 1) / took


def pairs_per_second(url: str, seconds: float) -> float:
    """Pairs of transactions that change one row each, one after another on one connection."""
    with closing(open_database(url, pool_size=1)) as database:
        _have_collection(database, "pairs")
        with closing(database.engine.raw_connection()) as raw:
            connection: Any = raw
            cursor, pairs = connection.cursor(), 0
            began = CLOCK.monotonic()
            while (took := CLOCK.monotonic() - began) < seconds:
                for number in (2 * pairs, 2 * pairs + 1):
                    cursor.execute("BEGIN")
                    cursor.execute(f"UPDATE collections SET total = {number + 1:d} WHERE id = 'pairs'")
                    cursor.execute("COMMIT")
                pairs += 1
            return pairs / took
