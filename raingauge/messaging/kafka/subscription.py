"""Receives from Kafka as a member of a consumer group: polls always, holds few messages, commits only settled ones.

It must not decode or judge messages, and must not lose one: unacknowledged messages are delivered again, to any member.
"""

import asyncio
import gzip
import zlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from itertools import chain
from types import TracebackType
from typing import Any, Final, NoReturn, Self

import cramjam
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import (
    CorruptRecordException,
    InconsistentGroupProtocolError,
    KafkaError,
    UnknownTopicOrPartitionError,
    UnsupportedCodecError,
)

from raingauge.clock import Clock
from raingauge.messaging.kafka.client import (
    DEFAULT_TIMEOUTS,
    Brokers,
    Timeouts,
    ignore_outcome,
    log,
    one_line,
    run_forever,
)
from raingauge.messaging.port import Delivery
from raingauge.messaging.window import Window

POLL_MS: Final = 1000
SINGLE_POLL_MS: Final = 100
SINGLE_ROUNDS: Final = 10
UNREADABLE: Final = (
    UnsupportedCodecError,
    CorruptRecordException,
    cramjam.DecompressionError,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
)
FETCH_MIN_BYTES: Final = 8_192  # some thirty messages; a fetch waits briefly when there are fewer


class OffsetsFellBackError(Exception):
    """A partition continues below a delivered offset: the topic was recreated, and the offsets mean new messages."""


class Polling(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Fills the window from one subscribed client and sets `arrived`. Never pauses polling: that would cost membership.

    `revoked` is awaited before partitions go to another member. A partition with a record that cannot be read waits,
    and is tried again from time to time; the other partitions go on.
    """

    def __init__(
        self,
        consumer: Any,
        window: Window,
        arrived: asyncio.Event,
        revoked: Callable[[], Awaitable[None]],
        clock: Clock,
        timeouts: Timeouts,
    ) -> None:
        self.answered = True  # recently
        self._answered_at = clock.monotonic()
        self._clock = clock
        self._timeouts = timeouts
        self._reread_at: dict[int, float] = {}
        self._single_rounds = 0
        self._consumer = consumer
        self._window = window
        self._arrived = arrived
        self._revoked = revoked
        self._assigned = False
        self._fetched_at: dict[Any, int | None] = {}

    async def run(self) -> NoReturn:
        """Poll for ever.

        Raises:
            Exception: any error of aiokafka. Fetched messages may then be lost: use a new client.
        """
        while True:
            self.pause_or_resume()
            if self._single_rounds and (fetching := self._consumer.assignment() - self._consumer.paused()):
                await self._poll_each(fetching)
                continue
            try:
                # When the window is full all partitions are paused, so the one record asked for cannot arrive.
                await self._poll(timeout_ms=POLL_MS, max_records=max(1, self._window.free))
            except UNREADABLE:
                # The error does not name its partition, and readable records of others were lost with it.
                for tp in self._consumer.assignment():
                    await self._rewind(tp)
                self._single_rounds = SINGLE_ROUNDS

    async def _poll(self, *partitions: Any, timeout_ms: int, max_records: int) -> bool:
        fetched = await self._consumer.getmany(*partitions, timeout_ms=timeout_ms, max_records=max_records)
        for record in chain.from_iterable(fetched.values()):
            if not self._window.take(self._delivery(record)):
                raise OffsetsFellBackError(f"partition {record.partition}, offset {record.offset}")
        if fetched:
            self._arrived.set()
        return bool(fetched)

    async def _poll_each(self, partitions: Collection[Any]) -> None:
        """Poll each partition alone and record by record, to find the one with the unreadable record."""
        self._single_rounds -= 1
        for tp in partitions:
            try:
                for _ in range(self._window.free):
                    if tp not in self._consumer.assignment():
                        break
                    if not await self._poll(tp, timeout_ms=SINGLE_POLL_MS, max_records=1):
                        break
            except UNREADABLE as error:
                self._single_rounds = 0
                self._reread_at[tp.partition] = self._clock.monotonic() + self._timeouts.reread_s
                extra = {"partition": tp.partition, "offset": await self._rewind(tp), "error": one_line(error)}
                log.error("handoff.unreadable", extra=extra)
                self.pause_or_resume()

    async def _rewind(self, tp: Any) -> int | None:
        """Return to the first record that the window has not taken."""
        offset = self._window.next_offset(tp.partition)
        if offset is None:
            offset = await self._consumer.committed(tp)
        if offset is None:
            await self._consumer.seek_to_beginning(tp)
        else:
            self._consumer.seek(tp, offset)
        return offset

    def pause_or_resume(self) -> None:
        """Pause the partitions that must not be fetched now, and resume the others."""
        paused, assigned = self._consumer.paused(), self._consumer.assignment()
        now = self._clock.monotonic()
        unreadable = {partition for partition, reread_at in self._reread_at.items() if now < reread_at}
        blocked = self._window.held_partitions | unreadable
        wait = {tp for tp in assigned if self._window.full or tp.partition in blocked}
        self._consumer.pause(*(wait - paused))
        self._consumer.resume(*(paused - wait))

    async def is_quiet(self) -> bool:
        """Whether the brokers have not answered for a while, and do not answer now."""
        fetching = self._consumer.assignment() - self._consumer.paused()
        if self._assigned and fetching:  # each completed fetch updates its timestamp, even an empty one
            stamps = {tp: self._consumer.last_poll_timestamp(tp) for tp in fetching}
            answered = any(stamp not in {None, self._fetched_at.get(tp)} for tp, stamp in stamps.items())
            self._fetched_at.update(stamps)
        else:
            answered = await self._brokers_answer()
        if answered:
            self._answered_at = self._clock.monotonic()
        self.answered = self._clock.monotonic() - self._answered_at < self._timeouts.quiet_s
        return not self.answered

    async def _brokers_answer(self) -> bool:
        try:
            async with asyncio.timeout(self._timeouts.check_every_s):
                await self._consumer.topics()
        except (KafkaError, TimeoutError):
            return False
        return True

    async def on_partitions_revoked(self, _revoked: Collection[Any]) -> None:
        """Called by aiokafka before a rebalance: all partitions are taken away."""
        self._assigned = False
        await self._revoked()

    def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        """Called by aiokafka with the new partitions, none of them paused."""
        self._assigned = True
        log.info("handoff.assigned", extra={"partitions": sorted(tp.partition for tp in assigned)})
        self.pause_or_resume()

    def _delivery(self, record: Any) -> Delivery:
        headers = tuple((name, value or b"") for name, value in record.headers)
        return Delivery(
            record.topic, record.partition, record.offset, record.key, record.value, headers, self._window.epoch
        )


class KafkaSubscription:
    """The receiving side on Kafka; an async context manager. Entering it does not wait for Kafka."""

    def __init__(
        self,
        servers: Sequence[str],
        topic: str,
        group: str,
        *,
        window: int,
        clock: Clock,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        self._brokers = Brokers(servers, clock, timeouts)
        self._topic = topic
        self._group = group
        self._clock = clock
        self._timeouts = timeouts
        self._window = Window(window)
        self._commits = Commits(topic, self._window, clock, timeouts)
        self._arrived = asyncio.Event()
        self._polling: Polling | None = None
        self._tasks: set[asyncio.Task[NoReturn]] = set()

    async def __aenter__(self) -> Self:
        self._tasks = {run_forever(self._keep_a_client(), "subscription"), run_forever(self._commits.run(), "commits")}
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        if self._commits.consumer is not None:
            await self._commits.commit(self._timeouts.stop_s)
            await self._brokers.stop(self._commits.consumer)

    @property
    def connected(self) -> bool:
        """Whether there is a client to which the brokers have answered recently."""
        return self._polling is not None and self._polling.answered

    @property
    def held(self) -> Sequence[Delivery]:
        """The deliveries that are held; their partitions wait behind them."""
        return self._window.held

    async def receive(self) -> Sequence[Delivery]:
        """Wait for at least one delivery. Keeps waiting through outages."""
        while not (deliveries := self._window.hand_out()):
            self._arrived.clear()
            await self._arrived.wait()
        return deliveries

    def acknowledge(self, delivery: Delivery) -> None:
        """Mark the delivery as completely processed. A second time, or after it was taken away, this has no effect."""
        before = self._blocked
        if self._window.acknowledge(delivery):
            self._commits.request()
            if self._blocked != before:
                self._update_fetching()

    def hold(self, delivery: Delivery) -> None:
        """Keep a delivery that this version cannot process; its partition waits behind it."""
        if self._window.hold(delivery):
            self._update_fetching()

    @property
    def _blocked(self) -> tuple[bool, frozenset[int]]:
        """What must not be fetched: everything, or these partitions."""
        return self._window.full, self._window.held_partitions

    def _update_fetching(self) -> None:
        # Immediately rather than at the next poll, which may be a second away.
        if self._polling is not None:
            self._polling.pause_or_resume()
        self._arrived.set()

    async def _keep_a_client(self) -> NoReturn:
        failures = 0
        while True:
            consumer = self._commits.consumer = await self._start()
            began = self._clock.monotonic()
            await self._use(consumer)
            await self._end_epoch()
            self._commits.consumer = None
            await self._brokers.stop(consumer)
            failures = 0 if self._clock.monotonic() - began >= self._timeouts.quiet_s else failures + 1
            await self._brokers.pause(failures)

    async def _use(self, consumer: Any) -> None:
        """Poll with this client until it has failed."""
        polling = Polling(consumer, self._window, self._arrived, self._end_epoch, self._clock, self._timeouts)
        consumer.subscribe([self._topic], listener=polling)
        self._polling = polling
        task = asyncio.create_task(polling.run())
        task.add_done_callback(ignore_outcome)
        try:
            await self._brokers.until_useless("subscription", task, polling.is_quiet, self._start)
            if task.done() and not task.cancelled() and (failure := task.exception()):
                self._report(failure)
        finally:
            self._polling = None
            task.cancel()
            await asyncio.wait({task})

    def _report(self, failure: BaseException) -> None:
        reason = one_line(failure)
        if isinstance(failure, InconsistentGroupProtocolError):
            reason = f"another client in the group {self._group} has other assignors: stop it, or change broker.group"
        expected = isinstance(failure, KafkaError | OffsetsFellBackError)
        extra = {"client": "subscription", "error": reason}
        log.error("handoff.client_given_up", extra=extra, exc_info=None if expected else failure)

    async def _end_epoch(self) -> None:
        """Commit what is settled; the other deliveries are void, and come again to any member."""
        await self._commits.commit(self._timeouts.commit_s)
        self._window.begin_epoch()

    async def _start(self) -> Any:
        return await self._brokers.start(self._make_client, self._require_topic)

    async def _require_topic(self, consumer: Any) -> None:
        # Subscribing to an unknown topic would let the broker create it, with one partition and a retention time.
        if self._topic not in await consumer.topics():
            raise UnknownTopicOrPartitionError(f"there is no topic {self._topic}")

    def _make_client(self) -> Any:
        return AIOKafkaConsumer(
            bootstrap_servers=self._brokers.servers,
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=int(self._timeouts.session_s * 1000),
            heartbeat_interval_ms=int(self._timeouts.session_s * 300),
            rebalance_timeout_ms=90_000,  # longer than commit_s: the group waits that long for this member
            max_poll_interval_ms=600_000,
            request_timeout_ms=15_000,
            metadata_max_age_ms=30_000,
            max_partition_fetch_bytes=262_144,
            fetch_min_bytes=FETCH_MIN_BYTES,
            fetch_max_wait_ms=int(self._timeouts.fetch_wait_s * 1000),
        )


class Commits:
    """Commits offsets shortly after an acknowledgement, many together. `consumer` is the current client, if any.

    It must never commit an offset past an unsettled delivery, nor one of an earlier epoch: `Window` ensures both.
    """

    def __init__(self, topic: str, window: Window, clock: Clock, timeouts: Timeouts) -> None:
        self.consumer: Any | None = None
        self._topic = topic
        self._window = window
        self._clock = clock
        self._timeouts = timeouts
        self._requested = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()

    def request(self) -> None:
        """Note that there may be something to commit."""
        self._requested.set()

    async def run(self) -> NoReturn:
        """Commit on request, for ever."""
        while True:
            await self._requested.wait()
            self._requested.clear()
            if await self.commit(self._timeouts.commit_s):
                await self._clock.sleep(self._timeouts.commit_every_s)
            else:
                self._requested.set()
                await self._clock.sleep(self._timeouts.first_backoff_s)

    async def commit(self, timeout_s: float) -> bool:
        """Commit the offsets that moved. False if that failed: then deliveries may be repeated, which is harmless."""
        async with self._one_at_a_time:
            offsets, epoch = self._window.to_commit(), self._window.epoch
            if not offsets or self.consumer is None:
                return not offsets
            try:
                async with asyncio.timeout(timeout_s):  # aiokafka retries for ever
                    await self.consumer.commit(
                        {TopicPartition(self._topic, p): offset for p, offset in offsets.items()}
                    )
            except (KafkaError, TimeoutError) as error:
                log.warning("handoff.commit_failed", extra={"partitions": sorted(offsets), "error": one_line(error)})
                return False
            if epoch == self._window.epoch:
                self._window.committed(offsets)
            return True
