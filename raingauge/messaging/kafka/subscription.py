"""Receives from Kafka as a member of a consumer group: polls always, holds few messages, commits only settled ones.

It must not decode or judge messages, and must not lose one: unacknowledged messages are delivered again, to any member.
"""

import asyncio
import gzip
import zlib
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Any, Final, NoReturn

import cramjam
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import (
    CorruptRecordException,
    InconsistentGroupProtocolError,
    KafkaError,
    UnsupportedCodecError,
)

from raingauge.clock import Clock
from raingauge.errors import HandoffUnavailable
from raingauge.messaging.kafka.causes import one_line
from raingauge.messaging.kafka.client import DEFAULT_TIMEOUTS, KafkaAdapter, Timeouts, log
from raingauge.messaging.kafka.cluster import Cluster
from raingauge.messaging.port import Delivery, Headers
from raingauge.messaging.window import Window

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


class OffsetsFellBackError(Exception):
    """A partition continues below a delivered offset: the topic was recreated, and the offsets mean new messages."""


class Member(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """One client as a member of the group: fills the window and commits what is settled. Sets `arrived`.

    Never pauses polling: that would cost membership. A partition with a record that cannot be read waits, and is tried
    again from time to time; the other partitions go on.
    """

    def __init__(
        self, consumer: Any, topic: str, window: Window, arrived: asyncio.Event, clock: Clock, timeouts: Timeouts
    ) -> None:
        self.answered = True  # recently
        self._consumer = consumer
        self._topic = topic
        self._window = window
        self._arrived = arrived
        self._clock = clock
        self._timeouts = timeouts
        self._answered_at = clock.monotonic()
        self._commit_at = 0.0
        self._reread_at: dict[int, float] = {}
        self._assigned = False
        self._fetched_at: dict[Any, int | None] = {}

    async def run(self) -> NoReturn:
        """Poll and commit for ever.

        Raises:
            Exception: any error of aiokafka. Fetched messages may then be lost: use a new client.
        """
        self._consumer.subscribe([self._topic], listener=self)
        while True:
            self.pause_or_resume()
            try:
                # When the window is full all partitions are paused, so the one record asked for cannot arrive.
                poll_ms = round(self._timeouts.poll_s * 1000)
                await self._poll(timeout_ms=poll_ms, max_records=max(1, self._window.free))
            except UNREADABLE:
                await self._isolate_unreadable()
            if self._clock.monotonic() >= self._commit_at:
                await self._commit()
                self._commit_at = self._clock.monotonic() + self._timeouts.commit_every_s

    async def _poll(self, *partitions: Any, timeout_ms: int, max_records: int) -> bool:
        fetched = await self._consumer.getmany(*partitions, timeout_ms=timeout_ms, max_records=max_records)
        for record in chain.from_iterable(fetched.values()):
            headers, epoch = headers_of(record), self._window.epoch
            delivery = Delivery(record.topic, record.partition, record.offset, record.key, record.value, headers, epoch)
            if not self._window.take(delivery):
                raise OffsetsFellBackError(f"partition {record.partition}, offset {record.offset}")
        if fetched:
            self._arrived.set()
        return bool(fetched)

    async def _isolate_unreadable(self) -> None:
        """Poll each partition alone and record by record, until the one with the unreadable record is found.

        The error does not name its partition, and readable records of others were lost with it.
        """
        for tp in self._consumer.assignment():
            await self._rewind(tp)
        for _ in range(SINGLE_ROUNDS):
            self.pause_or_resume()
            for tp in self._consumer.assignment() - self._consumer.paused():
                try:
                    while self._window.free > 0 and tp in self._consumer.assignment():
                        if not await self._poll(tp, timeout_ms=SINGLE_POLL_MS, max_records=1):
                            break
                except UNREADABLE as error:
                    self._reread_at[tp.partition] = self._clock.monotonic() + self._timeouts.reread_s
                    extra = {"partition": tp.partition, "offset": await self._rewind(tp), "error": one_line(error)}
                    log.error("handoff.unreadable", extra=extra)
                    return

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

    async def lag(self) -> dict[int, int]:
        """The distance from the lowest unsettled offset to the end of each assigned partition. Raises KafkaError."""
        assigned = self._consumer.assignment()
        ends = await self._consumer.end_offsets(assigned) if assigned else {}
        behind = {}
        for tp, end in ends.items():
            lowest = self._window.lowest_offset(tp.partition)
            behind[tp.partition] = max(0, end - (await self._consumer.position(tp) if lowest is None else lowest))
        return behind

    async def on_partitions_revoked(self, _revoked: Collection[Any]) -> None:
        """Called by aiokafka before a rebalance: all partitions are taken away."""
        self._assigned = False
        await self.end_epoch()

    def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        """Called by aiokafka with the new partitions, none of them paused."""
        self._assigned = True
        log.info("handoff.assigned", extra={"partitions": sorted(tp.partition for tp in assigned)})
        self.pause_or_resume()

    async def end_epoch(self, *, commits: bool = True) -> None:
        """Commit what is settled; the other deliveries are void, and come again to any member."""
        if commits:
            await self._commit()
        self._window.begin_epoch()

    async def _commit(self) -> None:
        """Commit the offsets that moved. If that fails, deliveries may be repeated, which is harmless."""
        offsets, epoch = self._window.to_commit(), self._window.epoch
        if not offsets:
            return
        try:
            async with asyncio.timeout(self._timeouts.commit_s):  # aiokafka retries for ever
                await self._consumer.commit({TopicPartition(self._topic, p): offset for p, offset in offsets.items()})
        except (KafkaError, TimeoutError) as error:
            log.warning("handoff.commit_failed", extra={"partitions": sorted(offsets), "error": one_line(error)})
        else:
            if epoch == self._window.epoch:
                self._window.committed(offsets)


def headers_of(record: Any) -> Headers:
    """The headers of one of aiokafka's records, as deliveries have them."""
    return tuple((name, value or b"") for name, value in record.headers)


class KafkaSubscription(KafkaAdapter):
    """The receiving side on Kafka; an async context manager."""

    name = "subscription"

    def __init__(
        self,
        cluster: Cluster,
        topic: str,
        group: str,
        *,
        window: int,
        clock: Clock,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        super().__init__(cluster, clock, timeouts)
        self._topic = topic
        self._group = group
        self._window = Window(window)
        self._arrived = asyncio.Event()
        self._member: Member | None = None

    @property
    def connected(self) -> bool:
        """Whether there is a client to which the brokers have answered recently."""
        return self._member is not None and self._member.answered

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

    async def lag(self) -> Mapping[int, int]:
        """Messages that are not settled. Asks the brokers, because a paused partition's end is not fetched."""
        try:
            if self._member is not None:
                return await self._member.lag()
        except KafkaError as error:
            raise HandoffUnavailable(one_line(error)) from error
        raise HandoffUnavailable("no connection to the hand-off")

    def acknowledge(self, delivery: Delivery) -> None:
        """Mark the delivery as completely processed. A second time, or after it was taken away, this has no effect."""
        if self._window.acknowledge(delivery):
            self._update_fetching()

    def hold(self, delivery: Delivery) -> None:
        """Keep a delivery that this version cannot process; its partition waits behind it."""
        if self._window.hold(delivery):
            self._update_fetching()

    def _update_fetching(self) -> None:
        # Immediately rather than at the next poll, which comes only after the present one has ended.
        if self._member is not None:
            self._member.pause_or_resume()
        self._arrived.set()

    def _use(self, client: Any) -> asyncio.Future[NoReturn]:
        self._member = Member(client, self._topic, self._window, self._arrived, self._clock, self._timeouts)
        running = asyncio.create_task(self._member.run())
        running.add_done_callback(self._report)
        return running

    async def _retire(self, failed: asyncio.Future[NoReturn]) -> None:
        member, self._member = self._member, None
        await asyncio.wait({failed})
        if member is not None:
            fell_back = not failed.cancelled() and isinstance(failed.exception(), OffsetsFellBackError)
            await member.end_epoch(commits=not fell_back)  # the offsets of a topic that is gone mean new messages

    async def _is_quiet(self) -> bool:
        return self._member is not None and await self._member.is_quiet()

    def _report(self, ended: asyncio.Task[NoReturn]) -> None:
        if ended.cancelled() or (failure := ended.exception()) is None:
            return
        reason = one_line(failure)
        if isinstance(failure, InconsistentGroupProtocolError):
            reason = f"another client in the group {self._group} has other assignors: stop it, or change broker.group"
        expected = isinstance(failure, KafkaError | OffsetsFellBackError)
        self._log_given_up(reason, None if expected else failure)

    async def _check(self, client: Any) -> None:
        # Subscribing to an unknown topic would let the broker create it, with one partition and a retention time.
        if self._topic not in await client.topics():
            raise HandoffUnavailable(f"there is no topic {self._topic} that this user may see")

    def _make_client(self) -> Any:
        return AIOKafkaConsumer(
            **self._brokers.cluster.arguments(),
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
            fetch_min_bytes=self._timeouts.fetch_min_bytes,
            fetch_max_wait_ms=int(self._timeouts.fetch_wait_s * 1000),
        )
