"""Publishes to Kafka: idempotent, acknowledged by all in-sync replicas, waiting for as long as an outage lasts.

It must not drop a message silently: `publish` returns when it is stored, or raises that it was refused or is uncertain.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, NoReturn, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnknownTopicOrPartitionError,
)
from aiokafka.protocol.metadata import MetadataRequest

from raingauge.clock import Clock
from raingauge.contracts import MAX_MESSAGE_BYTES
from raingauge.errors import HandoffUnavailable, Permanent
from raingauge.messaging.kafka.client import (
    DEFAULT_TIMEOUTS,
    Brokers,
    Timeouts,
    ignore_outcome,
    log,
    one_line,
    run_forever,
)
from raingauge.messaging.port import Headers

TOO_LARGE: Final = (MessageSizeTooLargeError, RecordListTooLargeError)
MAX_IN_FLIGHT: Final = 200  # aiokafka wakes all messages that wait for a partition whenever one is sent
RECORD_BATCH_BYTES: Final = 16_384  # Kafka's own default; a larger message gets a record batch of its own
TOPIC_MISSING: Final = (UnknownTopicOrPartitionError, KafkaTimeoutError)


@dataclass(frozen=True, slots=True)
class Record:
    """A message to be sent."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers


class Topics:
    """Knows which topics exist, without letting the broker create them. Concurrent lookups share one request."""

    def __init__(self, producer: Any, pause_s: float) -> None:
        self._client = producer.client
        self._pause_s = pause_s
        self._lookups: dict[str, asyncio.Task[bool]] = {}

    async def require(self, topic: str) -> None:
        """Return if the topic exists.

        Raises:
            UnknownTopicOrPartitionError: it does not, or did not within the last `pause_s`.
            KafkaTimeoutError: no broker answered.
        """
        if self._client.cluster.partitions_for_topic(topic) is not None:
            return
        if topic not in self._lookups:
            lookup = self._lookups[topic] = asyncio.create_task(self._exists(topic))
            lookup.add_done_callback(ignore_outcome)
            lookup.add_done_callback(lambda _: self._forget_later(topic))
        try:
            exists = await asyncio.shield(self._lookups[topic])
        except KafkaError as error:
            raise KafkaTimeoutError from error
        if not exists:
            raise UnknownTopicOrPartitionError(topic)

    async def _exists(self, topic: str) -> bool:
        request = MetadataRequest([topic], allow_auto_topic_creation=False)
        answer = await self._client.send(self._client.get_random_node(), request)
        return any(name == topic and code == 0 for code, name, *_ in answer.topics)

    def _forget_later(self, topic: str) -> None:
        asyncio.get_running_loop().call_later(self._pause_s, self._lookups.pop, topic, None)


@dataclass(slots=True, eq=False)
class _ActiveProducer:
    """An aiokafka producer in use, until it is abandoned.

    `batches`: its messages share record batches, which the broker stores or refuses as a whole.
    """

    producer: Any
    topics: Topics
    batches: bool
    abandoned: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def abandon(self) -> None:
        if not self.abandoned.done():
            self.abandoned.set_result(None)

    async def send(self, record: Record) -> asyncio.Future[Any] | None:
        """Give the record to the client. Returns the future of its storage, or None if abandoned before that.

        Raises:
            KafkaError: the client did not accept the record.
        """
        sending = asyncio.create_task(self._send(record))
        either: set[asyncio.Future[Any]] = {sending, self.abandoned}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            return sending.result() if sending.done() else None
        finally:
            sending.cancel()

    async def _send(self, record: Record) -> asyncio.Future[Any]:
        await self.topics.require(record.topic)
        headers = list(record.headers)
        stored: asyncio.Future[Any]
        if record.key is None and record.value is None:  # Kafka allows it, but aiokafka's send() does not
            batch = self.producer.create_batch()
            batch.append(timestamp=None, key=None, value=None, headers=headers)
            partition = random.choice(sorted(await self.producer.partitions_for(record.topic)))
            stored = await self.producer.send_batch(batch, record.topic, partition=partition)
        else:
            stored = await self.producer.send(record.topic, record.value, record.key, headers=headers)
        return stored


class KafkaPublisher:
    """The sending side on Kafka; an async context manager. Entering it does not wait for Kafka.

    `max_message_bytes` must not exceed the `max.message.bytes` of the topics it publishes to.
    """

    def __init__(
        self,
        servers: Sequence[str],
        clock: Clock,
        *,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        self._brokers = Brokers(servers, clock, timeouts)
        self._clock = clock
        self._max_message_bytes = max_message_bytes
        self._timeouts = timeouts
        self._active: _ActiveProducer | None = None
        self._changed = asyncio.Event()
        self._closed = False
        # Until a broker refuses a record batch as too large: from then on each message is sent on its own.
        self._batches = True
        self._pending = 0
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._last_success = 0.0
        self._task: asyncio.Task[NoReturn] | None = None

    async def __aenter__(self) -> Self:
        self._task = run_forever(self._keep_a_producer(), "publisher")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self._changed.set()
        if self._task:
            self._task.cancel()
            await asyncio.wait({self._task})
        if self._active:
            await self._brokers.stop(self._active.producer)
            self._active.abandon()

    @property
    def connected(self) -> bool:
        """Whether there is a client, and it is not suspiciously quiet."""
        return self._usable and not self._is_quiet()

    async def publish(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        """Return when all in-sync replicas have the message. See the port."""
        if not self._pending:
            self._last_success = self._clock.monotonic()  # the idle time before is no sign of trouble
        self._pending += 1
        try:
            async with self._slots:
                while not await self._store(Record(topic, key, value, headers)):
                    continue
            self._last_success = self._clock.monotonic()
        finally:
            self._pending -= 1

    async def _store(self, record: Record) -> bool:
        """Whether the record is stored. False if it was refused together with others and must be sent on its own."""
        active, stored = await self._hand_over(record)
        stored.add_done_callback(ignore_outcome)
        await asyncio.wait({stored, active.abandoned}, return_when=asyncio.FIRST_COMPLETED)
        if not stored.done():
            raise HandoffUnavailable("the client was replaced while the message was in flight")
        try:
            stored.result()
        except TOO_LARGE as error:
            # The broker never saw the refused record's sequence number, so it would refuse all later ones too.
            self._batches = False
            self._abandon(active, error)
            if not active.batches:
                raise Permanent("the broker refuses a message of this size") from error
            return False
        except KafkaError as error:
            self._abandon(active, error)
            raise HandoffUnavailable("it is unknown whether the message was stored") from error
        return True

    async def _hand_over(self, record: Record) -> tuple[_ActiveProducer, asyncio.Future[Any]]:
        """Give the record to a client. Nothing has been sent until this succeeds, so it may retry for ever."""
        attempt = 0
        while True:
            active = await self._usable_producer()
            try:
                stored = await active.send(record)
            except MessageSizeTooLargeError as error:
                raise Permanent(f"the message is larger than {self._max_message_bytes} bytes") from error
            except KafkaError as error:
                if not isinstance(error, TOPIC_MISSING):  # the client's sender task has died
                    self._abandon(active, error)
                log.info("handoff.publish_waits", extra={"topic": record.topic, "error": one_line(error)})
                await self._brokers.pause(attempt)
                attempt += 1
            else:
                if stored is not None:
                    return active, stored

    async def _usable_producer(self) -> _ActiveProducer:
        while not self._usable or self._active is None:
            if self._closed:
                raise HandoffUnavailable("the publisher is closed")
            self._changed.clear()
            await self._changed.wait()
        return self._active

    @property
    def _usable(self) -> bool:
        return self._active is not None and not self._active.abandoned.done() and not self._closed

    def _abandon(self, active: _ActiveProducer, error: Exception) -> None:
        if not active.abandoned.done():
            log.warning("handoff.client_given_up", extra={"client": "publisher", "error": one_line(error)})
            active.abandon()

    async def _keep_a_producer(self) -> NoReturn:
        while True:
            batches = self._batches
            producer = await self._start()
            active = _ActiveProducer(producer, Topics(producer, self._timeouts.first_backoff_s), batches)
            self._last_success = self._clock.monotonic()
            self._active = active
            self._changed.set()
            await self._brokers.until_useless("publisher", active.abandoned, self._check_quiet, self._start)
            active.abandon()
            self._active = None
            await self._brokers.stop(active.producer)

    async def _check_quiet(self) -> bool:
        return self._is_quiet()

    def _is_quiet(self) -> bool:
        return self._pending > 0 and self._clock.monotonic() - self._last_success >= self._timeouts.quiet_s

    async def _start(self) -> Any:
        return await self._brokers.start(self._make_client)  # a started producer has its id: it is ready for use

    def _make_client(self) -> Any:
        return AIOKafkaProducer(
            bootstrap_servers=self._brokers.servers,
            enable_idempotence=True,
            acks="all",
            request_timeout_ms=10_000,
            linger_ms=0,
            max_request_size=self._max_message_bytes,
            max_batch_size=RECORD_BATCH_BYTES if self._batches else 1,
        )
