"""SIGTERM and SIGINT at any moment: exit status 0 within the grace period, no complaint of asyncio's, nothing lost.

`STOPS=40 pytest tests/e2e/test_stop.py` stops each kind of program forty times, else a few times: every moment in turn,
and within it at other instants, by other signals, every other time in Python's development mode.
"""

import asyncio
import os
import random
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
import requests
from aiokafka.admin import AIOKafkaAdminClient
from sqlalchemy import make_url, select

from raingauge.contracts import dead_letter_topic
from raingauge.model import CollectionRequest
from raingauge.storage.database import Database, open_database
from raingauge.storage.models import Collection, QueuedCity, Reading
from tests.e2e.network import Door, closed_port, door
from tests.e2e.stops import DEVELOPMENT, TIMEOUT_S, Stoppable, launched, pause
from tests.support.accepting import accept as accept_one
from tests.support.databases import empty, need_port
from tests.support.eventually import eventually
from tests.support.processes import Program, program, simulator

STOPS = int(os.environ.get("STOPS", "0"))
CITIES = range(3_000_001, 3_000_046)
MOST_POSTS = 60
PATIENCE_S = 60.0
SIGNALS = ((signal.SIGTERM,), (signal.SIGINT,), (signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM,))


@dataclass
class World:
    """One program that is going to be stopped, and what is around it."""

    chance: random.Random
    weather: Program
    database: Database
    collection: str
    accepted: dict[str, frozenset[int]] = field(default_factory=dict)
    release: Callable[[], None] = lambda: None
    """Brings back what was taken away."""
    away: bool = False
    """Whether that is the database."""
    door: Door | None = None
    """Between the program and its database."""

    def accept(self, collection: str, cities: range = CITIES) -> None:
        """Have it accepted without a program's help."""
        request = CollectionRequest(collection, tuple(cities), 0, named=True)
        self.database.write(lambda c: accept_one(c, self.database.now(c), request))
        self.accepted[collection] = frozenset(cities)

    def fault(self, **form: Any) -> None:
        """Have the provider fail."""
        requests.post(f"{self.weather.url}/control/faults", json=form, timeout=10).raise_for_status()

    def heal(self) -> None:
        """End all faults."""
        self.release()
        requests.delete(f"{self.weather.url}/control/faults", timeout=10).raise_for_status()

    def calls_underway(self) -> bool:
        return bool(self.weather.get("/control/witness")["underway"])

    def settled(self) -> int:
        """Cities of the collection."""
        return len(self.cities_of(self.collection))

    def cities_of(self, collection: str) -> list[int]:
        """Those with a reading."""
        of_it = select(Reading.city_id).where(Reading.collection_id == collection)
        return list(self.database.read(lambda c: c.scalars(of_it).all()))

    def state(self, program: Program) -> dict[str, Any]:
        state: dict[str, Any] = program.get("/get", id=self.collection, data="false")
        return state

    def claims(self) -> list[int]:
        """Cities that a call is said to be fetching, of the collections accepted here."""
        claimed = select(QueuedCity.city_id).where(
            QueuedCity.collection_id.in_(self.accepted), QueuedCity.charge_id.is_not(None)
        )
        return list(self.database.read(lambda c: c.scalars(claimed).all()))

    def all_done(self) -> bool:
        finished = select(Collection.id).where(Collection.finished_at.is_not(None))
        return self.accepted.keys() <= set(self.database.read(lambda c: c.scalars(finished).all()))

    def assert_nothing_is_lost(self) -> None:
        """Everything accepted is settled with exactly its cities."""
        for collection, cities in self.accepted.items():
            rows = self.cities_of(collection)
            assert len(rows) == len(cities) == len(cities & set(rows)), f"{collection}: {rows}"
        counted = select(Collection.id, Collection.collected, Collection.failed).where(
            Collection.id.in_(self.accepted.keys())
        )
        for row in self.database.read(lambda c: c.execute(counted).all()):
            assert (row.collected, row.failed) == (len(self.accepted[row.id]), 0)


Moment = Callable[[World, Stoppable], None]
"""Brings a program to the moment in which it is stopped."""


def dressed(settings: Mapping[str, str], number: int) -> dict[str, str]:
    """The settings; for every other program in Python's development mode."""
    return dict(settings) | (DEVELOPMENT if number % 2 else {})


def stop(world: World, running: Stoppable) -> None:
    """Stop it, one way or another, and see that it ends well."""
    running.ends_well(*world.chance.choice(SIGNALS), again_after_s=world.chance.uniform(0, 0.7))


def assert_calls_were_finished(world: World) -> None:
    """Else what they asked for would stay claimed, and whoever goes on would wait for it. Nobody else is at work."""
    assert world.away or not world.claims()


# -- moments -------------------------------------------------------------------------------------------------------


def starting(world: World, running: Stoppable) -> None:
    pause(world.chance.uniform(0, 2.5))


def idle(world: World, running: Stoppable) -> None:
    running.wait_until_it_serves()
    eventually(world.all_done, PATIENCE_S)
    pause(world.chance.uniform(0, 1))


def working(world: World, running: Stoppable) -> None:
    eventually(world.settled, PATIENCE_S)
    pause(world.chance.uniform(0, 1))


def in_a_slow_call(world: World, running: Stoppable) -> None:
    world.fault(fault="slow", latency_s=0.8 * TIMEOUT_S)
    eventually(world.calls_underway, PATIENCE_S)
    pause(world.chance.uniform(0, 0.5))


def in_a_call_without_an_answer(world: World, running: Stoppable) -> None:
    world.fault(fault="lose")
    world.fault(fault="slow", latency_s=5 * TIMEOUT_S)
    eventually(world.calls_underway, PATIENCE_S)
    pause(world.chance.uniform(0, 0.5))


def in_backoff(world: World, running: Stoppable) -> None:
    world.fault(fault="outage")
    eventually(lambda: "state=provider" in running.output, PATIENCE_S)
    pause(world.chance.uniform(0, 1))


def while_posting(world: World, running: Stoppable) -> None:
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
    pause(world.chance.uniform(0, 0.5))


# -- embedded ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weather() -> Iterator[Program]:
    with simulator("--quota", "0", "--latency-s", "0.05") as running:
        yield running


@pytest.fixture(autouse=True)
def _no_faults(weather: Program) -> None:
    requests.delete(f"{weather.url}/control/faults", timeout=10).raise_for_status()


def common(weather: Program) -> dict[str, str]:
    return {
        "OPENWEATHER_API_KEY": "simulator",
        "RAINGAUGE_OPENWEATHER__BASE_URL": weather.url,
        "RAINGAUGE_OPENWEATHER__TIMEOUT_S": str(TIMEOUT_S),
        "RAINGAUGE_HTTP__PORT": "0",
        "RAINGAUGE_QUOTA__CITIES_PER_WINDOW": "600",
        "RAINGAUGE_QUOTA__WINDOW_S": "20",
        "RAINGAUGE_BROKER__PARTITIONS": "2",
    }


def with_the_database_locked(world: World, running: Stoppable) -> None:
    """Another process holds SQLite's lock for longer than anybody waits."""
    in_backoff(world, running)
    lock_database(world)
    pause(world.chance.uniform(0, 2))


def lock_database(world: World) -> None:
    world.away = True
    lock = sqlite3.connect(str(world.database.engine.url.database), isolation_level=None)
    world.release = lock.close
    lock.execute("BEGIN IMMEDIATE")


def starting_with_the_database_locked(world: World, running: Stoppable) -> None:
    lock_database(world)
    pause(world.chance.uniform(1, 3))


EMBEDDED: list[Moment] = [
    starting,
    in_a_slow_call,
    in_backoff,
    while_posting,
    with_the_database_locked,
    in_a_call_without_an_answer,
    working,
    idle,
    starting_with_the_database_locked,
]


@pytest.mark.long
@pytest.mark.parametrize("number", range(STOPS or 6))
def test_embedded_stops_well(number: int, weather: Program, sqlite: Database) -> None:
    moment = EMBEDDED[number % len(EMBEDDED)]
    world = World(random.Random(number), weather, sqlite, "1")
    world.accept("1")
    settings = common(weather) | {"RAINGAUGE_DATABASE__URL": str(sqlite.engine.url)}
    with launched("standalone", dressed(settings, number)) as running:
        moment(world, running)
        stop(world, running)
    assert_calls_were_finished(world)
    world.heal()
    with program("standalone", settings=settings):
        eventually(world.all_done, PATIENCE_S)
    world.assert_nothing_is_lost()


# -- producer and consumer on Kafka and MariaDB --------------------------------------------------------------------


@dataclass
class Site:
    """Where producers and consumers of a test module work together: a database, a topic, a group."""

    weather: Program
    database: Database
    settings: dict[str, str]
    numbers: Iterator[int] = field(default_factory=count)

    def world(self, number: int) -> World:
        """A new collection of it."""
        world = World(random.Random(number), self.weather, self.database, f"c{next(self.numbers)}")
        world.accept(world.collection)
        return world


@pytest.fixture(scope="module")
def site(weather: Program, schemas: dict[str, str]) -> Iterator[Site]:
    need_port(9092, "Kafka")
    topic = f"cities_{uuid4().hex[:8]}"
    settings = common(weather) | {
        "RAINGAUGE_DATABASE__URL": schemas["mariadb"],
        "RAINGAUGE_BROKER__URL": "kafka://127.0.0.1:9092",
        "RAINGAUGE_BROKER__TOPIC": topic,
        "RAINGAUGE_BROKER__GROUP": f"group_{topic}",
        "RAINGAUGE_RELAY__EVERY_S": "0.2",
    }
    with closing(open_database(schemas["mariadb"])) as database:
        yield Site(weather, database, settings)
        empty(database)
    asyncio.run(delete_topics(topic, dead_letter_topic(topic)))


async def delete_topics(*topics: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers="127.0.0.1:9092")
    await admin.start()
    try:
        await admin.delete_topics(list(topics))
    finally:
        await admin.close()


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


def with_the_database_silent(world: World, running: Stoppable) -> None:
    """The connections stand, and nothing ever comes back through them."""
    assert world.door is not None
    running.wait_until_it_serves()
    eventually(lambda: world.settled() or world.calls_underway(), PATIENCE_S)
    world.away = True
    world.door.shut()
    pause(world.chance.uniform(0, 3))


def starting_with_the_database_silent(world: World, running: Stoppable) -> None:
    assert world.door is not None
    world.away = True
    world.door.shut()
    running.wait_until_it_serves()
    pause(world.chance.uniform(0, 4))


def serving(world: World, running: Stoppable) -> None:
    running.wait_until_it_serves()
    pause(world.chance.uniform(0, 2))


@dataclass(frozen=True)
class Away:
    """A moment in which a service cannot be reached."""

    moment: Moment
    kafka: bool = False


CONSUMER: list[Moment | Away] = [
    in_a_slow_call,
    with_the_database_silent,
    Away(serving, kafka=True),
    starting,
    in_backoff,
    idle,
    in_a_call_without_an_answer,
    starting_with_the_database_silent,
    working,
]
PRODUCER: list[Moment | Away] = [
    while_posting,
    with_the_database_silent,
    starting,
    Away(while_posting, kafka=True),
    idle,
    starting_with_the_database_silent,
    working,
]


@contextmanager
def around(site: Site, world: World, case: Moment | Away, number: int) -> Iterator[tuple[Moment, dict[str, str]]]:
    """The moment and the settings of the program to be stopped: it reaches the database through a door."""
    url = make_url(site.settings["RAINGAUGE_DATABASE__URL"])
    settings = dressed(site.settings, number)
    with door(str(url.host), int(url.port or 0)) as world.door:
        through = url.set(port=world.door.port).render_as_string(hide_password=False)
        settings |= {"RAINGAUGE_DATABASE__URL": through}
        if isinstance(case, Away):
            settings |= {"RAINGAUGE_BROKER__URL": f"kafka://127.0.0.1:{closed_port()}"} if case.kafka else {}
            yield case.moment, settings
        else:
            yield case, settings


def check(site: Site, module: str, cases: list[Moment | Away], number: int) -> None:
    """Stop one, start another, and see that nothing is lost."""
    world = site.world(number)
    with (
        around(site, world, cases[number % len(cases)], number) as (moment, settings),
        launched(module, settings) as running,
    ):
        moment(world, running)
        stop(world, running)
    if module == "consumer":
        assert_calls_were_finished(world)
    world.heal()
    with program(module, settings=site.settings):
        eventually(world.all_done, PATIENCE_S)
    world.assert_nothing_is_lost()


@pytest.mark.services
@pytest.mark.xdist_group("stops of the consumer")
@pytest.mark.parametrize("number", range(STOPS or 3))
def test_a_consumer_stops_well(number: int, site: Site, producer: Program) -> None:
    check(site, "consumer", CONSUMER, number)


@pytest.mark.services
@pytest.mark.xdist_group("stops of the producer")
@pytest.mark.parametrize("number", range(STOPS or 3))
def test_a_producer_stops_well(number: int, site: Site, consumer: Program) -> None:
    check(site, "producer", PRODUCER, number)
