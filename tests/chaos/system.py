"""A system of real processes on real parts, and what was asked of it: the audit compares the two."""

import json
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from uuid import uuid4

import requests
from sqlalchemy import func, select

from raingauge.clock import SystemClock
from raingauge.database import Database, open_database
from raingauge.storage.models import Batch, Collection, Webhook
from tests.support.eventually import eventually
from tests.support.processes import Program, program, simulator
from tests.support.receiver import Receiver, secret_file

QUOTA = 60
WINDOW_S = 3.0
TIMEOUT_S = 1.0
KAFKA = "127.0.0.1:9092"
CLOCK = SystemClock()
CITIES = range(3_400_000, 3_400_600)
KILLED = -9
"""The exit status after SIGKILL."""
ANSWER_S = 1.0
"""Within which every request is answered."""
SETTLED_S = 150.0
Told = Callable[[str, object], None]
"""Keeps a figure for the report of the tests."""


@dataclass(frozen=True, slots=True)
class Post:
    """One POST and its answer: an HTTP status, or None when there was none."""

    name: str
    city_ids: frozenset[int]
    status: int | None
    took_s: float


@dataclass
class System:
    """What runs, and all that was asked of it."""

    parts: ExitStack
    weather: Program
    settings: dict[str, str]
    servers: str
    database: Database
    producers: list[Program] = field(default_factory=list)
    consumers: list[Program] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)
    poison: list[bytes | None] = field(default_factory=list)
    receiver: Receiver | None = None
    """Of a webhook that wants every event."""
    reports: dict[str, int | None] = field(default_factory=dict)
    """Events that were posted, by their descriptions: the status of the answer, or None when there was none."""
    figures: dict[str, str] = field(default_factory=dict)
    """What the audit counted."""

    @property
    def topic(self) -> str:
        return self.settings["RAINGAUGE_BROKER__TOPIC"]

    @property
    def group(self) -> str:
        return self.settings["RAINGAUGE_BROKER__GROUP"]

    @property
    def programs(self) -> Sequence[Program]:
        return [*self.producers, *self.consumers]

    # -- processes -----------------------------------------------------------------------------------------------

    def producer(self, *arguments: str, **settings: str) -> Program:
        """Start one more; with arguments, one that crashes."""
        return self._start("producer", self.producers, arguments, settings)

    def consumer(self, *arguments: str, **settings: str) -> Program:
        """Start one more; with arguments, one that crashes."""
        return self._start("consumer", self.consumers, arguments, settings)

    def _start(
        self, name: str, others: list[Program], arguments: Sequence[str], settings: Mapping[str, str]
    ) -> Program:
        own = self.settings | {f"RAINGAUGE_{key}": value for key, value in settings.items()}
        named = ("tests.chaos.crashing", name, *arguments) if arguments else (name,)
        running = self.parts.enter_context(program(*named, settings=own))
        others.append(running)
        return running

    # -- work ----------------------------------------------------------------------------------------------------

    def post(self, city_ids: Sequence[int], *, producer: Program | None = None, max_age_s: int = 0) -> Post:
        """POST a collection of a new name."""
        name = f"c{len(self.posts)}-{uuid4().hex[:6]}"
        return self.post_as(name, city_ids, producer or self.producers[0], max_age_s)

    def post_as(self, name: str, city_ids: Sequence[int], producer: Program, max_age_s: int = 0) -> Post:
        """POST a collection; what comes of it is kept for the audit."""
        body = {"id": name, "cities": list(city_ids), "max_age_s": max_age_s}
        began = CLOCK.monotonic()
        try:
            status: int | None = requests.post(f"{producer.url}/collect", json=body, timeout=10).status_code
        except requests.RequestException:
            status = None
        post = Post(name, frozenset(city_ids), status, CLOCK.monotonic() - began)
        self.posts.append(post)
        return post

    def report(self, producer: Program | None = None) -> None:
        """POST an event, once there is a consumer that has subscribed the webhook to it."""
        if self.database.read(lambda c: c.scalar(select(func.count()).select_from(Webhook))):
            body = {"user_id": "chaos", "description": f"report {len(self.reports)}"}
            try:
                url = f"{(producer or self.producers[0]).url}/events"
                status: int | None = requests.post(url, json=body, timeout=10).status_code
            except requests.RequestException:
                status = None
            self.reports[body["description"]] = status

    def keep_busy(self, random: Random, cities: int = 120) -> None:
        """POST as long as there is not that much to do."""
        while self.unsettled() < cities:
            self.post(random.sample(CITIES, random.randint(1, 90)), max_age_s=random.choice((0, 0, 600)))
            self.report()

    def accepted(self) -> dict[str, frozenset[int]]:
        """The cities of every collection that was answered 2xx."""
        return {post.name: post.city_ids for post in self.posts if post.status in {200, 202}}

    # -- how it is -----------------------------------------------------------------------------------------------

    def unsettled(self) -> int:
        """Cities without a reading yet."""
        left = func.sum(Collection.total - Collection.collected - Collection.failed)
        return int(self.database.read(lambda c: c.scalar(select(left))) or 0)

    def settled(self, name: str) -> int:
        """Cities of a collection that have a reading."""
        done = select(Collection.collected + Collection.failed).where(Collection.id == name)
        return int(self.database.read(lambda c: c.scalar(done)) or 0)

    def published(self) -> int:
        """Batches in the hand-off, as far as the database knows."""
        count = select(func.count()).where(Batch.published_at.is_not(None))
        return int(self.database.read(lambda c: c.scalar(count)) or 0)

    def until_some_are_settled(self, random: Random, at_most: int = 60) -> None:
        """Return when a random number of further cities is settled."""
        left = self.unsettled() - random.randint(1, at_most)
        eventually(lambda: self.unsettled() <= left, 60, every_s=0.01)

    def until_settled(self, seconds: float = SETTLED_S) -> None:
        """Return when all that was accepted is settled."""
        eventually(lambda: self.unsettled() == 0, seconds, every_s=0.2)


def assigned(consumer: Program) -> bool:
    """Whether it was given partitions to work on."""
    return any("handoff.assigned" in line for line in consumer.lines)


def let_pass(seconds: float) -> None:
    """Return after that time."""
    began = CLOCK.monotonic()
    eventually(lambda: CLOCK.monotonic() - began >= seconds, seconds + 10)


def freeze(running: Program) -> None:
    """Stop a process without its knowing."""
    running.process.send_signal(signal.SIGSTOP)


def thaw(running: Program) -> None:
    """Have it go on."""
    running.process.send_signal(signal.SIGCONT)


def outlets(topic: str, receiver: Receiver, folder: str) -> dict[str, str]:
    """Settings that have readings published and events delivered."""
    webhook = {"url": receiver.url(), "secret_file": secret_file(Path(folder))}
    return {
        "RAINGAUGE_STREAMS__ENABLED": "true",
        "RAINGAUGE_STREAMS__READINGS_TOPIC": f"readings_{topic}",
        "RAINGAUGE_STREAMS__LATEST_TOPIC": f"latest_{topic}",
        "RAINGAUGE_NOTIFY__WEBHOOKS": json.dumps([webhook]),
        "RAINGAUGE_NOTIFY__ALLOW_PRIVATE": "true",
    }


@contextmanager
def system(
    database_url: str, *, servers: str = KAFKA, weather: Sequence[str] = (), with_outlets: bool = False, **settings: str
) -> Iterator[System]:
    """The simulator and one producer; consumers are started as the test wants them.

    `with_outlets`: streams are enabled, and there is a webhook with its receiver.
    """
    topic = f"chaos_{uuid4().hex[:8]}"
    with ExitStack() as parts:
        pace = ("--quota", str(QUOTA), "--window-s", str(WINDOW_S), "--latency-s", "0.05")
        provider = parts.enter_context(simulator(*pace, *weather))
        common = {
            "OPENWEATHER_API_KEY": "simulator",
            "RAINGAUGE_OPENWEATHER__BASE_URL": provider.url,
            "RAINGAUGE_OPENWEATHER__TIMEOUT_S": str(TIMEOUT_S),
            "RAINGAUGE_DATABASE__URL": database_url,
            "RAINGAUGE_BROKER__URL": f"kafka://{servers}",
            "RAINGAUGE_BROKER__TOPIC": topic,
            "RAINGAUGE_BROKER__EVENTS_TOPIC": f"events_{topic}",
            "RAINGAUGE_BROKER__GROUP": f"group_{topic}",
            "RAINGAUGE_BROKER__PARTITIONS": "6",
            "RAINGAUGE_HTTP__PORT": "0",
            "RAINGAUGE_QUOTA__WINDOW_S": str(WINDOW_S),
        } | {f"RAINGAUGE_{name}": value for name, value in settings.items()}
        database = parts.enter_context(closing(open_database(database_url, pool_size=4)))
        running = System(parts, provider, common, servers, database)
        if with_outlets:
            running.receiver = parts.enter_context(Receiver())
            common |= outlets(topic, running.receiver, parts.enter_context(TemporaryDirectory()))
        running.producer()
        yield running
