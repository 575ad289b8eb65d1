"""SIGTERM and SIGINT at any moment: exit status 0 within the grace period, no complaint of asyncio's, nothing lost.

`STOPS=40 pytest tests/e2e/test_stop.py` stops each kind of program forty times, else a few times: every moment in turn,
and within it at other instants, by other signals, every other time in Python's development mode.
"""

import os
import random
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
import requests
from sqlalchemy import make_url, select

from raingauge.clock import SystemClock
from raingauge.database import Database, open_database
from raingauge.model import CollectionRequest
from raingauge.storage.models import Collection, QueuedCity, Reading
from tests.e2e.network import Door, door
from tests.e2e.running import kafka_settings, settings_for
from tests.support.accepting import accept
from tests.support.databases import empty
from tests.support.eventually import eventually
from tests.support.processes import Program, launched, program, simulator
from tests.support.servers import free_port

STOPS = int(os.environ.get("STOPS", "0"))
CITIES = range(3_000_001, 3_000_046)
MOST_POSTS = 60
PATIENCE_S = 60.0
TIMEOUT_S = 1.0
"""`openweather.timeout_s` of the programs here."""
GRACE_S = TIMEOUT_S + 5.0
TEARDOWN_S = 3.0
"""A second for the consumer's farewell, the rest for Python to take itself down on a busy machine."""
SIGNALS = ((signal.SIGTERM,), (signal.SIGINT,), (signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM,))
DEVELOPMENT = {"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "default"}
COMPLAINTS = (
    *("was never retrieved", "was destroyed but it is pending", "was never awaited", "Event loop is closed"),
    *("Unclosed", "ResourceWarning", "Exception ignored", "Traceback", "Fatal Python error"),
)


@dataclass
class World:
    """One program that is going to be stopped, and what is around it."""

    number: int
    weather: Program
    database: Database
    collection: str = "1"
    accepted: dict[str, frozenset[int]] = field(default_factory=dict)
    release: Callable[[], None] = lambda: None
    """Brings back what was taken away."""
    away: bool = False
    """Whether that is the database."""
    door: Door | None = None
    """Between the program and its database."""

    def __post_init__(self) -> None:
        """Have a collection accepted without a program's help."""
        self.chance = random.Random(self.number)
        request = CollectionRequest(self.collection, tuple(CITIES), 0, named=True)
        self.database.write(lambda c: accept(c, self.database.now(c), request))
        self.accepted[self.collection] = frozenset(CITIES)

    def pause(self, most_s: float) -> None:
        """Let a moment pass that is chosen at random: that moment is what is tested."""
        threading.Event().wait(self.chance.uniform(0, most_s))

    def fault(self, **form: Any) -> None:
        """Have the provider fail."""
        requests.post(f"{self.weather.url}/control/faults", json=form, timeout=10).raise_for_status()

    def heal(self) -> None:
        """End all faults."""
        self.release()
        requests.delete(f"{self.weather.url}/control/faults", timeout=10).raise_for_status()

    def calls_underway(self) -> bool:
        return bool(self.weather.get("/control/witness")["underway"])

    def cities_of(self, collection: str) -> list[int]:
        """Those with a reading."""
        of_it = select(Reading.city_id).where(Reading.collection_id == collection)
        return list(self.database.read(lambda c: c.scalars(of_it).all()))

    def claims(self) -> list[int]:
        """Cities that a call is said to be fetching, of the collections accepted here."""
        of_these = select(QueuedCity.city_id).where(QueuedCity.collection_id.in_(self.accepted))
        return list(self.database.read(lambda c: c.scalars(of_these.where(QueuedCity.charge_id.is_not(None))).all()))

    def all_done(self) -> bool:
        finished = select(Collection.id).where(Collection.finished_at.is_not(None))
        return self.accepted.keys() <= set(self.database.read(lambda c: c.scalars(finished).all()))

    def assert_nothing_is_lost(self) -> None:
        """Everything accepted is settled with exactly its cities."""
        for collection, cities in self.accepted.items():
            rows = self.cities_of(collection)
            assert len(rows) == len(cities) == len(cities & set(rows)), f"{collection}: {rows}"
        counted = select(Collection.id, Collection.collected, Collection.failed)
        for row in self.database.read(lambda c: c.execute(counted.where(Collection.id.in_(self.accepted))).all()):
            assert (row.collected, row.failed) == (len(self.accepted[row.id]), 0)


Moment = Callable[[World, Program], None]
"""Brings a program to the moment in which it is stopped."""


def assert_ends_well(world: World, running: Program) -> None:
    """Stopped by one signal or two, it ends in time, with status 0, without a complaint."""
    clock = SystemClock()
    began = clock.monotonic()
    for number in world.chance.choice(SIGNALS):
        running.process.send_signal(number)
        world.pause(0.7)
    status = running.ended()
    took = clock.monotonic() - began
    assert status == 0, f"exit status {status} after {took:.1f} s"
    assert not [line for line in running.lines if any(complaint in line for complaint in COMPLAINTS)]
    assert took <= GRACE_S + TEARDOWN_S, f"it took {took:.1f} s"


def check(module: str, world: World, moment: Moment, settings: dict[str, str], again: dict[str, str]) -> None:
    """Stop a program in a moment, start another with other settings, and see that nothing is lost."""
    with launched(module, settings=settings | (DEVELOPMENT if world.number % 2 else {})) as running:
        moment(world, running)
        assert_ends_well(world, running)
    # Cities of calls that were not finished would stay claimed; and the next program would wait for them.
    assert module == "producer" or world.away or not world.claims()
    world.heal()
    with program(module, settings=again):
        eventually(world.all_done, PATIENCE_S)
    world.assert_nothing_is_lost()


# -- moments -------------------------------------------------------------------------------------------------------


def starting(world: World, running: Program) -> None:
    world.pause(2.5)


def idle(world: World, running: Program) -> None:
    running.wait_until_it_serves()
    eventually(world.all_done, PATIENCE_S)
    world.pause(1)


def working(world: World, running: Program) -> None:
    eventually(lambda: world.cities_of(world.collection), PATIENCE_S)
    world.pause(1)


def in_a_slow_call(world: World, running: Program) -> None:
    world.fault(fault="slow", latency_s=0.8 * TIMEOUT_S)
    eventually(world.calls_underway, PATIENCE_S)
    world.pause(0.5)


def in_a_call_without_an_answer(world: World, running: Program) -> None:
    world.fault(fault="lose")
    world.fault(fault="slow", latency_s=5 * TIMEOUT_S)
    eventually(world.calls_underway, PATIENCE_S)
    world.pause(0.5)


def in_backoff(world: World, running: Program) -> None:
    world.fault(fault="outage")
    eventually(lambda: "state=provider" in running.output, PATIENCE_S)
    world.pause(1)


def while_posting(world: World, running: Program) -> None:
    """Somebody posts, one collection after another, until nobody answers (or enough is posted)."""

    def post() -> None:
        with suppress(requests.ConnectionError), requests.Session() as client:
            for number in range(MOST_POSTS):
                collection, cities = f"{world.collection}-{number}", range(3_100_001, 3_100_006)
                body = {"id": collection, "cities": list(cities), "max_age_s": 86_400}
                answer = client.post(f"{running.url}/collect", json=body, timeout=10)
                assert answer.status_code == 202
                world.accepted[collection] = frozenset(cities)

    running.wait_until_it_serves()
    before = len(world.accepted)
    threading.Thread(target=post).start()
    eventually(lambda: len(world.accepted) > before, PATIENCE_S)
    world.pause(0.5)


def with_the_database_locked(world: World, running: Program) -> None:
    """Another process holds SQLite's lock for longer than anybody waits."""
    in_backoff(world, running)
    lock_database(world)
    world.pause(2)


def starting_with_the_database_locked(world: World, running: Program) -> None:
    lock_database(world)
    world.pause(3)


def lock_database(world: World) -> None:
    world.away = True
    lock = sqlite3.connect(str(world.database.engine.url.database), isolation_level=None)
    world.release = lock.close
    lock.execute("BEGIN IMMEDIATE")


def with_the_database_silent(world: World, running: Program) -> None:
    """The connections stand, and nothing ever comes back through them."""
    assert world.door is not None
    running.wait_until_it_serves()
    eventually(lambda: world.cities_of(world.collection) or world.calls_underway(), PATIENCE_S)
    world.away = True
    world.door.shut()
    world.pause(3)


def starting_with_the_database_silent(world: World, running: Program) -> None:
    assert world.door is not None
    world.away = True
    world.door.shut()
    running.wait_until_it_serves()
    world.pause(4)


def serving_without_kafka(world: World, running: Program) -> None:
    running.wait_until_it_serves()
    world.pause(2)


def while_posting_without_kafka(world: World, running: Program) -> None:
    while_posting(world, running)


WITHOUT_KAFKA = {serving_without_kafka, while_posting_without_kafka}


# -- embedded ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weather() -> Iterator[Program]:
    with simulator("--quota", "0", "--latency-s", "0.05") as running:
        yield running


@pytest.fixture(autouse=True)
def _no_faults(weather: Program) -> None:
    requests.delete(f"{weather.url}/control/faults", timeout=10).raise_for_status()


def common(weather: Program, database_url: str, **more: object) -> dict[str, str]:
    usual = {"openweather__timeout_s": TIMEOUT_S, "quota__cities_per_window": 600, "quota__window_s": 20}
    return settings_for(weather.url, database_url, {**usual, "broker__partitions": 2, **more})


EMBEDDED: list[Moment] = [
    *(starting, in_a_slow_call, in_backoff, while_posting, with_the_database_locked, in_a_call_without_an_answer),
    *(working, idle, starting_with_the_database_locked),
]


@pytest.mark.long
@pytest.mark.parametrize("number", range(STOPS or 6))
def test_embedded_stops_well(number: int, weather: Program, sqlite: Database) -> None:
    settings = common(weather, str(sqlite.engine.url))
    check("standalone", World(number, weather, sqlite), EMBEDDED[number % len(EMBEDDED)], settings, settings)


# -- producer and consumer on Kafka and MariaDB --------------------------------------------------------------------


@dataclass
class Site:
    """Where producers and consumers of a test module work together: a database, a topic, a group."""

    weather: Program
    database: Database
    settings: dict[str, str]
    numbers: Iterator[int] = field(default_factory=count)

    def check(self, module: str, moments: list[Moment], number: int) -> None:
        """Stop one that reaches the database through a door."""
        moment, url = moments[number % len(moments)], make_url(self.settings["RAINGAUGE_DATABASE__URL"])
        world = World(number, self.weather, self.database, f"c{next(self.numbers)}")
        settings = dict(self.settings)
        if moment in WITHOUT_KAFKA:
            settings["RAINGAUGE_BROKER__URL"] = f"kafka://127.0.0.1:{free_port()}"
        with door(str(url.host), int(url.port or 0)) as world.door:
            through = url.set(port=world.door.port).render_as_string(hide_password=False)
            check(module, world, moment, settings | {"RAINGAUGE_DATABASE__URL": through}, self.settings)


@pytest.fixture(scope="module")
def site(weather: Program, schemas: dict[str, str]) -> Iterator[Site]:
    url = schemas["mariadb"]
    with kafka_settings() as kafka, closing(open_database(url)) as database:
        yield Site(weather, database, common(weather, url, relay__every_s=0.2, **kafka))
        empty(database)


@pytest.fixture(scope="module")
def producer(site: Site) -> Iterator[Program]:
    """One that goes on while consumers are stopped."""
    with program("producer", settings=site.settings) as running:
        yield running


@pytest.fixture(scope="module")
def consumer(site: Site) -> Iterator[Program]:
    """One that goes on while producers are stopped."""
    with program("consumer", settings=site.settings) as running:
        yield running


CONSUMER: list[Moment] = [
    *(in_a_slow_call, with_the_database_silent, serving_without_kafka, starting, in_backoff, idle),
    *(in_a_call_without_an_answer, starting_with_the_database_silent, working),
]
PRODUCER: list[Moment] = [
    *(while_posting, with_the_database_silent, starting, while_posting_without_kafka, idle),
    *(starting_with_the_database_silent, working),
]


@pytest.mark.services
@pytest.mark.xdist_group("stops of the consumer")
@pytest.mark.parametrize("number", range(STOPS or 3))
def test_a_consumer_stops_well(number: int, site: Site, producer: Program) -> None:
    site.check("consumer", CONSUMER, number)


@pytest.mark.services
@pytest.mark.xdist_group("stops of the producer")
@pytest.mark.parametrize("number", range(STOPS or 3))
def test_a_producer_stops_well(number: int, site: Site, consumer: Program) -> None:
    site.check("producer", PRODUCER, number)
