"""Publishes to Kafka: idempotent, acknowledged by all in-sync replicas, waiting for as long as an outage lasts.

It must not drop a message silently: `publish` returns when it is stored, or raises that it was refused or is uncertain.
"""

import asyncio
import random
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnknownTopicOrPartitionError,
)

from raingauge.clock import Clock
from raingauge.contracts import MAX_MESSAGE_BYTES
from raingauge.errors import HandoffUnavailable, Permanent
from raingauge.messaging.kafka.causes import one_line
from raingauge.messaging.kafka.client import DEFAULT_TIMEOUTS, KafkaAdapter, Timeouts, ignore_outcome, log
from raingauge.messaging.kafka.cluster import Cluster
from raingauge.messaging.port import Headers

TOO_LARGE: Final = (MessageSizeTooLargeError, RecordListTooLargeError)
MAX_IN_FLIGHT: Final = 200  # aiokafka wakes all messages that wait for a partition whenever one is sent
RECORD_BATCH_BYTES: Final = 16_384  # Kafka's own default; a larger message gets a record batch of its own
HAND_OVER_S: Final = 30.0  # aiokafka's own limit is 10 s, which a client that is stopped meanwhile does not keep


@dataclass(frozen=True, slots=True)
class Record:
    """A message to be sent."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True, eq=False)
class _ActiveProducer:
    """An aiokafka producer in use. `failed` is done as soon as the outcome of its messages in flight is unknown."""

    producer: Any
    failed: asyncio.Future[None]
    batches: bool  # its messages share record batches, which the broker stores or refuses as a whole

    async def send(self, record: Record) -> asyncio.Future[Any]:
        """Give the record to the client. Returns the future of its storage.

        Raises:
            UnknownTopicOrPartitionError: there is no such topic, or no broker answers.
            KafkaError: the client did not accept the record.
        """
        await self._require(record.topic)
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

    async def _require(self, topic: str) -> None:
        client = self.producer.client
        if client.cluster.partitions_for_topic(topic) is not None:
            return
        try:
            # Lists all topics: a request for one topic by name would let the broker create it.
            topics = (await client.fetch_all_metadata()).topics()
        except KafkaError as error:
            raise UnknownTopicOrPartitionError(topic) from error
        if topic not in topics:
            raise UnknownTopicOrPartitionError(topic)


class KafkaPublisher(KafkaAdapter):
    """The sending side on Kafka; an async context manager.

    `max_message_bytes` must not exceed the `max.message.bytes` of the topics it publishes to.
    """

    name = "publisher"

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        *,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        super().__init__(cluster, clock, timeouts)
        self._max_message_bytes = max_message_bytes
        self._active: asyncio.Future[_ActiveProducer] = asyncio.get_running_loop().create_future()
        # Until a broker refuses a record batch as too large: from then on each message is sent on its own.
        self._batches = True
        self._pending = 0
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._last_success = 0.0

    async def __aexit__(self, *error: object) -> None:
        await super().__aexit__(*error)
        self._active.set_exception(HandoffUnavailable("the publisher is closed"))
        ignore_outcome(self._active)

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
        await asyncio.wait({stored, active.failed}, return_when=asyncio.FIRST_COMPLETED)
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
            active = await asyncio.shield(self._active)
            try:
                async with asyncio.timeout(HAND_OVER_S):
                    return active, await active.send(record)
            except MessageSizeTooLargeError as error:
                raise Permanent(f"the message is larger than {self._max_message_bytes} bytes") from error
            except (KafkaError, TimeoutError) as error:
                if not isinstance(error, UnknownTopicOrPartitionError | KafkaTimeoutError | TimeoutError):
                    self._abandon(active, error)  # its sender task has died
                log.info("handoff.publish_waits", extra={"topic": record.topic, "error": one_line(error)})
            await self._brokers.pause(attempt)
            attempt += 1

    def _abandon(self, active: _ActiveProducer, error: Exception) -> None:
        if not active.failed.done():
            self._log_given_up(one_line(error))
            active.failed.set_result(None)
            self._forget_active()

    def _use(self, client: Any) -> asyncio.Future[None]:
        failed = asyncio.get_running_loop().create_future()
        self._last_success = self._clock.monotonic()
        self._active.set_result(_ActiveProducer(client, failed, self._batches))
        return failed

    async def _retire(self, failed: asyncio.Future[None]) -> None:  # noqa: ARG002
        self._forget_active()

    def _forget_active(self) -> None:
        if self._active.done():
            self._active = asyncio.get_running_loop().create_future()

    async def _is_quiet(self) -> bool:
        return self._pending > 0 and self._clock.monotonic() - self._last_success >= self._timeouts.quiet_s

    def _make_client(self) -> Any:
        return AIOKafkaProducer(
            **self._brokers.cluster.arguments(),
            enable_idempotence=True,
            acks="all",
            request_timeout_ms=10_000,
            linger_ms=0,
            max_request_size=self._max_message_bytes,
            max_batch_size=RECORD_BATCH_BYTES if self._batches else 1,
        )
