"""Shared by the tests of the hand-off: waiting for conditions, and the environments in which an adapter is tested."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any, Final, Protocol, Self
from uuid import uuid4

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from raingauge.blocking import Threads
from raingauge.clock import SystemClock
from raingauge.contracts import dead_letter_topic
from raingauge.messaging.files import FilePublisher, path_of
from raingauge.messaging.inprocess import InProcessBroker
from raingauge.messaging.kafka import Cluster, KafkaPublisher, KafkaSubscription, Timeouts, ensure_topics, topics_of
from raingauge.messaging.port import Delivery, Publisher, Subscription
from tests.support.databases import need_port

CLOCK: Final = SystemClock()
SERVER: Final = "127.0.0.1:9092"
"""The real broker of `make services`."""
QUICK: Final = Timeouts(start_s=5, stop_s=0.5, session_s=1.15, first_backoff_s=0.05, longest_backoff_s=0.2)
"""For the mock cluster, which lets a member rejoin only after its session has timed out."""


def cluster_at(*servers: str) -> Cluster:
    """Brokers that neither encrypt nor authenticate."""
    return Cluster(servers)


async def eventually(condition: Callable[[], bool], within_s: float = 30) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(within_s):
        while not condition():
            await CLOCK.sleep(0.01)


async def receive(subscription: Subscription, count: int, within_s: float = 30) -> list[Delivery]:
    """Exactly this number of deliveries."""
    deliveries: list[Delivery] = []
    async with asyncio.timeout(within_s):
        while len(deliveries) < count:
            deliveries += await subscription.receive()
    assert len(deliveries) == count
    return deliveries


async def comes_nothing(subscription: Subscription, for_s: float) -> bool:
    """Whether nothing is delivered within this time."""
    try:
        async with asyncio.timeout(for_s):
            await subscription.receive()
    except TimeoutError:
        return True
    return False


def values(deliveries: Sequence[Delivery]) -> list[bytes | None]:
    """Their values, sorted, because messages of different partitions arrive in any order."""
    return sorted((delivery.value for delivery in deliveries), key=lambda value: value or b"")


def nothing_is_left() -> bool:
    """Whether the test's own task is the only one. Collecting garbage provokes warnings about unclosed clients."""
    gc.collect()
    return asyncio.all_tasks() == {asyncio.current_task()}


class Road:
    """A port that leads to a broker that may change, or (without one) accepts everything and answers nothing.

    `alter` replaces bytes in the broker's answers.
    """

    def __init__(self, server: str | None, alter: tuple[bytes, bytes] = (b"", b"")) -> None:
        self.server = server
        self._alter = alter
        self.visits = 0

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.address = "{}:{}".format(*self._listener.sockets[0].getsockname())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        try:
            if self.server is None:
                await reader.read()
                return
            host, port = self.server.split(":")
            there, back = await asyncio.open_connection(host, int(port))
            await asyncio.gather(_pour(reader, back), _pour(there, writer, self._alter))
        finally:
            writer.close()


async def _pour(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, alter: tuple[bytes, bytes] = (b"", b"")
) -> None:
    with suppress(ConnectionError):
        while some := await source.read(65_536):
            sink.write(some.replace(*alter) if alter[0] else some)
    sink.close()


class Place(Protocol):
    """An environment for one adapter: one topic, one group."""

    topic: str
    lull_s: float
    """After this time without a delivery none is on its way."""

    def publisher(self) -> AbstractAsyncContextManager[Publisher]:
        """The sending side."""

    def subscription(self) -> AbstractAsyncContextManager[Subscription]:
        """The receiving side. Each call creates a new member of the group."""


class InProcessPlace:
    """In-process."""

    topic = "cities"
    lull_s = 0.02

    def __init__(self, window: int, partitions: int) -> None:
        self.broker = InProcessBroker(self.topic, window, partitions)

    @asynccontextmanager
    async def publisher(self) -> AsyncIterator[Publisher]:
        yield self.broker

    def subscription(self) -> AbstractAsyncContextManager[Subscription]:
        return self.broker.subscription()


class FilesPlace:
    """Files in a folder. What is in them is delivered once, for the tests of publishing."""

    topic = "readings"
    lull_s = 0.1

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @asynccontextmanager
    async def publisher(self) -> AsyncIterator[Publisher]:
        with closing(Threads(1, "files")) as thread:
            yield FilePublisher(self._folder, thread, CLOCK)

    @asynccontextmanager
    async def subscription(self) -> AsyncIterator[Any]:
        yield _Lines(path_of(self._folder, self.topic))


class _Lines:
    """The lines of a file as deliveries."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read = 0

    async def receive(self) -> Sequence[Delivery]:
        while not (lines := self._file.read_bytes().splitlines()[self._read :] if self._file.exists() else []):
            await CLOCK.sleep(0.01)
        self._read += len(lines)
        return [self._delivery(json.loads(line)) for line in lines]

    def _delivery(self, event: dict[str, Any]) -> Delivery:
        data, kind = json.dumps(event.pop("data")).encode(), event.pop("datacontenttype")
        attributes = ((f"ce_{name}", str(value).encode()) for name, value in event.items())
        return Delivery(self._file.stem, 0, 0, None, data, (*attributes, ("content-type", kind.encode())))


class KafkaPlace:
    """A topic and a group of its own on a Kafka broker."""

    lull_s = 0.6

    def __init__(self, server: str, window: int, timeouts: Timeouts) -> None:
        self.topic = f"test-{uuid4().hex}"
        self.group = f"group-{uuid4().hex}"
        self.server = server
        self._window = window
        self._timeouts = timeouts

    def publisher(self, **settings: Any) -> KafkaPublisher:
        return KafkaPublisher(cluster_at(self.server), CLOCK, **{"timeouts": self._timeouts, **settings})

    def subscription(self, **settings: Any) -> KafkaSubscription:
        settings = {"window": self._window, "clock": CLOCK, "timeouts": self._timeouts, **settings}
        return KafkaSubscription(cluster_at(self.server), self.topic, self.group, **settings)


@asynccontextmanager
async def real_place(window: int = 100, partitions: int = 1) -> AsyncIterator[KafkaPlace]:
    """An environment on the real broker, whose topics are created for it and deleted afterwards."""
    need_port(9092, "Kafka")
    place = KafkaPlace(SERVER, window, Timeouts(session_s=6))
    await ensure_topics(cluster_at(SERVER), topics_of(place.topic, partitions), CLOCK)
    async with deleting(place.topic, dead_letter_topic(place.topic)):
        yield place


@asynccontextmanager
async def place_of(settings: Mapping[str, str]) -> AsyncIterator[KafkaPlace]:
    """The same with one topic of one partition, which somebody else has made with these settings."""
    need_port(9092, "Kafka")
    place = KafkaPlace(SERVER, 100, Timeouts(session_s=6))
    topic = NewTopic(place.topic, 1, 1, topic_configs=settings)
    await with_admin(SERVER, lambda admin: admin.create_topics([topic]))
    async with deleting(place.topic):
        yield place


@asynccontextmanager
async def deleting(*topics: str) -> AsyncIterator[None]:
    """Topics of the real broker that are there at the end are deleted."""
    try:
        yield
    finally:
        await with_admin(SERVER, lambda admin: admin.delete_topics([*topics]))


async def with_admin(server: str, work: Callable[[Any], Awaitable[Any]]) -> Any:
    """Run a request with an admin client."""
    admin = AIOKafkaAdminClient(bootstrap_servers=server)
    await admin.start()
    try:
        return await work(admin)
    finally:
        await admin.close()
