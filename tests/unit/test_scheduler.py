"""The scheduler's loop: when it looks, what wakes it, and that one failure holds up nobody."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Connection, update

from producer.schedules import storage
from producer.schedules.running import LONGEST_PAUSE_S, Decision, Runs, Scheduler, run_id
from producer.schedules.storage import Definition
from producer.schedules.times import Times
from raingauge.database import Database
from raingauge.database.transactions import Transactions
from raingauge.errors import DatabaseUnavailable
from raingauge.model import CollectionRequest
from raingauge.storage import collections
from raingauge.storage.models import REMOVING_ALL, Collection, Schedule
from tests.simulation.virtual import EPOCH, VirtualClock, VirtualLoop, run_virtually
from tests.support.databases import sqlite_again

T = TypeVar("T")


class Producer:
    """A scheduler in virtual time; it notes when it used the database and when it started something."""

    def __init__(self, database: Database, clock: VirtualClock) -> None:
        self.clock = clock
        self.database = database
        self.used: list[float] = []
        self.started: list[datetime] = []
        self.away = False
        transactions = Transactions(database, self.blocking, clock)
        runs = Runs(transactions, (1, 2, 3), 10)
        self.scheduler = Scheduler(transactions, runs, lambda: self.started.append(clock.now()))

    async def blocking(self, call: Callable[[], T], /) -> T:
        """The seam."""
        self.used.append(self.clock.monotonic())
        if self.away:
            raise DatabaseUnavailable("for the test")
        return call()

    def add(self, name: str, times: Times) -> None:
        """Somebody creates a schedule."""
        wanted = Definition(name, times, None, 0, "latest", "queue")
        self.database.write(lambda connection: storage.add(connection, self.clock.now(), wanted, "api"))


def play(template: Path, scene: Callable[[Producer], Awaitable[None]]) -> None:
    """Run a scene with a scheduler beside it."""
    loop = VirtualLoop()
    clock = VirtualClock(loop)
    with sqlite_again(template) as engine:
        producer = Producer(Database(engine, clock.of_database), clock)

        async def live() -> None:
            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(producer.scheduler.run())
                await scene(producer)
                task.cancel()

        run_virtually(live(), loop)


def test_it_starts_a_run_at_its_time_and_looks_seldom_when_nothing_is_due(template: Path) -> None:
    async def scene(producer: Producer) -> None:
        producer.add("s", Times(every_s=600))
        await producer.clock.sleep(1201)
        assert [at - EPOCH for at in producer.started] == [timedelta(minutes=10), timedelta(minutes=20)]
        assert len(producer.used) <= 1201 / LONGEST_PAUSE_S + 10

    play(template, scene)


def test_a_schedule_of_another_producer_is_noticed_and_one_of_its_own_at_once(template: Path) -> None:
    async def scene(producer: Producer) -> None:
        await producer.clock.sleep(50)
        producer.add("theirs", Times(every_s=60))
        await producer.clock.sleep(20)
        assert [at - EPOCH for at in producer.started] == [timedelta(seconds=60)]
        before = len(producer.used)
        producer.scheduler.wake()
        await producer.clock.sleep(0.001)
        assert len(producer.used) == before + 1

    play(template, scene)


def test_one_that_fails_is_tried_again_and_the_others_run(template: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scene(producer: Producer) -> None:
        for name in ("a", "b"):
            producer.add(name, Times(every_s=60))
        damage = update(Schedule).where(Schedule.name == "a").values(city_ids="no list")
        producer.database.write(lambda connection: connection.execute(damage))
        await producer.clock.sleep(62)
        assert [at - EPOCH for at in producer.started] == [timedelta(seconds=60)]
        mended = update(Schedule).where(Schedule.name == "a").values(city_ids=None)
        producer.database.write(lambda connection: connection.execute(mended))
        await producer.clock.sleep(LONGEST_PAUSE_S)
        assert len(producer.started) == 2

    play(template, scene)
    failures = [record for record in caplog.records if record.message == "schedule.failed"]
    assert len(failures) == 1


def test_one_whose_run_is_being_deleted_is_skipped_and_the_others_run(template: Path) -> None:
    at = EPOCH + timedelta(seconds=60)
    request = CollectionRequest(run_id("a", at), (1,), 0, named=True)

    def delete_in_steps(connection: Connection) -> None:
        collections.accept_all(connection, EPOCH, [request], {}, 10)
        connection.execute(update(Collection).values(finished_at=EPOCH, removing=REMOVING_ALL))

    async def scene(producer: Producer) -> None:
        producer.database.write(delete_in_steps)
        for name in ("a", "b"):
            producer.add(name, Times(every_s=60))
        await producer.clock.sleep(62)
        assert producer.started == [at]
        [run] = producer.database.read(lambda connection: storage.runs(connection, "a", None, 2))
        assert (run.nominal_at, run.reason) == (at, f"its collection {request.id} is being deleted")

    play(template, scene)


def test_one_whose_rows_cannot_be_used_does_not_keep_the_others_waiting(
    template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked, decide = {"a", "b"}, Runs.decide

    def decide_unless_locked(runs: Runs, connection: Connection, name: str) -> Decision | None:
        if name in locked:
            raise DatabaseUnavailable("a lock was not granted in time")
        return decide(runs, connection, name)

    monkeypatch.setattr(Runs, "decide", decide_unless_locked)

    async def scene(producer: Producer) -> None:
        for name in ("a", "b", "c"):
            producer.add(name, Times(every_s=60))
        await producer.clock.sleep(64)
        assert len(producer.started) == 1
        locked.clear()
        await producer.clock.sleep(5)
        assert len(producer.started) == 3

    play(template, scene)


def test_where_a_time_zone_is_gone_the_reason_is_recorded_once_and_the_others_run(
    template: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.schedules.running.AT_ONCE", 1)

    async def scene(producer: Producer) -> None:
        def runs() -> list[tuple[float, bool, str | None]]:
            found = producer.database.read(partial(storage.runs, name="gone", before=None, limit=9))
            return [((run.nominal_at - EPOCH).total_seconds(), bool(run.collection_id), run.reason) for run in found]

        def move(zone: str) -> None:
            moved = update(Schedule).where(Schedule.name == "gone").values(zone=zone)
            producer.database.write(lambda connection: connection.execute(moved))

        producer.add("gone", Times("* * * * *"))
        producer.add("other", Times(every_s=60))
        move("Mars/Base")
        await producer.clock.sleep(61)
        assert len(producer.started) == 1
        await producer.clock.sleep(55)
        reason = "this machine does not know the time zone Mars/Base"
        assert runs() == [(60, False, reason)]
        move("UTC")
        await producer.clock.sleep(2 * LONGEST_PAUSE_S)
        missed = "missed: no producer started it in time"
        assert runs() in ([(120, True, None), (60, False, missed)], [(120, True, None), (60, True, None)])

    play(template, scene)
    skipped = [vars(record)["reason"] for record in caplog.records if record.message == "schedule.skipped"]
    assert skipped[0] == "this machine does not know the time zone Mars/Base"
    assert skipped.count(skipped[0]) == 1
    assert "schedule.failed" not in caplog.messages


def test_when_the_database_is_back_it_goes_on_within_a_second(template: Path) -> None:
    async def scene(producer: Producer) -> None:
        producer.add("s", Times(every_s=60))
        producer.away = True
        await producer.clock.sleep(100)
        assert producer.started == []
        producer.away = False
        await producer.clock.sleep(1.1)
        assert len(producer.started) == 1
        [run] = producer.database.read(partial(storage.runs, name="s", before=None, limit=5))
        assert run.nominal_at == EPOCH + timedelta(seconds=60)

    play(template, scene)
