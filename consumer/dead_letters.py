"""`python -m consumer dead-letters …`: lists the messages that could not be processed, replays them, and buries one.

It must not join a consumer group, so that it disturbs no consumer, nor create or delete a topic.

A replayed letter is recorded in the dead-letter topic itself, by a marker after it: a message without key and value
whose one header names the letter. A committed group offset would not do: Kafka forgets it after a week
(`offsets.retention.minutes`), it outlives a deleted topic, and it cannot express that letter 7 was replayed but not 6.

For the same reasons burying only adds a letter: the consumer that waits behind the message finds it, and commits.
"""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from raingauge.clock import SystemClock
from raingauge.contracts import MAX_MESSAGE_BYTES, dead_letter_topic, newer_version, utc_text
from raingauge.errors import Fatal, HandoffUnavailable, Permanent
from raingauge.messaging.kafka import KafkaPublisher, servers_of
from raingauge.messaging.kafka.client import explain, one_line, stop_client
from raingauge.messaging.port import Delivery, Headers, Publisher
from raingauge.settings import Settings

ADDED_HEADERS: Final = "raingauge-"  # prefix of the headers that were added when a message became a dead letter
REPLAYED_HEADER: Final = "raingauge-replayed"
ANSWER_S: Final = 10.0  # for each answer of Kafka
STORE_S: Final = 30.0  # for each message that is published
POLL_S: Final = 0.5
STOP_S: Final = 3.0
SHOWN_BYTES: Final = 60
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Address = tuple[int, int]
"""A message's partition and offset in its topic."""


async def list_all(settings: Settings, answer_s: float = ANSWER_S) -> None:
    """Print one line for each dead letter.

    Raises:
        Fatal: Kafka does not answer, or has no such topic.
    """
    topic, servers = dead_letter_topic(settings.broker.topic), servers_of(settings.broker.url)
    async with _errors_in_one_line(servers), TopicReader(servers, topic, answer_s) as letters:
        replayed, count = await letters.replayed(), 0
        async for letter in letters.read():
            if letter.replayed is None:
                print(letter.line(letter.address in replayed))  # noqa: T201
                count += 1
        print(f"{count} dead letters in {topic}", file=sys.stderr)  # noqa: T201


async def replay(settings: Settings, chosen: Address | None, store_s: float = STORE_S) -> None:
    """Publish dead letters to the topic again: the chosen one, or all that were not replayed before.

    A letter is marked as replayed once it is stored. A replay that ends in between repeats it: twice is better than
    never, and a settled batch costs nothing.

    Raises:
        Fatal: Kafka does not answer or has no such topic, the letter does not exist, or some letters are too large
            for the topic now.
    """
    topic, servers = settings.broker.topic, servers_of(settings.broker.url)
    done, too_large = 0, []
    dead = dead_letter_topic(topic)
    async with _errors_in_one_line(servers), TopicReader(servers, dead) as letters, AsyncExitStack() as opened:
        publisher: Publisher | None = None
        try:
            async for letter in _selected(letters, chosen):
                # Opened only when needed: a client that is stopped while starting leaves a connection behind.
                if publisher is None:
                    publisher = await opened.enter_async_context(_publisher(servers))
                try:
                    await _replay(publisher, topic, letter, store_s)
                    done += 1
                except Permanent:
                    too_large.append(letter.address)
        finally:
            print(f"{done} replayed to {topic}")  # noqa: T201
    if too_large:
        raise Fatal(f"larger than {topic} takes (max.message.bytes): {', '.join(too_large)}")
    if chosen is not None and not done:
        raise Fatal("there is no dead letter {}/{}".format(*chosen))


async def bury(settings: Settings, address: Address, store_s: float = STORE_S) -> None:
    """Copy a message of a newer version to the dead letters, whole, so that consumers need not wait behind it.

    Raises:
        Fatal: Kafka does not answer or has no such topic, there is no such message, or no consumer waits behind it.
    """
    topic, servers = settings.broker.topic, servers_of(settings.broker.url)
    async with _errors_in_one_line(servers):
        async with TopicReader(servers, topic) as messages:
            message = await messages.find(address)
        if message is None:
            raise Fatal("{} has no message {}/{}".format(topic, *address))
        delivery = Delivery(topic, *address, message.key, message.value, message.headers)
        if (error := newer_version(message.value)) is None:
            raise Fatal(f"{topic} {message.address} is no message of a newer version")
        headers = delivery.dead_letter_headers(error)
        if not await _buried(servers, topic, [delivery]):
            async with _publisher(servers) as publisher:
                publish = partial(publisher.publish, dead_letter_topic(topic), message.key, message.value, headers)
                await _store(publish, store_s)
    print(f"{topic} {message.address} is buried: consumers pass it within a minute")  # noqa: T201


async def find_buried(servers: Sequence[str], topic: str, held: Sequence[Delivery]) -> Sequence[Delivery]:
    """Those of these deliveries that are among the dead letters.

    Raises:
        HandoffUnavailable: Kafka does not answer.
    """
    try:
        return await _buried(servers, topic, held)
    except (KafkaError, TimeoutError, Fatal) as error:
        raise HandoffUnavailable(one_line(error)) from error


async def _buried(servers: Sequence[str], topic: str, held: Sequence[Delivery]) -> Sequence[Delivery]:
    # Their content is compared too: in a topic that was deleted and made again, an address means another message.
    wanted = {(f"{d.topic}/{d.partition}/{d.offset}", d.key, d.value): d for d in held}
    async with TopicReader(servers, dead_letter_topic(topic)) as letters:
        found = {
            each async for letter in letters.read() if (each := (letter.origin, letter.key, letter.value)) in wanted
        }
    return [wanted[each] for each in found]


@dataclass(frozen=True, slots=True)
class Letter:
    """A message, as a rule of the dead-letter topic. `written_ms` counts from 1970."""

    partition: int
    offset: int
    written_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def address(self) -> str:
        """Partition and offset, for example 0/17."""
        return f"{self.partition}/{self.offset}"

    @property
    def origin(self) -> str:
        """Topic, partition and offset of the message that became this letter, for example cities/3/17."""
        return "/".join(self.header(f"raingauge-{name}") or "?" for name in ("topic", "partition", "offset"))

    @property
    def replayed(self) -> str | None:
        """The address of the letter that this marker records as replayed; None if it is a letter itself."""
        # Any letter has these added headers, whatever headers it had before, so it cannot be taken for a marker.
        return None if self.header("raingauge-topic") else self.header(REPLAYED_HEADER)

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
            (self.address, self._time, self.origin, self.header("raingauge-error") or "?", size, state, value)
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
    """Reads the messages that a topic has when this is entered; an async context manager.

    Raises (all methods): TimeoutError, KafkaError: Kafka does not answer. Fatal: there is no such topic.
    """

    def __init__(self, servers: Sequence[str], topic: str, answer_s: float = ANSWER_S) -> None:
        self._servers = list(servers)
        self._topic = topic
        self._answer_s = answer_s
        self._consumer: Any = None
        self._spans: dict[TopicPartition, tuple[int, int]] = {}  # first offset, and the one after the last

    async def __aenter__(self) -> Self:
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=self._servers, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        try:
            async with asyncio.timeout(self._answer_s):
                await self._consumer.start()
                await self._find_offsets()
        except BaseException:
            await stop_client(self._consumer, STOP_S)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await stop_client(self._consumer, STOP_S)

    async def _find_offsets(self) -> None:
        # Lists all topics: a request for one topic by name would let the broker create it.
        if self._topic not in await self._consumer.topics():
            raise Fatal(f"there is no topic {self._topic} on {','.join(self._servers)}: check broker.topic")
        # This request makes the client load all partitions of the topic.
        await self._consumer.end_offsets([TopicPartition(self._topic, 0)])
        partitions = [TopicPartition(self._topic, each) for each in self._consumer.partitions_for_topic(self._topic)]
        first, end = await self._consumer.beginning_offsets(partitions), await self._consumer.end_offsets(partitions)
        self._spans = {each: (first[each], end[each]) for each in partitions}

    async def find(self, address: Address) -> Letter | None:
        """The message with this address; None if there is none."""
        partition, offset = TopicPartition(self._topic, address[0]), address[1]
        first, end = self._spans.get(partition, (0, 0))
        span = {partition: (offset, offset + 1)} if first <= offset < end else {}
        found = [letter async for letter in self._read(span)]
        return found[0] if found else None

    def read(self) -> AsyncIterator[Letter]:
        """All messages, from the beginning. May be called repeatedly."""
        return self._read(self._spans)

    async def _read(self, spans: Mapping[TopicPartition, tuple[int, int]]) -> AsyncIterator[Letter]:
        left = [partition for partition, (first, end) in spans.items() if first < end]
        self._consumer.assign(left)
        for partition in left:
            self._consumer.seek(partition, spans[partition][0])
        silence_s = 0.0
        while left:
            fetched = await self._consumer.getmany(*left, timeout_ms=int(POLL_S * 1000))
            for partition, records in fetched.items():
                for record in records:
                    if record.offset < spans[partition][1]:
                        yield _letter(record)
            # By position, because the last offsets may belong to transaction markers instead of messages.
            left = [partition for partition in left if await self._position(partition) < spans[partition][1]]
            silence_s = 0.0 if fetched else silence_s + POLL_S
            if silence_s >= self._answer_s:
                raise TimeoutError

    async def _position(self, partition: TopicPartition) -> int:
        async with asyncio.timeout(self._answer_s):
            position: int = await self._consumer.position(partition)
        return position

    async def replayed(self) -> frozenset[str]:
        """The addresses of the letters that were replayed."""
        return frozenset([letter.replayed async for letter in self.read() if letter.replayed])


def _letter(record: Any) -> Letter:
    headers = tuple((name, value or b"") for name, value in record.headers)
    return Letter(record.partition, record.offset, record.timestamp, record.key, record.value, headers)


def _publisher(servers: Sequence[str]) -> KafkaPublisher:
    """For messages of any size that a topic may allow now: whether a letter is too large is for the broker to say."""
    return KafkaPublisher(servers, SystemClock(), max_message_bytes=2 * MAX_MESSAGE_BYTES)


async def _selected(letters: TopicReader, chosen: Address | None) -> AsyncIterator[Letter]:
    """The chosen letter, whether replayed or not; without a choice, those that were not replayed."""
    replayed = await letters.replayed()
    async for letter in letters.read():
        wanted = letter.address not in replayed if chosen is None else (letter.partition, letter.offset) == chosen
        if wanted and letter.replayed is None:
            yield letter


async def _replay(publisher: Publisher, topic: str, letter: Letter, store_s: float) -> None:
    publish = partial(publisher.publish, topic, letter.key, letter.value, letter.original_headers)
    await _store(publish, store_s)
    await _store(partial(publisher.publish, dead_letter_topic(topic), None, None, letter.marker), store_s)


async def _store(publish: Callable[[], Awaitable[None]], store_s: float) -> None:
    """Publish until it is stored."""
    try:
        async with asyncio.timeout(store_s):
            while True:
                try:
                    return await publish()
                except HandoffUnavailable:
                    continue  # it may be stored: twice is better than never
    except TimeoutError:
        raise Fatal(f"nothing was stored within {store_s:g} s: is Kafka up, and is the topic there?") from None


@asynccontextmanager
async def _errors_in_one_line(servers: Sequence[str]) -> AsyncIterator[None]:
    """Turn Kafka's errors into one line for a person, without the library's own log lines."""
    library = logging.getLogger("aiokafka")
    before = library.level
    library.setLevel(logging.CRITICAL)
    try:
        yield
    except (KafkaError, TimeoutError) as error:
        raise Fatal(f"Kafka does not answer: {await explain(servers, error)}") from error
    finally:
        library.setLevel(before)
