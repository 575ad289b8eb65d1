"""The dead letters as they lie in their topic: reading them all, and telling of one in a line.

It joins no group, so it disturbs no consumer; it publishes, creates and deletes nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition

from raingauge.contracts import utc_text
from raingauge.messaging.kafka_client import ended
from raingauge.messaging.port import Headers

ADDED: Final = "raingauge-"
"""What the names of the headers begin with that were added when a message was buried."""
NOTE: Final = "raingauge-replayed"
ANSWER_S: Final = 10.0
"""Kafka is given that long for each answer."""
POLL_S: Final = 0.5
STOP_S: Final = 3.0
SHOWN: Final = 60
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Letter:
    """A message of the dead letters' topic."""

    partition: int
    offset: int
    written_ms: int
    """Since 1970."""
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def address(self) -> str:
        """For example 0/17."""
        return f"{self.partition}/{self.offset}"

    @property
    def replayed(self) -> str | None:
        """The address of the letter that this is the note of; None: it is a letter."""
        # Whatever headers a letter came with, these were added to it: it cannot pass for a note.
        return None if self.header("raingauge-topic") else self.header(NOTE)

    @property
    def note(self) -> Headers:
        """What notes that it was replayed."""
        return ((NOTE, self.address.encode()),)

    @property
    def original_headers(self) -> Headers:
        """Without what was added when it was buried."""
        return tuple(header for header in self.headers if not header[0].startswith(ADDED))

    def header(self, name: str) -> str | None:
        """A header's value, printable; the last one, because the original ones come first."""
        values = [value for each, value in self.headers if each == name]
        return printable(values[-1]) if values else None

    def line(self, replayed: bool) -> str:
        """What is told of it: address, when, where from, error, size, whether it was replayed, how its value begins."""
        origin = "/".join(self.header(f"raingauge-{name}") or "?" for name in ("topic", "partition", "offset"))
        size = "no value" if self.value is None else f"{len(self.value)} bytes"
        state = "replayed" if replayed else "waiting"
        value = "" if self.value is None else printable(self.value[:SHOWN])
        return "\t".join((self.address, self._when, origin, self.header("raingauge-error") or "?", size, state, value))

    @property
    def _when(self) -> str:
        try:
            return utc_text(EPOCH + timedelta(milliseconds=self.written_ms))
        except OverflowError:  # whoever wrote it set the time
            return "?"


def printable(value: bytes) -> str:
    r"""Bytes as ASCII in one line; what is not printable, and the backslash, as \x and two digits."""
    return "".join(chr(byte) if 32 <= byte < 127 and byte != 92 else f"\\x{byte:02x}" for byte in value)


class DeadLetters:
    """The dead letters that are there when it is entered; an async context manager. A missing topic has none.

    Raises (all methods): TimeoutError, KafkaError: Kafka does not answer.
    """

    def __init__(self, servers: Sequence[str], topic: str, answer_s: float = ANSWER_S) -> None:
        self._servers = list(servers)
        self._topic = topic
        self._answer_s = answer_s
        self._consumer: Any = None
        self._from: dict[Any, int] = {}
        self._until: dict[Any, int] = {}

    async def __aenter__(self) -> Self:
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=self._servers, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        try:
            async with asyncio.timeout(self._answer_s):
                await self._consumer.start()
                # All topics are listed: to ask for one by name would let the broker create it.
                if self._topic in await self._consumer.topics():
                    await self._measure()
        except BaseException:
            await ended(self._consumer, STOP_S)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await ended(self._consumer, STOP_S)

    async def _measure(self) -> None:
        first = TopicPartition(self._topic, 0)
        await self._consumer.end_offsets([first])  # now the client knows all partitions of the topic
        partitions = [TopicPartition(self._topic, each) for each in self._consumer.partitions_for_topic(self._topic)]
        self._consumer.assign(partitions)
        self._from = await self._consumer.beginning_offsets(partitions)
        self._until = await self._consumer.end_offsets(partitions)

    async def read(self) -> AsyncIterator[Letter]:
        """All of them, notes too, from the beginning to what was the end; as often as it is called."""
        left = [partition for partition, end in self._until.items() if self._from[partition] < end]
        for partition in left:
            self._consumer.seek(partition, self._from[partition])
        silence_s = 0.0
        while left:
            fetched = await self._consumer.getmany(*left, timeout_ms=int(POLL_S * 1000))
            for partition, records in fetched.items():
                for record in records:
                    if record.offset < self._until[partition]:
                        yield _letter(record)
            # Their positions, because the last offsets may be those of no message: markers of transactions.
            left = [partition for partition in left if await self._position(partition) < self._until[partition]]
            silence_s = 0.0 if fetched else silence_s + POLL_S
            if silence_s >= self._answer_s:
                raise TimeoutError

    async def _position(self, partition: Any) -> int:
        async with asyncio.timeout(self._answer_s):
            position: int = await self._consumer.position(partition)
        return position

    async def replayed(self) -> frozenset[str]:
        """The addresses of those that were replayed."""
        return frozenset([letter.replayed async for letter in self.read() if letter.replayed])


def _letter(record: Any) -> Letter:
    headers = tuple((name, value or b"") for name, value in record.headers)
    return Letter(record.partition, record.offset, record.timestamp, record.key, record.value, headers)
