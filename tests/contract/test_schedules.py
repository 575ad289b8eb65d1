"""Statements of schedules on every database: due runs, once and whole, whoever starts them."""

import asyncio
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Barrier, BrokenBarrierError
from typing import Any

import pytest
from sqlalchemy import Connection, insert, update

from producer.collections import Collections
from producer.schedules import budget, storage
from producer.schedules.budget import Overspent
from producer.schedules.registry import Schedules
from producer.schedules.running import MAX_SKIPPED, Decision, Runs
from producer.schedules.storage import Definition, RunState
from producer.schedules.times import Times
from raingauge.blocking import Threads, inline
from raingauge.clock import SystemClock
from raingauge.database import Database, open_database
from raingauge.database.transactions import Transactions
from raingauge.settings import Settings
from raingauge.storage.models import Batch, Collection, Schedule, ScheduledRun
from tests.contract.storage_support import Moment, at_once, rows, url_of
from tests.contract.test_storage_outbox import analyze, rows_read

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CITIES = tuple(range(1, 31))


class House:
    """Producers on one database, at a time that the test sets."""

    def __init__(self, database: Database) -> None:
        self.clock = Moment(NOON)
        self.database = Database(database.engine, self.clock)

    def runs(self, database: Database | None = None) -> Runs:
        """What a producer decides with."""
        transactions = Transactions(database or self.database, inline, SystemClock())
        return Runs(transactions, default_cities=(7, 8, 9), outstanding=1)

    def add(self, name: str = "s", **fields: Any) -> None:
        """Store a schedule that runs each five minutes."""
        usual: dict[str, Any] = {"times": Times(every_s=300), "city_ids": CITIES, "max_age_s": 0}
        wanted = Definition(name, **usual | {"missed": "latest", "overlap": "skip"} | fields)
        self.database.write(lambda connection: storage.add(connection, self.clock.now, wanted, "api"))

    def at(self, *minutes: float) -> Decision | None:
        """Do what is due so long after noon; one moment after the other, the last decision."""
        for each in minutes:
            self.clock.now = NOON + each * MINUTE
            decision = self.database.write(partial(self.runs().decide, name="s"))
        return decision

    def finish(self) -> None:
        """All collections are done."""
        self.database.write(lambda connection: connection.execute(update(Collection).values(finished_at=NOON)))

    def told(self) -> list[tuple[int, str | None, str | None]]:
        """Each recorded run: minutes after noon, collection, reason."""
        runs = rows(self.database, ScheduledRun)
        return [((run.nominal_at - NOON) // MINUTE, run.collection_id, run.reason) for run in runs]

    def next_at(self) -> datetime | None:
        """When it runs next."""
        [row] = rows(self.database, Schedule)
        at: datetime | None = row.next_at
        return at


@pytest.fixture
def house(database: Database) -> House:
    return House(database)


def test_a_run_is_a_collection_with_its_batches_and_the_next_time(house: House) -> None:
    house.add()
    assert house.at(0) is None
    decision = house.at(5.2)
    assert (decision and decision.cities, house.at(5.2)) == (30, None)
    [collection] = rows(house.database, Collection)
    assert (collection.id, collection.requested_by, collection.total) == ("s:2026-11-20T12:05Z", "schedule:s", 30)
    assert [(batch.size, batch.publish_order) for batch in rows(house.database, Batch)] == [(20, 0), (10, None)]
    assert house.told() == [(5, "s:2026-11-20T12:05Z", None)]
    assert house.next_at() == NOON + 10 * MINUTE


def test_seconds_are_in_the_id_only_where_there_are_some(house: House) -> None:
    house.add(times=Times(every_s=90), city_ids=None, overlap="queue")
    house.at(1.5, 3)
    ids = [row.id for row in rows(house.database, Collection)]
    assert ids == ["s:2026-11-20T12:01:30Z", "s:2026-11-20T12:03Z"]
    assert [batch.city_ids for batch in rows(house.database, Batch)] == ["[7, 8, 9]"] * 2


def test_two_schedulers_at_once_start_a_run_once(house: House) -> None:
    house.add()
    house.clock.now = NOON + 5 * MINUTE
    others = [open_database(url_of(house.database), clock=house.clock) for _ in range(4)]
    works: list[Callable[[], Decision | None]] = [
        partial(database.write, partial(house.runs(database).decide, name="s")) for database in others
    ]
    decided = at_once(works)
    for database in others:
        database.close()
    assert len([decision for decision in decided if decision is not None]) == 1
    assert (len(rows(house.database, Collection)), len(house.told())) == (1, 1)


async def test_two_schedules_at_once_cannot_pass_the_months_budget_together(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    together, check = Barrier(2), budget.check

    def check_together(*arguments: Any) -> None:
        with suppress(BrokenBarrierError):  # as it should be: they cannot check at the same time
            together.wait(0.5)
        check(*arguments)

    async def create(schedules: Schedules, name: str) -> bool:
        wanted = Definition(name, Times(every_s=3600), CITIES, 0, "latest", "skip")
        with suppress(Overspent):
            return (await schedules.create(wanted, any_age=False))[1]
        return False

    monkeypatch.setattr(budget, "check", check_together)
    monkeypatch.setattr("producer.schedules.registry.DEADLINE_S", 30.0)
    with closing(Threads(2, "test")) as threads:
        collections = Collections(Transactions(house.database, threads, SystemClock()), Settings().terms, "account")
        schedules = Schedules(collections, (), 31 * 24 * 45, lambda: None)
        created = await asyncio.gather(*(create(schedules, name) for name in ("a", "b")))
    assert sorted(created) == [False, True]
    assert len(rows(house.database, Schedule)) == 1


@pytest.mark.parametrize(("missed", "made_up"), [("latest", "s:2026-11-20T12:15Z"), ("skip", None)])
def test_of_missed_runs_at_most_the_latest_is_made_up_for(house: House, missed: str, made_up: str | None) -> None:
    house.add(missed=missed)
    house.at(17)
    why = "missed: no producer started it in time"
    assert house.told() == [(5, None, why), (10, None, why), (15, made_up, None if made_up else why)]
    assert house.next_at() == NOON + 20 * MINUTE


def test_a_run_that_is_in_time_is_started_whatever_was_missed(house: House) -> None:
    house.add(missed="skip")
    house.at(10.9)
    assert [run[1] for run in house.told()] == [None, "s:2026-11-20T12:10Z"]


def test_of_thousands_of_missed_runs_the_last_are_recorded(house: House) -> None:
    house.add(missed="skip")
    house.at(5 * 5000 + 2)
    told = house.told()
    assert [run[0] for run in told] == [5 * number for number in range(5001 - MAX_SKIPPED, 5001)]
    earlier = "missed: no producer started it in time; earlier ones were missed, too, and are not recorded"
    assert [run[2] == earlier for run in told] == [True] + [False] * (MAX_SKIPPED - 1)


@pytest.mark.parametrize(
    ("overlap", "second", "cancelled"),
    [
        ("skip", (10, None, "overlap: s:2026-11-20T12:05Z is still open"), [False]),
        ("queue", (10, "s:2026-11-20T12:10Z", None), [False, False]),
        ("cancel_previous", (10, "s:2026-11-20T12:10Z", None), [True, False]),
    ],
)
def test_while_the_previous_run_is_open(
    house: House, overlap: str, second: tuple[int, str | None, str | None], cancelled: list[bool]
) -> None:
    house.add(overlap=overlap)
    house.at(5, 10)
    assert house.told() == [(5, "s:2026-11-20T12:05Z", None), second]
    assert [row.cancelled_at is not None for row in rows(house.database, Collection)] == cancelled


def test_a_run_after_one_that_is_done_is_started(house: House) -> None:
    house.add()
    house.at(5)
    house.finish()
    house.at(10)
    assert [run[1] for run in house.told()] == ["s:2026-11-20T12:05Z", "s:2026-11-20T12:10Z"]


def test_when_the_clock_steps_back_no_run_is_repeated(house: House) -> None:
    house.add(overlap="queue")
    house.at(10)
    assert house.at(3) is None
    house.at(15)
    assert [run[0] for run in house.told()] == [5, 10, 15]
    assert len(rows(house.database, Collection)) == 2


@pytest.mark.parametrize("overlap", ["skip", "cancel_previous"])
def test_a_run_that_is_due_again_after_the_clock_went_back_is_not_repeated(house: House, overlap: str) -> None:
    house.add(overlap=overlap)
    house.at(5.2)
    house.database.write(lambda connection: storage.set_next(connection, "s", NOON + 5 * MINUTE))
    house.at(5.2)
    assert house.told() == [(5, "s:2026-11-20T12:05Z", None)]
    assert [one.cancelled_at for one in rows(house.database, Collection)] == [None]
    assert house.next_at() == NOON + 10 * MINUTE


def test_why_a_time_was_skipped_is_replaced_by_what_became_of_it(house: House) -> None:
    house.add()
    due = NOON + 5 * MINUTE
    for reason in ("its zone is unknown", "it was changed"):
        skipped = RunState(due, due, None, reason)
        house.database.write(lambda connection, run=skipped: storage.record(connection, "s", [run]))  # type: ignore[misc]
        assert house.told() == [(5, None, reason)]
    house.at(5.2)
    assert house.told() == [(5, "s:2026-11-20T12:05Z", None)]


def fill(database: Database, first: int, last: int) -> None:
    """Schedules, a third of them paused; of one many runs, whose collections have ended."""
    usual = {"every_s": 60, "zone": "UTC", "max_age_s": 0, "missed": "skip", "overlap": "skip", "origin": "api"}
    usual |= {"created_at": NOON, "changed_at": NOON}
    schedules = [
        usual | {"name": f"s{n}", "next_at": None if n % 3 == 0 else NOON + n * MINUTE} for n in range(first, last)
    ]
    ids = {NOON + n * MINUTE: f"s1:{n}" for n in range(first, last)}
    runs = [{"schedule": "s1", "nominal_at": at, "decided_at": at, "collection_id": name} for at, name in ids.items()]
    ended = {"max_age_s": 0, "cities_hash": "", "total": 1, "requested_by": "schedule:s1"}
    collections = [ended | {"id": name, "requested_at": at, "finished_at": at} for at, name in ids.items()]
    for table, values in ((Schedule, schedules), (ScheduledRun, runs), (Collection, collections)):
        database.write(lambda connection, t=table, v=values: connection.execute(insert(t), v))  # type: ignore[misc]
    analyze(database, ("schedules", "scheduled_runs", "collections"))


def test_a_round_and_a_page_read_no_more_rows_when_there_are_thousands(database: Database) -> None:
    read = []
    for first, last in ((0, 200), (200, 6000)):
        fill(database, first, last)
        works: list[Callable[[Connection], object]] = [
            *(lambda c: storage.coming(c, 20), lambda c: storage.page(c, "", 20), lambda c: storage.find(c, "s1")),
            *(lambda c: storage.runs(c, "s1", None, 20), lambda c: storage.open_collections(c, "s1")),
        ]
        read.append([rows_read(database, work) for work in works])
    assert all(more < 2 * few + 50 for few, more in zip(*read, strict=True)), read
