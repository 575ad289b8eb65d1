"""Raingauge's programs as real processes on Kafka and a database of the bench's own; gone afterwards, topics too."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, Final
from uuid import uuid4

from confluent_kafka.admin import AdminClient
from sqlalchemy import func, select

from raingauge.clock import SystemClock
from raingauge.database import Database, open_database
from raingauge.storage.models import Collection
from tests.support.processes import Program, program

KAFKA: Final = "127.0.0.1:9092"
CLOCK: Final = SystemClock()
UNLIMITED: Final = {
    "QUOTA__CITIES_PER_WINDOW": "100000000",
    "QUOTA__PACING": "burst",
    "QUOTA__CITIES_PER_MONTH": "1000000000000",
    "QUOTA__MONTH_PACING": "none",
}


class TooSlow(Exception):
    """Something did not happen in time."""


def until(condition: Callable[[], bool], within_s: float, what: str, every_s: float = 0.05) -> float:
    """Wait for a condition; the seconds it took.

    Raises:
        TooSlow: it does not come in time.
    """
    began, never = CLOCK.monotonic(), Event()
    while not condition():
        if CLOCK.monotonic() - began > within_s:
            raise TooSlow(f"{what}: not within {within_s:g} s")
        never.wait(every_s)
    return CLOCK.monotonic() - began


def memory_mb(running: Program, what: str = "VmRSS") -> float:
    """What a process holds now; `VmHWM`: the most it ever held. Megabytes."""
    lines = Path(f"/proc/{running.process.pid}/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))


@dataclass
class System:
    """A producer, consumers and what they share."""

    parts: ExitStack
    settings: Mapping[str, str]
    database: Database
    producer: Program
    consumers: list[Program] = field(default_factory=list)

    def start_consumers(self, number: int) -> None:
        """Start so many more; return when each has partitions to work on."""
        begun = [self.parts.enter_context(program("consumer", settings=self.settings)) for _ in range(number)]
        self.consumers += begun
        until(lambda: all(map(_assigned, begun)), 40, "partitions for the consumers")

    def collect(self, name: str, city_ids: Sequence[int], max_age_s: int = 0) -> None:
        """POST a collection."""
        answer = self.producer.collect(id=name, cities=list(city_ids), max_age_s=max_age_s)
        answer.raise_for_status()

    def settled(self) -> int:
        """Cities with a reading, by the counters."""
        done = func.sum(Collection.collected + Collection.failed)
        return int(self.database.read(lambda c: c.scalar(select(done))) or 0)

    def open_collections(self) -> int:
        """How many are not finished."""
        count = select(func.count()).where(Collection.finished_at.is_(None))
        return int(self.database.read(lambda c: c.scalar(count)) or 0)

    def until_done(self, within_s: float) -> None:
        """Return when all is settled."""
        until(lambda: self.open_collections() == 0, within_s, "all collections done", every_s=0.1)

    def seconds_of(self, name: str) -> float:
        """From a collection's request until it was finished, by the database's clock."""
        times = select(Collection.requested_at, Collection.finished_at).where(Collection.id == name)
        requested_at, finished_at = self.database.read(lambda c: c.execute(times).one())
        if finished_at is None:
            raise TooSlow(f"{name} is not finished")
        return (finished_at - requested_at).total_seconds()


def _assigned(consumer: Program) -> bool:
    return any("handoff.assigned" in line for line in consumer.lines)


@contextmanager
def stub(latency_s: float = 0.0, window_s: float = 60.0) -> Iterator[Program]:
    """The instant provider."""
    arguments = ("--latency-s", str(latency_s), "--window-s", str(window_s))
    with program("bench.stub", *arguments, settings={}) as running:
        yield running


def own_settings(database_url: str, provider_url: str, settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of programs on this database and this provider."""
    given = {
        "OPENWEATHER__BASE_URL": provider_url,
        "DATABASE__URL": database_url,
        "HTTP__PORT": "0",
        **settings,
    }
    return {"OPENWEATHER_API_KEY": "simulator"} | {f"RAINGAUGE_{name}": value for name, value in given.items()}


@contextmanager
def on_kafka(database_url: str, provider_url: str, consumers: int, **settings: str) -> Iterator[System]:
    """A producer and so many consumers at work on Kafka, with a topic and a group of their own."""
    topic = f"bench_{uuid4().hex[:10]}"
    broker = {"BROKER__URL": f"kafka://{KAFKA}", "BROKER__TOPIC": topic, "BROKER__GROUP": f"group_{topic}"}
    broker["BROKER__EVENTS_TOPIC"] = f"{topic}.events"
    environment = own_settings(database_url, provider_url, broker | settings)
    with ExitStack() as parts:
        parts.callback(_clean_up, topic)
        database = parts.enter_context(closing(open_database(database_url, pool_size=4)))
        producer = parts.enter_context(program("producer", settings=environment))
        running = System(parts, environment, database, producer)
        until(lambda: _ready(producer), 30, "the producer's readiness")
        running.start_consumers(consumers)
        yield running


@contextmanager
def embedded(database_url: str, provider_url: str, **settings: str) -> Iterator[System]:
    """All of it in one process."""
    environment = own_settings(database_url, provider_url, settings)
    with ExitStack() as parts:
        database = parts.enter_context(closing(open_database(database_url, pool_size=2)))
        yield System(parts, environment, database, parts.enter_context(program("standalone", settings=environment)))


def _ready(running: Program) -> bool:
    with suppress(OSError):
        return bool(running.get("/ready")["status"] == "ready")
    return False


def _clean_up(topic: str) -> None:
    """Delete the topics and the group."""
    admin = AdminClient({"bootstrap.servers": KAFKA, "socket.timeout.ms": 5000, "log_level": 3})
    pending: list[Any] = [
        *admin.delete_topics([topic, f"{topic}.dead", f"{topic}.events"], operation_timeout=10).values(),
        *admin.delete_consumer_groups([f"group_{topic}", f"group_{topic}.events"]).values(),
    ]
    for future in pending:
        with suppress(Exception):  # there may be no such topic or group
            future.result(15)
