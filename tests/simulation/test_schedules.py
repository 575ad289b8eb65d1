"""Three producers' schedulers, killed and restarted at random through 200 due times, in virtual time.

The audit knows only what the schedule says and what the database has: it must find planted bugs.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from sqlalchemy import Connection, select, update

from producer.schedules import storage
from producer.schedules.running import LATE, Decision, Runs, Scheduler
from producer.schedules.storage import Definition, Overlap
from producer.schedules.times import Times
from raingauge.database import Database
from raingauge.database.transactions import Transactions
from raingauge.errors import DatabaseUnavailable
from raingauge.storage.models import Collection, Schedule, ScheduledRun
from tests.simulation.virtual import EPOCH, VirtualClock, VirtualLoop, run_virtually
from tests.support.databases import sqlite_again

T = TypeVar("T")

pytestmark = pytest.mark.long

EVERY: Final = timedelta(seconds=120)
DUE: Final = 200
IN_TIME: Final = timedelta(seconds=50)
"""A producer that runs that long starts what is due, whatever fails meanwhile."""


class World:
    """A database with a schedule, and producers on it that come and go."""

    def __init__(
        self, seed: int, overlap: Overlap, database: Database, clock: VirtualClock, make: Callable[..., Runs]
    ) -> None:
        self.chance = random.Random(seed)
        self.overlap = overlap
        self.clock = clock
        self.database = database
        self.make = make
        self.running: dict[int, asyncio.Task[None]] = {}
        self.up: list[tuple[datetime, bool]] = [(EPOCH, False)]
        """Whether some producer runs, from when on."""

    async def blocking(self, call: Callable[[], T], /) -> T:
        """The seam: a producer may be killed, or lose the database, before a transaction and after it."""
        await self.clock.sleep(self.chance.uniform(0, 1))
        if self.chance.random() < 0.03:
            raise DatabaseUnavailable("for the test")
        result = call()
        await self.clock.sleep(self.chance.uniform(0, 1))
        if self.chance.random() < 0.03:
            raise DatabaseUnavailable("for the test: and yet it is committed")
        return result

    def start(self, number: int) -> None:
        """Start a producer's scheduler."""
        transactions = Transactions(self.database, self.blocking, self.clock)
        scheduler = Scheduler(transactions, self.make(transactions, (1, 2, 3), 10), lambda: None)
        self.running[number] = asyncio.create_task(scheduler.run())
        self.up.append((self.clock.now(), True))

    def kill(self, number: int) -> None:
        """Kill it, wherever it is."""
        self.running.pop(number).cancel()
        self.up.append((self.clock.now(), bool(self.running)))

    async def live(self) -> None:
        """Let the time of 200 runs pass."""
        wanted = Definition("s", Times(every_s=120), None, 0, "latest", self.overlap)
        self.database.write(lambda connection: storage.add(connection, self.clock.now(), wanted, "api"))
        while self.clock.now() < EPOCH + DUE * EVERY:
            number = self.chance.randrange(3)
            if number in self.running:
                self.kill(number)
            elif self.running or self.chance.random() < 0.3:  # now and then none runs for minutes
                self.start(number)
            if self.chance.random() < 0.4:
                self.finish()
            await self.clock.sleep(self.chance.expovariate(1 / 40))
        self.start(9)
        await self.clock.sleep(EVERY.total_seconds())

    def finish(self) -> None:
        """Be the consumers, who are done with what is open."""
        done = update(Collection).where(Collection.finished_at.is_(None)).values(finished_at=self.clock.now())
        self.database.write(lambda connection: connection.execute(done))

    def ran(self, begin: datetime, end: datetime) -> bool:
        """Whether some producer ran all the time from begin to end."""
        before = [is_up for at, is_up in self.up if at <= begin]
        return before[-1] and all(is_up for at, is_up in self.up if begin < at <= end)


def audit(world: World) -> Counter[str]:
    """How often each outcome was met. Raises AssertionError: a run is missing, doubled or skipped without reason."""

    def read(connection: Connection) -> tuple[list[Any], dict[str, Any], Any]:
        runs = [*connection.execute(select(ScheduledRun.__table__).order_by(ScheduledRun.nominal_at))]
        found = {row.id: row for row in connection.execute(select(Collection.__table__))}
        return runs, found, connection.scalar(select(Schedule.next_at))

    runs, collections, next_at = world.database.read(read)
    passed = [EPOCH + n * EVERY for n in range(1, (next_at - EPOCH) // EVERY)]
    assert [run.nominal_at for run in runs] == passed, "not each time has a run"
    assert len(runs) >= DUE
    started = sorted(run.collection_id for run in runs if run.collection_id is not None)
    assert sorted(collections) == started, "not each run has a collection, or one has more"
    met: Counter[str] = Counter()
    for run in runs:
        if run.collection_id is not None:
            met["made up for" if run.decided_at - run.nominal_at > LATE else "started"] += 1
            assert run.collection_id == f"s:{run.nominal_at:%Y-%m-%dT%H:%MZ}"
            assert collections[run.collection_id].requested_at == run.decided_at
        elif run.reason.startswith("missed"):
            met["missed"] += 1
            assert not world.ran(run.nominal_at, run.nominal_at + IN_TIME), run
        else:
            met["overlap"] += 1
            previous = collections[run.reason.split()[1]]
            assert previous.finished_at is None or previous.finished_at >= run.decided_at
    met["cancelled"] = len([row for row in collections.values() if row.cancelled_at is not None])
    return met


def outcomes(seed: int, overlap: Overlap, template: Path, make: Callable[..., Runs] = Runs) -> Counter[str]:
    """What the audit of a world finds at its end."""
    loop = VirtualLoop()
    clock = VirtualClock(loop)
    with sqlite_again(template) as engine:
        world = World(seed, overlap, Database(engine, clock.of_database), clock, make)
        run_virtually(world.live(), loop)
        return audit(world)


@pytest.mark.parametrize(
    ("overlap", "beside"), [("skip", {"overlap"}), ("queue", set()), ("cancel_previous", {"cancelled"})]
)
def test_each_run_exists_once_and_each_skipped_one_has_its_reason(
    overlap: Overlap, beside: set[str], template: Path
) -> None:
    met = outcomes(1, overlap, template)
    assert {name for name, count in met.items() if count >= 5} == {"started", "made up for", "missed"} | beside


class Forgetful(Runs):
    """Plants a bug: the next time is stored in a transaction of its own, after which the producer may be killed."""

    def decide(self, connection: Connection, name: str) -> Decision | None:
        now = self._transactions.now(connection)
        state = storage.lock(connection, name)
        if state is not None and state.next_at is not None and state.next_at <= now and now.microsecond < 50_000:
            storage.set_next(connection, name, state.times.after(now))
            return None
        return super().decide(connection, name)


class Doubled(Runs):
    """Plants a bug: a run whose start was not confirmed is started under another id."""

    def decide(self, connection: Connection, name: str) -> Decision | None:
        decision = super().decide(connection, name)
        if decision is not None and decision.cities:
            again = select(Collection.__table__).where(Collection.id == decision.runs[-1].collection_id)
            row = connection.execute(again).mappings().one()
            copied = {key: value for key, value in row.items() if key != "standing"} | {"id": "s:again"}
            if connection.scalar(select(Collection.id).where(Collection.id == "s:again")) is None:
                connection.execute(Collection.__table__.insert().values(**copied))  # type: ignore[attr-defined]
        return decision


@pytest.mark.parametrize(("bug", "caught"), [(Forgetful, "not each time"), (Doubled, "one has more")])
def test_the_audit_catches_a_planted_bug(bug: type[Runs], caught: str, template: Path) -> None:
    with pytest.raises(AssertionError, match=caught):
        outcomes(1, "queue", template, bug)
