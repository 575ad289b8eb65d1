"""What the tests of storage share: a clock to set, threads that begin at once, and things to store."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any, Final, TypeVar

import pytest
from sqlalchemy import Connection, inspect, select
from sqlalchemy.engine import Row

from raingauge.database import Database
from raingauge.model import BatchKey, CollectionRequest, CollectionState, Observation
from raingauge.storage import collections
from raingauge.storage.enqueueing import enqueue
from raingauge.storage.models import Schema
from tests.support.accepting import accept as accept_one
from tests.support.databases import SERVER_KINDS

T = TypeVar("T")

NOW: Final = datetime(2026, 11, 10, 12, 0, 0, 123456, tzinfo=UTC)
SECOND: Final = timedelta(seconds=1)
MICROSECOND: Final = timedelta(microseconds=1)
LONGEST: Final = "🌦️雨ñ" * 50
"""200 characters, of which some take four bytes."""
ON_SERVERS: Final = pytest.mark.parametrize("database", SERVER_KINDS, indirect=True)


class Moment:
    """The time that a database tells in a test."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self, _connection: Connection) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        """Let time pass, or step back."""
        self.now += timedelta(seconds=seconds)


def at_once(works: Sequence[Callable[[], T]], within_s: float = 60) -> list[T]:
    """Run all of these, each in a thread, beginning together; their results in order, or the first error."""
    ready = Barrier(len(works), timeout=within_s)

    def begin(work: Callable[[], T]) -> T:
        ready.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as threads:
        futures = [threads.submit(begin, work) for work in works]
        return [future.result(within_s) for future in futures]


def url_of(database: Database) -> str:
    """The URL of a database, with its password."""
    return database.engine.url.render_as_string(hide_password=False)


def rows(database: Database, table: type[Schema]) -> Sequence[Row[Any]]:
    """All rows of a table, in the order of its key."""
    key = inspect(table).primary_key
    return database.read(lambda connection: connection.execute(select(table).order_by(*key)).all())


def accept(
    database: Database,
    collection_id: str,
    city_ids: Sequence[int],
    now: datetime = NOW,
    max_age_s: int = 600,
    outstanding: int = 10,
) -> list[BatchKey]:
    """Have a collection; answer its batches."""
    request = CollectionRequest(collection_id, city_ids, max_age_s, named=True)
    database.write(lambda connection: accept_one(connection, now, request, outstanding))
    return [BatchKey(collection_id, number) for number in range(-(-len(city_ids) // 20))]


def found(database: Database, collection_id: str) -> CollectionState:
    """A collection that is there."""
    state = database.read(lambda connection: collections.find(connection, collection_id))
    assert state is not None
    return state


def cancel(database: Database, collection_id: str, now: datetime = NOW) -> None:
    """End a collection before it is settled."""
    database.write(lambda connection: collections.cancel_all(connection, now, [collection_id]))


def settle_batches(database: Database, keys: Sequence[BatchKey], now: datetime = NOW) -> None:
    """Settle all cities of these batches: they fail."""
    database.write(lambda connection: enqueue(connection, now, "test", 0, keys, failing="for the test"))


def an_observation(city_id: int, **fields: Any) -> Observation:
    """The weather of a city; what is not given is what the provider may leave out."""
    given: dict[str, Any] = {"name": None, "country": None, "latitude": None, "longitude": None, "humidity": None}
    given |= {"observed_at": NOW, "temperature": 20.0, **fields}
    return Observation(city_id=city_id, **given)
