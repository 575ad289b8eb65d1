"""Collections and a queue that are in the database before a scenario begins, written without the system."""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final

from sqlalchemy import Index, insert, literal, select

from raingauge.database import Database, open_database
from raingauge.database.types import UtcDateTime
from raingauge.model import BATCH_SIZE
from raingauge.storage.models import Batch, City, Collection, ConsumerBeat, QueuedCity, Reading, Schema
from raingauge.storage.weather import WEATHER_COLUMNS

CITIES: Final = 167
FIRST_CITY: Final = 3_439_525
OPEN: Final = 20
"""The first collections are under way; all others are done."""
ACCOUNT: Final = "openweather"
NOW: Final = datetime(2026, 11, 10, 12, tzinfo=UTC)
ROWS: Final = 10_000
"""In one statement."""
MAX_AGE_S: Final = 600
EACH: Final = 10_000
"""Cities of a collection that is queued behind others."""
BEHIND: Final = 1_000_000_000
"""Their ids and turns are above."""
INDEX_S: Final = 1800
"""For creating an index of ten million rows."""
WEATHER: Final = (21.4, 59.0, 21.1, 1016.0, 4.1, 140.0, 0.0, 10_000.0, None, None, 800, "clear sky", -10_800)

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
        beat = {"id": "bench", "account": ACCOUNT, "seen_at": now + timedelta(hours=1)}
        _store(database, ConsumerBeat, iter([beat]))
        _store(database, City, ({"id": city_id, "name": "Somewhere"} for city_id in cities))
        _store(database, Reading, _readings(with_rows, cities))


def store_readings(url: str, number: int, apart: timedelta = timedelta()) -> None:
    """That many readings, in collections of ten thousand each, fetched so far apart; and their cities' latest.

    The first collection is written, the others are copied by the database.
    """
    weather = {"status": "collected"} | dict(zip(WEATHER_COLUMNS, (NOW, NOW, *WEATHER), strict=True))
    latest = dict(zip(WEATHER_COLUMNS, (NOW, NOW, *WEATHER), strict=True))
    reading = Reading.__table__.c
    with closing(open_database(url, statement_s=INDEX_S)) as database, _without_indices(database):
        now = database.read(database.now)
        names = [name_of(n) for n in range(OPEN + 1, OPEN + 1 - (-number // EACH))]
        _store(database, Collection, (_collection(OPEN + 1, now) | {"id": name} for name in names))
        cities = range(FIRST_CITY, FIRST_CITY + min(EACH, number))
        _store(database, City, ({"id": city, "name": "Somewhere"} | latest for city in cities))
        _store(database, Reading, ({"collection_id": names[0], "city_id": city} | weather for city in cities))
        for place, name in enumerate(names[1:], 1):
            moment = literal(NOW + place * apart, UtcDateTime)
            own: dict[str, Any] = {"collection_id": literal(name), "fetched_at": moment, "observed_at": moment}
            copied: dict[str, Any] = {column.name: column for column in reading} | own
            rows = select(*copied.values()).where(
                reading.collection_id == names[0], reading.city_id < FIRST_CITY + number - place * EACH
            )
            copy = insert(Reading).from_select([*copied], rows)
            database.write(lambda connection, copy=copy: connection.execute(copy))  # type: ignore[misc]


@contextmanager
def _without_indices(database: Database) -> Iterator[None]:
    """Create the secondary indices of readings after the block: one by one their entries would take hours."""
    indices: Sequence[Index] = [*Reading.__table__.indexes]  # type: ignore[attr-defined]
    for index in indices:
        index.drop(database.engine)
    yield
    for index in indices:
        with database.engine.begin() as connection:
            index.create(connection)


def queue_cities(database: Database, name: str, cities: range) -> None:
    """A collection of these cities, all of them in the queue."""
    now = database.read(database.now)
    _store(database, Collection, iter([_queued_collection(name, len(cities), now)]))
    starts = range(0, len(cities), BATCH_SIZE)
    _store(database, Batch, (_batch(name, s // BATCH_SIZE, list(cities[s : s + BATCH_SIZE]), now) for s in starts))
    _store(database, QueuedCity, (_queued(name, place, city_id, now) for place, city_id in enumerate(cities)))


def queue_behind(database: Database, cities: int, *, resting: bool) -> None:
    """That many cities behind all others, in collections of ten thousand each; `resting`: a tenth wait for a retry.

    The first collection is written, the others are copied by the database.
    """
    now = database.read(database.now)
    names = [f"behind-{number}" for number in range(cities // EACH)]
    _store(database, Collection, (_queued_collection(name, EACH, now) for name in names))
    _store(
        database,
        QueuedCity,
        (_behind(name, place, now, resting=resting) for name in names[:1] for place in range(EACH)),
    )
    queue = QueuedCity.__table__.c
    for number, name in enumerate(names[1:], 1):
        shift = EACH * number
        other = {"collection_id": literal(name), "city_id": queue.city_id + shift, "turn": queue.turn + shift}
        rows = select(*(other.get(column.name, column) for column in queue)).where(queue.collection_id == names[0])
        copy = insert(QueuedCity).from_select(queue.keys(), rows)
        database.write(lambda connection, copy=copy: connection.execute(copy))  # type: ignore[misc]


def _queued_collection(name: str, number: int, now: datetime) -> Row:
    return {"id": name, "requested_at": now, "max_age_s": MAX_AGE_S, "cities_hash": name, "total": number}


def _queued(name: str, place: int, city_id: int, now: datetime) -> Row:
    fixed = {"account": ACCOUNT, "since": now - timedelta(seconds=MAX_AGE_S), "newcomer": False, "attempts": 0}
    own = {"collection_id": name, "city_id": city_id, "batch": place // BATCH_SIZE, "turn": place, "ready_at": None}
    return fixed | own


def _behind(name: str, place: int, now: datetime, *, resting: bool) -> Row:
    later = {"newcomer": None, "turn": None, "ready_at": now + timedelta(hours=1), "attempts": 1}
    return _queued(name, place, BEHIND + place, now) | (
        later if resting and place % 10 == 0 else {"turn": BEHIND + place}
    )


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
    weather = {"status": "collected"} | dict(zip(WEATHER_COLUMNS, (NOW, NOW, *WEATHER), strict=True))
    for number in range(1, collections + 1):
        collected = cities[:-1] if number <= OPEN else cities
        for city_id in collected:
            yield {"collection_id": name_of(number), "city_id": city_id, **weather}
