"""What the tests of storage and the ledger share: a clock to set, threads that begin at once, and things to store."""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from threading import Barrier
from typing import Any, Final, TypeVar
from uuid import uuid4

import pytest
from sqlalchemy import Connection, create_engine, insert, inspect, make_url, select, text, update
from sqlalchemy.engine import Row

from consumer.admission import Grant, NotNow
from consumer.gate import EndpointSetting
from consumer.look import Candidate
from consumer.quota import Ledger
from raingauge.observation import Observation
from raingauge.pacing import Terms
from raingauge.storage import collections
from raingauge.storage.batches import BatchRef
from raingauge.storage.collections import CollectionRequest, CollectionState
from raingauge.storage.database import Database
from raingauge.storage.models import Collection, QuotaCharge, Schema
from raingauge.storage.readings import settle
from raingauge.storage.wanted import Want, open_batches
from tests.support.accepting import accept as accept_one
from tests.support.databases import SERVERS, memory_folder, need_port

T = TypeVar("T")

NOW: Final = datetime(2026, 11, 10, 12, 0, 0, 123456, tzinfo=UTC)
SECOND: Final = timedelta(seconds=1)
MICROSECOND: Final = timedelta(microseconds=1)
TERMS: Final = Terms(60, 60.0, "smooth", 10**9, "none", timeout_s=10.0)
"""Held to the worst case, a charge of these is held for 85 s; a claim lasts 25 s."""

SERVER_KINDS: Final = [pytest.param(kind, marks=pytest.mark.services) for kind in SERVERS]
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


def rows(database: Database, table: type[Schema]) -> Sequence[Row[Any]]:
    """All rows of a table, in the order of its key."""
    key = inspect(table).primary_key
    return database.read(lambda connection: connection.execute(select(table).order_by(*key)).all())


def accept(
    database: Database, collection_id: str, city_ids: Sequence[int], now: datetime = NOW, max_age_s: int = 600
) -> list[BatchRef]:
    """Have a collection; answer its batches."""
    request = CollectionRequest(collection_id, city_ids, max_age_s, named=True)
    database.write(lambda connection: accept_one(connection, now, request))
    return [BatchRef(collection_id, number) for number in range(-(-len(city_ids) // 20))]


def found(database: Database, collection_id: str) -> CollectionState:
    """A collection that is there."""
    state = database.read(lambda connection: collections.find(connection, collection_id))
    assert state is not None
    return state


def cancel(database: Database, collection_id: str, now: datetime = NOW) -> None:
    """End a collection before it is settled."""
    ended = update(Collection).where(Collection.id == collection_id).values(finished_at=now, cancelled_at=now)
    database.write(lambda connection: connection.execute(ended))


def wants_of(database: Database, refs: Sequence[BatchRef]) -> list[Want]:
    """What these batches still want, city by city."""
    left = database.read(lambda connection: open_batches(connection, refs))
    return [want for ref in refs for want in left[ref].wants]


def settle_batches(database: Database, refs: Sequence[BatchRef], now: datetime = NOW) -> None:
    """Settle all that is left of these batches."""
    outcomes = dict.fromkeys(wants_of(database, refs), "for the test")
    database.write(lambda connection: settle(connection, now, outcomes))


def an_observation(city_id: int, **fields: Any) -> Observation:
    """The weather of a city; what is not given is what the provider may leave out."""
    given: dict[str, Any] = {"name": None, "country": None, "latitude": None, "longitude": None, "humidity": None}
    given |= {"observed_at": NOW, "temperature": 20.0, **fields}
    return Observation(city_id=city_id, **given)


@contextmanager
def own_database(kind: str) -> Iterator[str]:
    """The URL of a database without any tables."""
    if kind == "sqlite":
        with memory_folder() as folder:
            yield f"sqlite:///{folder}/own.db"
        return
    url = make_url(SERVERS[kind])
    need_port(url.port or 0, kind)
    name = f"raingauge_test_{uuid4().hex[:12]}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        try:
            yield url.set(database=name).render_as_string(hide_password=False)
        finally:
            with engine.connect() as connection:
                connection.execute(text(f"DROP DATABASE {name}"))
    finally:
        engine.dispose()


class Account:
    """A provider account in virtual time, with the ledgers of its consumers."""

    def __init__(self, database: Database, now: datetime = NOW, **terms: Any) -> None:
        self.moment = Moment(now)
        self.database = Database(database.engine, self.moment)
        self.terms = replace(TERMS, **terms)
        self._city_ids = count(1)

    def ledger(self, consumer: str = "one", endpoint: EndpointSetting = "group", **terms: Any) -> Ledger:
        """A consumer's ledger, opened."""
        ledger = self.unopened(consumer, endpoint, **terms)
        ledger.open()
        return ledger

    def unopened(self, consumer: str = "one", endpoint: EndpointSetting = "group", **terms: Any) -> Ledger:
        """A consumer's ledger before it has looked at the gate."""
        return Ledger(self.database, "account", replace(self.terms, **terms), endpoint, consumer)

    def candidates(self, number: int) -> list[Candidate]:
        """Cities that nobody asked for before."""
        return [Candidate(next(self._city_ids), NOW) for _ in range(number)]

    def take(self, ledger: Ledger, number: int = 20) -> Grant:
        """A grant for up to that many cities: it is an error if there is none."""
        answer = ledger.reserve(self.candidates(number), together=True)
        assert isinstance(answer, Grant), answer
        return answer

    def refused(self, ledger: Ledger, number: int = 20) -> NotNow:
        """The refusal of that many cities: it is an error if they are granted."""
        answer = ledger.reserve(self.candidates(number), together=True)
        assert isinstance(answer, NotNow), answer
        return answer

    def close(self, ledger: Ledger, grant: Grant) -> None:
        """The answers are in."""
        self.database.write(partial(_close, ledger, grant))

    def charge(self, grant: Grant) -> Row[Any]:
        """The row of a grant."""
        return next(row for row in rows(self.database, QuotaCharge) if row.id == grant.charge_id)


def claim(connection: Connection, city_ids: Sequence[int], holder: str, until: datetime) -> None:
    """Have someone fetch these cities."""
    charge = {"account": "account", "cost": 0, "reserved_at": NOW, "release_at": until + TERMS.window_s * SECOND}
    connection.execute(insert(QuotaCharge), charge | {"consumer": holder, "cities": json.dumps([*city_ids])})


def claims(database: Database) -> dict[int, str]:
    """Which cities are said to be fetched, and by whom."""
    charges = [row for row in rows(database, QuotaCharge) if row.cities is not None]
    return {city_id: row.consumer for row in charges for city_id in json.loads(row.cities)}


def _close(ledger: Ledger, grant: Grant, connection: Connection) -> None:
    ledger.close(connection, [grant])


def milliseconds(seconds: float) -> Any:
    """About that many seconds: within five milliseconds."""
    return pytest.approx(seconds, abs=0.005)
