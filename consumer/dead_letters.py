"""`python -m consumer dead-letters …`: lists the messages that could not be processed, replays them, and buries one.

It must not join a consumer group, so that it disturbs no consumer, nor create or delete a topic.

A replayed letter is recorded in the dead-letter topic itself, by a marker after it: a message without key and value
whose one header names the letter. A committed group offset would not do: Kafka forgets it after a week
(`offsets.retention.minutes`), it outlives a deleted topic, and it cannot express that letter 7 was replayed but not 6.

For the same reasons burying only adds a letter: the consumer that waits behind the message finds it, and commits.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from raingauge.clock import Clock, SystemClock
from raingauge.contracts import dead_letter_topic, newer_version, utc_text
from raingauge.errors import Fatal, HandoffUnavailable, Permanent
from raingauge.messaging.kafka.causes import explain, one_line
from raingauge.messaging.kafka.client import stop_client
from raingauge.messaging.kafka.cluster import Cluster, cluster_of
from raingauge.messaging.kafka.subscription import UNREADABLE, headers_of
from raingauge.messaging.port import ADDED_HEADERS, Delivery, Headers, Publisher
from raingauge.model import EPOCH
from raingauge.settings import Settings

REPLAYED_HEADER: Final = f"{ADDED_HEADERS}replayed"
ANSWER_S: Final = 10.0  # for each answer of Kafka
STORE_S: Final = 30.0  # for each message that is published
POLL_S: Final = 0.5
SHOWN_BYTES: Final = 60

Address = tuple[int, int]
"""A message's partition and offset in its topic."""
OpenPublisher = Callable[[Cluster, Clock], AbstractAsyncContextManager[Publisher]]
"""Opens a publisher to this cluster."""


async def list_all(settings: Settings, answer_s: float = ANSWER_S) -> None:
    """Print one line for each dead letter.

    Raises:
        Fatal: Kafka does not answer, or has no such topic.
    """
    topic, cluster = dead_letter_topic(settings.broker.topic), cluster_of(settings.broker)
    async with _errors_in_one_line(cluster), reading(cluster, topic, answer_s) as letters:
        replayed, count = await letters.replayed(), 0
        async for letter in letters.read():
            if letter.replayed is None:
                print(letter.line(letter.address in replayed))  # noqa: T201
                count += 1
        print(f"{count} dead letters in {topic}", file=sys.stderr)  # noqa: T201


async def replay(
    settings: Settings, chosen: Address | None, open_publisher: OpenPublisher, store_s: float = STORE_S
) -> None:
    """Publish dead letters to the topic again: the chosen one, or all that were not replayed before.

    A letter is marked as replayed once it is stored. If a replay ends before that, the next one repeats it: twice is
    better than never, and a settled batch costs nothing.

    Raises:
        Fatal: Kafka does not answer or has no such topic, the letter does not exist, or some letters are too large
            for the topic now.
    """
    topic, cluster = settings.broker.topic, cluster_of(settings.broker)
    dead = dead_letter_topic(topic)
    publisher: Publisher | None = None
    done = 0
    too_large: list[str] = []
    async with _errors_in_one_line(cluster), AsyncExitStack() as parts:
        messages = await parts.enter_async_context(reading(cluster, dead))
        replayed = await messages.replayed() if chosen is None else frozenset()
        try:
            async for letter in messages.read(chosen):
                if letter.replayed or letter.address in replayed:
                    continue
                if publisher is None:
                    publisher = await parts.enter_async_context(open_publisher(cluster, SystemClock()))
                try:
                    await _store(publisher, store_s, topic, letter.key, letter.value, letter.original_headers)
                    await _store(publisher, store_s, dead, None, None, letter.marker)
                    done += 1
                except Permanent:
                    too_large.append(letter.address)
        finally:
            print(f"{done} replayed to {topic}")  # noqa: T201
    if too_large:
        raise Fatal(f"larger than {topic} takes (max.message.bytes): {', '.join(too_large)}")
    if chosen is not None and not done:
        raise Fatal("there is no dead letter {}/{}".format(*chosen))


async def bury(settings: Settings, address: Address, open_publisher: OpenPublisher, store_s: float = STORE_S) -> None:
    """Copy a message of a newer version to the dead letters, whole, so that consumers need not wait behind it.

    Raises:
        Fatal: Kafka does not answer or has no such topic, there is no such message, or it is of no newer version.
    """
    topic, cluster = settings.broker.topic, cluster_of(settings.broker)
    async with _errors_in_one_line(cluster):
        async with reading(cluster, topic) as messages:
            found = [message async for message in messages.read(address)]
        if not found:
            raise Fatal("{} has no message {}/{}".format(topic, *address))
        (message,) = found
        if (error := newer_version(message.value)) is None:
            raise Fatal(f"{topic} {message.address} is no message of a newer version")
        if not await _buried(cluster, topic, found):
            headers = message.dead_letter_headers(error)
            async with open_publisher(cluster, SystemClock()) as publisher:
                await _store(publisher, store_s, dead_letter_topic(topic), message.key, message.value, headers)
    print(f"{topic} {message.address} is buried: consumers pass it within a minute")  # noqa: T201


async def find_buried(cluster: Cluster, topic: str, held: Sequence[Delivery]) -> Sequence[Delivery]:
    """The deliveries that are already in the dead letters.

    Raises:
        HandoffUnavailable: Kafka does not answer.
    """
    try:
        return await _buried(cluster, topic, held)
    except (KafkaError, TimeoutError, Fatal, *UNREADABLE) as error:
        raise HandoffUnavailable(one_line(error)) from error


async def _buried(cluster: Cluster, topic: str, held: Sequence[Delivery]) -> Sequence[Delivery]:
    # Their content is compared too: in a topic that was deleted and made again, an address means another message.
    wanted = {(f"{d.topic}/{d.partition}/{d.offset}", d.key, d.value): d for d in held}
    async with reading(cluster, dead_letter_topic(topic)) as letters:
        found = {(letter.origin, letter.key, letter.value) async for letter in letters.read()}
    return [delivery for identity, delivery in wanted.items() if identity in found]


@dataclass(frozen=True, slots=True)
class Letter(Delivery):
    """A message, usually of the dead-letter topic. `written_ms`: milliseconds since 1970."""

    written_ms: int = 0

    @property
    def address(self) -> str:
        """Partition and offset, for example 0/17."""
        return f"{self.partition}/{self.offset}"

    @property
    def origin(self) -> str:
        """Topic, partition and offset of the message that became this letter, for example cities/3/17."""
        return "/".join(self.header(f"{ADDED_HEADERS}{name}") or "?" for name in ("topic", "partition", "offset"))

    @property
    def replayed(self) -> str | None:
        """The address of the letter that this marker records as replayed; None if it is a letter itself."""
        # Any letter has these added headers, whatever headers it had before, so it cannot be taken for a marker.
        return None if self.header(f"{ADDED_HEADERS}topic") else self.header(REPLAYED_HEADER)

    @property
    def marker(self) -> Headers:
        """The headers of the marker that records it as replayed."""
        return ((REPLAYED_HEADER, self.address.encode()),)

    @property
    def original_headers(self) -> Headers:
        """Its headers without those that were added when it became a dead letter."""
        return tuple(header for header in self.headers if not header[0].startswith(ADDED_HEADERS))

    def header(self, name: str) -> str | None:
        """A header's value, printable. The last of that name, because added headers follow the original ones."""
        values = [value for each, value in self.headers if each == name]
        return printable(values[-1]) if values else None

    def line(self, replayed: bool) -> str:
        """Tab-separated: address, time, origin, error, size, replayed or waiting, the beginning of its value."""
        size = "no value" if self.value is None else f"{len(self.value)} bytes"
        state = "replayed" if replayed else "waiting"
        value = "" if self.value is None else printable(self.value[:SHOWN_BYTES])
        return "\t".join(
            (self.address, self._time, self.origin, self.header(f"{ADDED_HEADERS}error") or "?", size, state, value)
        )

    @property
    def _time(self) -> str:
        try:
            return utc_text(EPOCH + timedelta(milliseconds=self.written_ms))
        except OverflowError:  # its writer may set any time
            return "?"


def printable(value: bytes) -> str:
    r"""Bytes as one line of ASCII. Unprintable bytes and the backslash become \x and two hexadecimal digits."""
    return "".join(chr(byte) if 32 <= byte < 127 and byte != 92 else f"\\x{byte:02x}" for byte in value)


class TopicReader:
    """Reads the messages that a topic has when this is created.

    Raises (all methods): TimeoutError, KafkaError: Kafka does not answer.
    """

    def __init__(self, consumer: Any, spans: Mapping[TopicPartition, tuple[int, int]], answer_s: float) -> None:
        """`spans`: each partition's first offset, and the one after its last."""
        self._consumer = consumer
        self._spans = spans
        self._answer_s = answer_s

    async def read(self, only: Address | None = None) -> AsyncIterator[Letter]:
        """All messages from the beginning, or the one with this address. May be called repeatedly."""
        spans = {tp: (first, end) for tp, (first, end) in self._spans.items() if first < end}
        if only is not None:
            partition, offset = only
            found = [tp for tp, (first, end) in spans.items() if tp.partition == partition and first <= offset < end]
            spans = dict.fromkeys(found, (offset, offset + 1))
        left = list(spans)
        self._consumer.assign(left)
        for tp in left:
            self._consumer.seek(tp, spans[tp][0])
        silence_s = 0.0
        while left:
            fetched = await self._consumer.getmany(*left, timeout_ms=int(POLL_S * 1000))
            for tp, records in fetched.items():
                for record in records:
                    if record.offset < spans[tp][1]:
                        message = (record.topic, record.partition, record.offset, record.key, record.value)
                        yield Letter(*message, headers_of(record), written_ms=record.timestamp)
            # By position, because the last offsets may belong to transaction markers instead of messages.
            async with asyncio.timeout(self._answer_s):
                left = [tp for tp in left if await self._consumer.position(tp) < spans[tp][1]]
            silence_s = 0.0 if fetched else silence_s + POLL_S
            if silence_s >= self._answer_s:
                raise TimeoutError

    async def replayed(self) -> frozenset[str]:
        """The addresses of the letters that were replayed."""
        return frozenset([letter.replayed async for letter in self.read() if letter.replayed])


@asynccontextmanager
async def reading(cluster: Cluster, topic: str, answer_s: float = ANSWER_S) -> AsyncIterator[TopicReader]:
    """Read a topic.

    Raises:
        TimeoutError, KafkaError: Kafka does not answer.
        Fatal: there is no such topic.
    """
    consumer = AIOKafkaConsumer(**cluster.arguments(), enable_auto_commit=False, auto_offset_reset="earliest")
    try:
        async with asyncio.timeout(answer_s):
            await consumer.start()
            # Lists all topics: a request for one topic by name would let the broker create it.
            if topic not in await consumer.topics():
                raise Fatal(f"there is no topic {topic} on {','.join(cluster.servers)}: check broker.topic")
            # This request makes the client load all partitions of the topic.
            await consumer.end_offsets([TopicPartition(topic, 0)])
            partitions = [TopicPartition(topic, partition) for partition in consumer.partitions_for_topic(topic)]
            first, end = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        yield TopicReader(consumer, {each: (first[each], end[each]) for each in partitions}, answer_s)
    finally:
        await stop_client(consumer)


async def _store(
    publisher: Publisher, store_s: float, topic: str, key: bytes | None, value: bytes | None, headers: Headers
) -> None:
    """Publish until it is stored."""
    try:
        async with asyncio.timeout(store_s):
            while True:
                try:
                    return await publisher.publish(topic, key, value, headers)
                except HandoffUnavailable:
                    continue  # it may be stored: twice is better than never
    except TimeoutError:
        raise Fatal(f"nothing was stored within {store_s:g} s: is Kafka up, and is the topic there?") from None


@asynccontextmanager
async def _errors_in_one_line(cluster: Cluster) -> AsyncIterator[None]:
    """Turn Kafka's errors into one line for a person."""
    try:
        yield
    except (KafkaError, TimeoutError) as error:
        raise Fatal(f"Kafka cannot be used: {await explain(cluster, error)}") from error
