"""Collections and a queue that are in the database before a scenario begins, written without the system."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, func, insert, select

from bench.baselines import COLUMNS, NOW, WEATHER
from raingauge.model import BATCH_SIZE
from raingauge.storage.database import Database, open_database
from raingauge.storage.models import Batch, City, Collection, ConsumerBeat, QueuedCity, Reading, Schema

CITIES: Final = 167
FIRST_CITY: Final = 3_439_525
OPEN: Final = 20
"""The first collections are under way; all others are done."""
ACCOUNT: Final = "openweather"
ROWS: Final = 10_000
"""In one statement."""
MAX_AGE_S: Final = 600

Row = dict[str, Any]


def name_of(number: int) -> str:
    """A collection's id."""
    return f"c{number}"


def store_collections(url: str, collections: int, with_rows: int) -> None:
    """Collections c1, c2, …, the first ones with their readings, and a consumer that is alive.

    The first `OPEN` are under way: a city of theirs is missing.
    """
    with closing(open_database(url)) as database:
        now = database.read(database.now)
        cities = range(FIRST_CITY, FIRST_CITY + CITIES)
        _store(database, Collection, (_collection(number, now) for number in range(1, collections + 1)))
        _store(database, Batch, (_batch(name_of(number), 0, [1], now) for number in range(1, OPEN + 1)))
        beat = {"id": "bench", "account": ACCOUNT, "started_at": now, "seen_at": now + timedelta(hours=1)}
        _store(database, ConsumerBeat, iter([beat]))
        _store(database, City, ({"id": city_id, "name": "Somewhere"} for city_id in cities))
        _store(database, Reading, _readings(with_rows, cities))


def queue_cities(database: Database, name: str, number: int) -> None:
    """A collection of that many cities, all of them in the queue, with turns behind those that are there."""
    now = database.read(database.now)
    first = int(database.read(_last_city)) + 1
    cities = range(first, first + number)
    collection = {"id": name, "requested_at": now, "max_age_s": MAX_AGE_S, "cities_hash": name, "total": number}
    _store(database, Collection, iter([collection]))
    starts = range(0, number, BATCH_SIZE)
    _store(database, Batch, (_batch(name, s // BATCH_SIZE, list(cities[s : s + BATCH_SIZE]), now) for s in starts))
    rows = (
        {"collection_id": name, "city_id": city_id, "batch": place // BATCH_SIZE, "account": ACCOUNT}
        | {"since": now - timedelta(seconds=MAX_AGE_S), "newcomer": False, "turn": city_id, "attempts": 0}
        for place, city_id in enumerate(cities)
    )
    _store(database, QueuedCity, rows)


def _last_city(connection: Connection) -> int:
    queued, known = (connection.scalar(select(func.max(column))) for column in (QueuedCity.city_id, City.id))
    return max(queued or 0, known or 0)


def _store(database: Database, table: type[Schema], rows: Iterator[Row]) -> None:
    for some in iter(lambda: list(islice(rows, ROWS)), []):
        database.write(lambda connection, some=some: connection.execute(insert(table), some))  # type: ignore[misc]


def _collection(number: int, now: datetime) -> Row:
    is_open = number <= OPEN
    counts = {"total": CITIES, "collected": CITIES - is_open, "failed": 0}
    fixed = {"requested_at": now, "max_age_s": MAX_AGE_S, "cities_hash": "default"}
    return {"id": name_of(number), **fixed, **counts, "finished_at": None if is_open else now}


def _batch(name: str, batch: int, city_ids: list[int], now: datetime) -> Row:
    ids = json.dumps(city_ids)
    return {"collection_id": name, "batch": batch, "city_ids": ids, "size": len(city_ids), "published_at": now}


def _readings(collections: int, cities: range) -> Iterator[Row]:
    weather = dict(zip(COLUMNS[2:], ("collected", *WEATHER), strict=True)) | {"fetched_at": NOW, "observed_at": NOW}
    for number in range(1, collections + 1):
        collected = cities[:-1] if number <= OPEN else cities
        for city_id in collected:
            yield {"collection_id": name_of(number), "city_id": city_id, **weather}
