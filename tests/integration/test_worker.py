"""The worker: its heartbeat, how its parts are connected, and the order in which they stop."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from consumer.app import PRUNE_EVERY_BEATS, STALLED_AFTER_S, Worker
from consumer.caller import Caller
from consumer.intake import Intake
from consumer.ledger import Ledger, NotNow, Reservation
from consumer.provider.port import Reply, Weather
from raingauge.blocking import inline
from raingauge.contracts import BatchMessage
from raingauge.database import Database
from raingauge.database.transactions import Transactions
from raingauge.errors import DatabaseUnavailable, Fatal
from raingauge.messaging.port import Delivery
from raingauge.model import CollectionRequest, Observation
from raingauge.quota.pacing import Terms
from raingauge.storage.models import ConsumerBeat, Reading
from raingauge.storage.quota import BEAT_S
from tests.simulation.virtual import EPOCH, VirtualClock, VirtualLoop, run_virtually
from tests.support.accepting import accept
from tests.support.handoff import FakeHandoff

TERMS = Terms(60, 60.0, "burst", 10**9, "none", timeout_s=10.0)


class CountingLedger(Ledger):
    """A ledger that counts, and whose heartbeat can meet an outage or a delay."""

    outage = False
    hangs = False
    idle = False
    away = False
    pruned = 0
    portions = 1

    async def beat(self, partitions_held: int = 0) -> None:
        if self.outage:
            raise DatabaseUnavailable("away")
        await super().beat(partitions_held)

    async def prune(self, kept_for: timedelta) -> bool:
        self.pruned += 1
        await super().prune(kept_for)
        return self.pruned < self.portions

    async def leave(self) -> None:
        if self.outage:
            raise DatabaseUnavailable("away")
        if self.hangs:
            await asyncio.Event().wait()
        await super().leave()

    async def reserve(self, calls: int) -> Reservation | NotNow:
        if self.away:
            raise DatabaseUnavailable("away")
        if self.hangs:
            await asyncio.Event().wait()
        return NotNow(1e9, None) if self.idle else await super().reserve(calls)


class Scene:
    """A worker on one delivered batch; a call of its provider lasts 7 seconds."""

    def __init__(self, database: Database) -> None:
        self.loop = VirtualLoop()
        self.clock = VirtualClock(self.loop)
        self.database = Database(database.engine, self.clock.of_database)
        message = BatchMessage(
            collection_id="c", batch=0, batches=1, total=3, max_age_s=0, requested_at=EPOCH, city_ids=(1, 2, 3)
        )
        self.handoff = FakeHandoff([Delivery("batches", 0, 5, b"key", message.encode())])
        request = CollectionRequest("c", (1, 2, 3), 0, named=True)
        self.database.write(lambda connection: accept(connection, EPOCH, request))
        transactions = Transactions(self.database, inline, self.clock)
        self.ledger = CountingLedger(transactions, self.clock, "account", TERMS, "group", "me")
        caller = Caller(self.ledger, self, transactions, self._call, self.clock, lanes=2)
        intake = Intake(self.handoff, self.handoff, transactions, self.clock, "account", "batches")
        self.worker = Worker(intake, caller, self.ledger, self.clock)

    def group(self, city_ids: Sequence[int], send_by: float) -> Reply:
        return Weather({city: Observation(city, None, None, None, None, EPOCH, 20.0, None) for city in city_ids})

    def single(self, city_id: int, send_by: float) -> Reply:
        return self.group([city_id], send_by)

    async def _call(self, work: Callable[[], Any]) -> Any:
        await self.clock.sleep(7)
        return work()

    def run(self, seconds: float) -> "Scene":
        async def program() -> None:
            running = asyncio.create_task(self.worker.run())
            await self.clock.sleep(seconds)
            self.worker.stop()
            await running

        run_virtually(program(), self.loop)
        return self

    def rows(self, column: Any) -> list[Any]:
        return list(self.database.read(lambda connection: connection.scalars(select(column)).all()))


@pytest.mark.parametrize(("stopped_after_s", "ended_by_s"), [(3, 9), (60, 62)])
def test_a_batch_is_collected_and_acknowledged_even_when_the_worker_stops_during_its_calls(
    sqlite: Database, stopped_after_s: float, ended_by_s: float
) -> None:
    scene = Scene(sqlite).run(stopped_after_s)
    assert scene.rows(Reading.status) == ["collected"] * 3
    assert scene.handoff.done == [("acknowledged", 5)]
    assert 7 <= scene.loop.time() < ended_by_s


def test_the_heartbeat_is_recorded_and_old_charges_are_forgotten_now_and_then(sqlite: Database) -> None:
    scene = Scene(sqlite)
    scene.ledger.idle = True
    scene.ledger.portions = 3
    scene.run(BEAT_S * PRUNE_EVERY_BEATS + 1)
    [seen_at] = scene.rows(ConsumerBeat.seen_at)
    assert (scene.clock.now() - seen_at).total_seconds() <= BEAT_S
    assert scene.ledger.pruned == 4, "three beats in a row at first, while there is more"


def test_an_outage_costs_beats_and_ends_nothing(sqlite: Database, caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(sqlite)
    scene.ledger.outage = True
    scene.run(60)
    assert "database.unavailable" in caplog.messages
    assert scene.handoff.done == [("acknowledged", 5)]
    with pytest.raises(Fatal, match="it is stopping"):
        asyncio.run(scene.worker.check())


def test_a_caller_that_hangs_is_reported(sqlite: Database, caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(sqlite)
    scene.ledger.hangs = True

    async def program() -> None:
        running = asyncio.create_task(scene.worker.run())
        await scene.clock.sleep(STALLED_AFTER_S - 1)
        assert "caller.stalled" not in caplog.messages
        await scene.clock.sleep(2 * BEAT_S)
        assert "caller.stalled" in caplog.messages
        running.cancel()

    run_virtually(program(), scene.loop)


def test_the_report_of_a_caller_that_hangs_says_what_it_waits_for(
    sqlite: Database, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(sqlite)
    scene.ledger.away = True

    async def program() -> None:
        running = asyncio.create_task(scene.worker.run())
        await scene.clock.sleep(1)
        scene.ledger.away, scene.ledger.hangs = False, True
        await scene.clock.sleep(STALLED_AFTER_S + 3 * BEAT_S)
        running.cancel()

    run_virtually(program(), scene.loop)
    reports = [record for record in caplog.records if record.message == "caller.stalled"]
    assert {record.waiting_for for record in reports} == {"database"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(("trouble", "left"), [("", True), ("outage", False), ("hangs", False)])
def test_a_consumer_that_leaves_is_forgotten_if_the_database_answers_soon(
    sqlite: Database, trouble: str, left: bool
) -> None:
    scene = Scene(sqlite)

    async def program() -> None:
        await scene.worker.check()
        if trouble:
            setattr(scene.ledger, trouble, True)
        await scene.worker.leave()

    run_virtually(program(), scene.loop)
    assert scene.rows(ConsumerBeat.id) == ([] if left else ["me"])


def test_a_partition_that_waits_is_named_when_readiness_is_checked_and_counted_in_the_heartbeat(
    sqlite: Database,
) -> None:
    scene = Scene(sqlite)
    scene.handoff.rounds = [[Delivery("batches", 4, 17, b"c/0", b'{"version":2}')]]
    scene.run(7)
    with pytest.raises(Fatal, match=r"^partition 4 waits at offset 17: message version 2, known up to 1"):
        run_virtually(scene.worker.check(), VirtualLoop())
    assert scene.rows(ConsumerBeat.partitions_held) == [1]
