"""Publishing to Kafka: idempotent, acknowledged by all in-sync replicas, patient for as long as an outage lasts.

It must not drop a message in silence: an ended `publish` means stored, refused for ever, or unknown and saying so.
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

from raingauge.clock import Clock
from raingauge.contracts import MAX_MESSAGE_BYTES
from raingauge.errors import HandoffUnavailable, Permanent
from raingauge.messaging.kafka_client import PATIENT, Patience, ended, kept_up, log, said, seen, started
from raingauge.messaging.kafka_sending import Record, Topics, send
from raingauge.messaging.port import Headers

TOO_LARGE: Final = (MessageSizeTooLargeError, RecordListTooLargeError)
UNDER_WAY: Final = 200
"""Messages given to aiokafka at once; it wakes all that wait for a partition whenever one is sent."""
RECORD_BATCH_BYTES: Final = 16_384
"""Kafka's own default. A larger message has a record batch of its own."""
NOT_YET: Final = (UnknownTopicOrPartitionError, KafkaTimeoutError)


@dataclass(slots=True, eq=False)
class _Line:
    """One client object, until it is given up."""

    producer: Any
    topics: Topics
    shares: bool
    """Messages share its record batches, which the broker stores or refuses as a whole."""
    given_up: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def give_up(self) -> None:
        if not self.given_up.done():
            self.given_up.set_result(None)


class KafkaPublisher:
    """The sending side on Kafka; an async context manager. Entering it waits for nothing.

    `max_message_bytes` is at most the `max.message.bytes` of the topics it sends to.
    """

    def __init__(
        self,
        servers: Sequence[str],
        clock: Clock,
        *,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        patience: Patience = PATIENT,
    ) -> None:
        self._servers = list(servers)
        self._clock = clock
        self._max_message_bytes = max_message_bytes
        self._patience = patience
        self._line: _Line | None = None
        self._changed = asyncio.Event()
        self._closed = False
        self._shares = True
        """Until a broker refuses something as too large: after that each message must be refused for itself alone."""
        self._pending = 0
        self._slots = asyncio.Semaphore(UNDER_WAY)
        self._last_success = 0.0
        self._keeper: asyncio.Task[NoReturn] | None = None

    async def __aenter__(self) -> Self:
        self._keeper = kept_up(self._keep_a_line(), "publisher")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self._changed.set()
        if self._keeper:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        if self._line:
            await ended(self._line.producer, self._patience.stop_s)
            self._line.give_up()

    @property
    def connected(self) -> bool:
        """Whether there is a client, and no reason to doubt it."""
        return self._usable and not self._is_quiet()

    async def publish(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        """Return when all in-sync replicas have the message. See the port."""
        if not self._pending:
            self._last_success = self._clock.monotonic()  # an idle time before is no sign of trouble
        self._pending += 1
        try:
            async with self._slots:
                while not await self._stores(Record(topic, key, value, headers)):
                    continue
            self._last_success = self._clock.monotonic()
        finally:
            self._pending -= 1

    async def _stores(self, record: Record) -> bool:
        """Whether the record is stored; False: it was refused together with others, and is to be sent without them."""
        line, stored = await self._hand_over(record)
        stored.add_done_callback(seen)
        await asyncio.wait({stored, line.given_up}, return_when=asyncio.FIRST_COMPLETED)
        if not stored.done():
            raise HandoffUnavailable("the client was replaced while the message was under way")
        try:
            stored.result()
        except TOO_LARGE as error:
            # The sequence number of a refused record is missing at the broker, so all later ones would be refused too.
            self._shares = False
            self._give_up(line, error)
            if not line.shares:
                raise Permanent("the broker refuses a message of this size") from error
            return False
        except KafkaError as error:
            self._give_up(line, error)
            raise HandoffUnavailable("whether the message was stored is unknown") from error
        return True

    async def _hand_over(self, record: Record) -> tuple[_Line, asyncio.Future[Any]]:
        """Give the record to a client. Until that has worked nothing was sent, so it may be tried again and again."""
        attempt = 0
        while True:
            line = await self._usable_line()
            try:
                stored = await _unless_given_up(line, record)
            except MessageSizeTooLargeError as error:
                raise Permanent(f"the message is larger than {self._max_message_bytes} bytes") from error
            except KafkaError as error:
                if not isinstance(error, NOT_YET):  # its sender has died
                    self._give_up(line, error)
                log.info("handoff.publish_waits", extra={"topic": record.topic, "error": said(error)})
                await self._clock.sleep(self._patience.pause_s(attempt, random.random()))
                attempt += 1
            else:
                if stored is not None:
                    return line, stored

    async def _usable_line(self) -> _Line:
        while not self._usable or self._line is None:
            if self._closed:
                raise HandoffUnavailable("the publisher is closed")
            self._changed.clear()
            await self._changed.wait()
        return self._line

    @property
    def _usable(self) -> bool:
        return self._line is not None and not self._line.given_up.done() and not self._closed

    def _give_up(self, line: _Line, error: Exception) -> None:
        if not line.given_up.done():
            log.warning("handoff.client_given_up", extra={"client": "publisher", "error": said(error)})
            line.give_up()

    async def _keep_a_line(self) -> NoReturn:
        while True:
            shares = self._shares
            producer = await self._start()
            line = _Line(producer, Topics(producer, self._patience.first_pause_s), shares)
            self._last_success = self._clock.monotonic()
            self._line = line
            self._changed.set()
            await self._until_given_up(line)
            self._line = None
            await ended(line.producer, self._patience.stop_s)

    async def _until_given_up(self, line: _Line) -> None:
        """Return when the line is given up; give it up when it is silent although a new client can be started."""
        others_hear = False
        while not line.given_up.done():
            await asyncio.wait({line.given_up}, timeout=self._patience.look_s)
            if not self._is_quiet():
                others_hear = False
            elif others_hear:
                self._give_up(line, TimeoutError("it hears nothing, another does"))
            else:
                log.warning("handoff.quiet", extra={"client": "publisher", "pending": self._pending})
                # An outage alone is no reason to drop the client: its messages may still be stored by it.
                await ended(await self._start(), self._patience.stop_s)
                others_hear = True

    def _is_quiet(self) -> bool:
        return self._pending > 0 and self._clock.monotonic() - self._last_success >= self._patience.quiet_s

    async def _start(self) -> Any:
        return await started(self._client, _nothing_more, self._clock, self._patience)

    def _client(self) -> Any:
        return AIOKafkaProducer(
            bootstrap_servers=self._servers,
            enable_idempotence=True,
            acks="all",
            request_timeout_ms=10_000,
            linger_ms=0,
            max_request_size=self._max_message_bytes,
            max_batch_size=RECORD_BATCH_BYTES if self._shares else 1,
        )


async def _nothing_more(producer: Any) -> None:
    """A started producer has its producer id: it is fit for use."""


async def _unless_given_up(line: _Line, record: Record) -> asyncio.Future[Any] | None:
    """The promise of an outcome, or None when the line was given up before the client had taken the record."""
    sending = asyncio.create_task(send(line.producer, line.topics, record))
    either: set[asyncio.Future[Any]] = {sending, line.given_up}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return sending.result() if sending.done() else None
    finally:
        sending.cancel()
