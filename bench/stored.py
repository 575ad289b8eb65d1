"""Collections that stand in the database before a scenario begins, written without the system."""

from contextlib import closing
from typing import Final

from sqlalchemy import Connection, text

from bench.baselines import COLUMNS, WEATHER
from raingauge.storage.database import open_database

CITIES: Final = 167
FIRST_CITY: Final = 3_439_525
OPEN: Final = 20
"""So many collections are under way; all others are done."""


def name_of(number: int) -> str:
    """A collection's id."""
    return f"c{number}"


def store_collections(url: str, collections: int, with_rows: int) -> None:
    """Collections c1, c2, … on MariaDB, the first ones with their readings; a consumer that lives, and an open gate.

    The first `OPEN` are under way: a city of theirs is missing.
    """
    with closing(open_database(url)) as database:
        database.write(lambda connection: _store(connection, collections, with_rows))


def _store(connection: Connection, collections: int, with_rows: int) -> None:
    now = "UTC_TIMESTAMP(6)"
    for statement in (
        f"""INSERT INTO collections (id, requested_at, max_age_s, cities_hash, total, collected, failed, finished_at)
            SELECT CONCAT('c', seq), {now}, 600, 'default', {CITIES}, {CITIES} - (seq <= {OPEN}), 0,
                   IF(seq <= {OPEN}, NULL, {now}) FROM seq_1_to_{collections:d}""",
        f"""INSERT INTO batches (collection_id, batch, city_ids, size, settled, published_at, attempts)
            SELECT CONCAT('c', seq), 0, '[1]', 1, 0, {now}, 0 FROM seq_1_to_{OPEN}""",
        f"""INSERT INTO consumers (id, account, started_at, seen_at)
            VALUES ('bench', 'openweather', {now}, {now} + INTERVAL 1 HOUR)""",
    ):
        connection.execute(text(statement))
    cities = {"first": FIRST_CITY, "last": FIRST_CITY + CITIES - 1}
    connection.execute(
        text(f"INSERT INTO cities (id, name) SELECT seq, 'Somewhere' FROM seq_{cities['first']}_to_{cities['last']}")
    )
    values = ", ".join(f":{name}" for name in COLUMNS[2:])
    connection.execute(
        text(
            f"INSERT INTO readings ({', '.join(COLUMNS)}) SELECT CONCAT('c', c.seq), r.seq, {values} "
            f"FROM seq_1_to_{with_rows:d} c, seq_{cities['first']}_to_{cities['last']} r "
            f"WHERE c.seq > {OPEN} OR r.seq < {cities['last']}"
        ),
        dict(zip(COLUMNS[2:], ("collected", *WEATHER), strict=True)),
    )
