"""Receiving from Kafka as a member of a consumer group: polls always, holds little, commits only what is settled.

It must not decode or judge messages, and must not lose one: what is unacknowledged comes again, here or elsewhere.
"""

import asyncio
import random
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, NoReturn, Self

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import UnknownTopicOrPartitionError

from raingauge.clock import Clock
from raingauge.messaging.kafka_client import PATIENT, Patience, ended, kept_up, log, said, seen, started
from raingauge.messaging.kafka_commits import Commits
from raingauge.messaging.kafka_polling import Polling
from raingauge.messaging.port import Delivery, Lost
from raingauge.messaging.window import Window

FETCH: Final = 8_192
"""Bytes, some thirty messages, that a fetch is worth while for; with less it waits a little for more."""


class KafkaSubscription:
    """The receiving side on Kafka; an async context manager. Entering it waits for nothing.

    `lost` is awaited, for at most `patience.drain_s`, when partitions are taken away: what it acknowledges meanwhile is
    still committed. It is not told when the subscription closes.
    """

    def __init__(
        self,
        servers: Sequence[str],
        topic: str,
        group: str,
        *,
        window: int,
        clock: Clock,
        lost: Lost | None = None,
        patience: Patience = PATIENT,
    ) -> None:
        self._servers = list(servers)
        self._topic = topic
        self._group = group
        self._clock = clock
        self._lost = lost
        self._patience = patience
        self._window = Window(window)
        self._commits = Commits(topic, self._window, clock, patience)
        self._arrived = asyncio.Event()
        self._stopping = asyncio.Event()
        self._handing_over = asyncio.Lock()
        self._consumer: Any | None = None
        self._polling: Polling | None = None
        self._tasks: set[asyncio.Task[NoReturn]] = set()

    async def __aenter__(self) -> Self:
        self._tasks = {kept_up(self._keep_a_client(), "subscription"), kept_up(self._commits.run(), "commits")}
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # First of all: a client cannot stop while its rebalance listener waits for `lost`.
        self._stopping.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        if self._consumer is not None:
            await self._commits.commit(self._patience.stop_s)
            await ended(self._consumer, self._patience.stop_s)

    @property
    def connected(self) -> bool:
        """Whether there is a client, and it heard from the brokers not long ago."""
        return self._polling is not None and self._polling.heard

    @property
    def held(self) -> Sequence[Delivery]:
        """The deliveries that this version cannot work on; their partitions wait."""
        return self._window.held

    async def receive(self) -> Sequence[Delivery]:
        """Wait for deliveries: at least one. Outages only make it longer."""
        while not (deliveries := self._window.hand_out()):
            self._arrived.clear()
            await self._arrived.wait()
        return deliveries

    def acknowledge(self, delivery: Delivery) -> None:
        """Say that all of it is settled. A second time, or after it was taken away, this does nothing."""
        before = self._waits
        if self._window.acknowledge(delivery):
            self._commits.moved()
            if self._waits != before:
                self._arrange()

    def hold(self, delivery: Delivery) -> None:
        """Say that this delivery cannot be worked on by this version: its partition waits behind it."""
        waited = delivery.partition in self._window.held_partitions
        if self._window.hold(delivery) and not waited:
            log.error("handoff.held", extra={"partition": delivery.partition, "offset": delivery.offset})
            self._arrange()

    @property
    def _waits(self) -> tuple[bool, frozenset[int]]:
        """What may not be fetched: anything, or which partitions."""
        return self._window.full, self._window.held_partitions

    def _arrange(self) -> None:
        # At once, not at the next poll, which may be a second away.
        if self._polling is not None:
            self._polling.arrange()
        self._arrived.set()

    async def _keep_a_client(self) -> NoReturn:
        failures = 0
        while True:
            self._consumer = self._commits.consumer = await self._start()
            began = self._clock.monotonic()
            await self._use(self._consumer)
            await self._taken_away()
            consumer, self._consumer, self._commits.consumer = self._consumer, None, None
            await ended(consumer, self._patience.stop_s)
            failures = 0 if self._clock.monotonic() - began >= self._patience.quiet_s else failures + 1
            await self._clock.sleep(self._patience.pause_s(failures, random.random()))

    async def _use(self, consumer: Any) -> None:
        """Work with this client until it is of no more use."""
        polling = Polling(consumer, self._window, self._arrived, self._taken_away)
        consumer.subscribe([self._topic], listener=polling)
        self._polling = polling
        task = asyncio.create_task(polling.run())
        task.add_done_callback(seen)
        try:
            await self._until_useless(polling, task)
        finally:
            self._polling = None
            task.cancel()
            await asyncio.wait({task})

    async def _until_useless(self, polling: Polling, task: asyncio.Task[NoReturn]) -> None:
        """Return when polling has failed, or hears nothing although a new client can be started."""
        last, others_hear = self._clock.monotonic(), False
        while not task.done():
            await asyncio.wait({task}, timeout=self._patience.look_s)
            if await polling.listen(self._patience.look_s):
                last, others_hear = self._clock.monotonic(), False
            elif others_hear:
                log.warning("handoff.client_given_up", extra={"client": "subscription", "error": "hears nothing"})
                return
            elif self._clock.monotonic() - last >= self._patience.quiet_s:
                log.warning("handoff.quiet", extra={"client": "subscription"})
                polling.heard = False
                # An outage alone is no reason to give the deliveries up: they are dropped only for a client that works.
                await ended(await self._start(), self._patience.stop_s)
                others_hear = True
        log.error(
            "handoff.client_given_up",
            extra={"client": "subscription"},
            exc_info=None if task.cancelled() else task.exception(),
        )

    async def _taken_away(self) -> None:
        """End the epoch: let the worker finish what it can, store how far it came, and void the rest."""
        async with self._handing_over:
            self._window.drop_waiting()
            if unsettled := self._window.unsettled():
                log.info("handoff.taken_away", extra={"deliveries": len(unsettled), "epoch": self._window.epoch})
                await self._tell(unsettled)
            await self._commits.commit(self._patience.commit_s)
            self._window.begin_epoch()

    async def _tell(self, unsettled: Sequence[Delivery]) -> None:
        if self._lost is None or self._stopping.is_set():
            return
        telling = asyncio.ensure_future(self._lost(unsettled))
        telling.add_done_callback(_report)
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({telling, stopping}, timeout=self._patience.drain_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            telling.cancel()
            stopping.cancel()

    async def _start(self) -> Any:
        return await started(self._client, self._require_topic, self._clock, self._patience)

    async def _require_topic(self, consumer: Any) -> None:
        # Subscribing to an unknown topic would let the broker create it, with one partition and a retention.
        if self._topic not in await consumer.topics():
            raise UnknownTopicOrPartitionError(self._topic)

    def _client(self) -> Any:
        return AIOKafkaConsumer(
            bootstrap_servers=self._servers,
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=int(self._patience.session_s * 1000),
            heartbeat_interval_ms=int(self._patience.session_s * 300),
            rebalance_timeout_ms=90_000,  # longer than drain_s and commit_s: others wait that long for this member
            max_poll_interval_ms=600_000,
            request_timeout_ms=15_000,
            metadata_max_age_ms=30_000,
            max_partition_fetch_bytes=262_144,
            fetch_min_bytes=FETCH,
            fetch_max_wait_ms=int(self._patience.gather_s * 1000),
        )


def _report(telling: asyncio.Future[None]) -> None:
    if telling.cancelled():
        log.warning("handoff.drain_cut_short")
    elif error := telling.exception():
        log.error("handoff.drain_failed", extra={"error": said(error)}, exc_info=error)
