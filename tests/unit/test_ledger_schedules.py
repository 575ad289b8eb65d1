"""The ledger under thousands of random schedules, in virtual time: arrivals never exceed Q in any window.

Workers reserve, pause, send, lose answers, close late. An arrival may lie anywhere the rule allows it to.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Connection

from consumer.admission import Grant, NotNow
from consumer.look import Candidate
from consumer.quota import Ledger
from raingauge.pacing import MARGIN_S, SEND_DELAY_S, Pacing, Terms
from raingauge.storage.database import Database
from tests.support.databases import sqlite_copy

EPOCH = datetime(2026, 11, 1, tzinfo=UTC)
SCHEDULES = 1000
SCHEDULES_FOR_A_SEED = 10
PARTS = 10
TIMEOUT_S = 10.0


class Moment:
    """The virtual time that the database tells."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, _connection: Connection | None = None) -> datetime:
        return EPOCH + timedelta(seconds=self.seconds)


@dataclass
class Schedule:
    """One account, several workers, a heap of what happens next."""

    database: Database
    moment: Moment
    account: str
    terms: Terms
    chance: random.Random
    group: bool
    loss: float
    pauses: float
    latency_s: float
    workers: int
    full: bool = False
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    grants: list[int] = field(default_factory=list)
    _heap: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _order: Iterator[int] = field(default_factory=count)
    first_city: int = 1

    def run(self, until: float) -> None:
        start = self.moment.seconds
        self._cities = count(self.first_city)
        for number in range(self.workers):
            ledger = Ledger(
                self.database, self.account, self.terms, "group" if self.group else "single", f"{self.account}-{number}"
            )
            if number == 0:
                ledger.open()
            self.at(start, partial(self.reserve, ledger))
        while self._heap and self._heap[0][0] <= start + until:
            self.moment.seconds, _, happen = heapq.heappop(self._heap)
            happen()

    def at(self, seconds: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (seconds, next(self._order), happen))

    def reserve(self, ledger: Ledger) -> None:
        now = self.moment.seconds
        wanted = 20 if self.full else self.chance.randint(1, 20)
        answer = ledger.reserve([Candidate(next(self._cities), EPOCH) for _ in range(wanted)], together=self.group)
        if isinstance(answer, NotNow):
            self.at(now + answer.seconds + self.chance.random() * 0.001, lambda: self.reserve(ledger))
            return
        assert isinstance(answer, Grant)
        self.grants.append(len(answer.city_ids))
        self.send(ledger, answer, now)

    def send(self, ledger: Ledger, grant: Grant, reserved: float) -> None:
        pause = self.chance.random() * (SEND_DELAY_S + 2) if self.chance.random() < self.pauses else 0.0
        again = reserved + pause
        if pause <= SEND_DELAY_S:
            sent = reserved + pause
            costs = [len(grant.city_ids)] if grant.together else [1] * len(grant.city_ids)
            lost = self.chance.random() < self.loss
            for cost in costs:
                late = TIMEOUT_S + MARGIN_S if lost else self.latency_s
                self.arrivals.append((sent + self.chance.random() * late, cost))
            if not lost:
                again = sent + self.latency_s * (1 + self.chance.random())
                self.at(again, lambda: self.close(ledger, grant))
            else:
                again = sent + TIMEOUT_S
        self.at(again, lambda: self.reserve(ledger))

    def close(self, ledger: Ledger, grant: Grant) -> None:
        self.database.write(lambda connection: ledger.close(connection, [grant]))


def most_in_any_window(arrivals: list[tuple[float, int]], window_s: float) -> int:
    """The largest sum of costs in any half-open window."""
    inside: deque[tuple[float, int]] = deque()
    most = total = 0
    for moment, cost in sorted(arrivals):
        inside.append((moment, cost))
        total += cost
        while inside[0][0] <= moment - window_s:
            total -= inside.popleft()[1]
        most = max(most, total)
    return most


def a_schedule(database: Database, moment: Moment, seed: int) -> Schedule:
    chance = random.Random(seed)
    quota = chance.randint(5, 80)
    window = chance.choice([5.0, 20.0, 60.0])
    pacing: Pacing = chance.choice(["smooth", "burst"])
    return Schedule(
        database,
        moment,
        account=f"seed{seed}",
        first_city=1 + seed * 100_000,
        terms=Terms(quota, window, pacing, 10**9, "none", TIMEOUT_S),
        chance=chance,
        group=chance.random() < 0.6,
        loss=chance.choice([0.0, 0.1, 0.5]),
        pauses=chance.choice([0.0, 0.2]),
        latency_s=chance.choice([0.01, 0.3, 3.0]),
        workers=chance.randint(1, 6),
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seeds" in metafunc.fixturenames:
        schedules = min(SCHEDULES, SCHEDULES_FOR_A_SEED * metafunc.config.getoption("--seeds"))
        metafunc.parametrize("seeds", [range(part, schedules, PARTS) for part in range(PARTS)], ids=str)


def test_no_random_schedule_ever_exceeds_the_quota_in_any_window(template: Path, seeds: range) -> None:
    moment = Moment()
    with sqlite_copy(template, moment) as database:
        for seed in seeds:
            schedule = a_schedule(database, moment, seed)
            schedule.run(until=schedule.terms.window_s * 2.5)
            most = most_in_any_window(schedule.arrivals, schedule.terms.window_s)
            assert most <= schedule.terms.cities_per_window, f"seed {seed}: {most} in one window"
            assert schedule.grants


@pytest.mark.parametrize("pacing", ["smooth", "burst"])
@pytest.mark.parametrize(("full", "group"), [(True, True), (False, True), (True, False)])
def test_a_saturated_quota_is_used_to_99_percent(template: Path, pacing: Pacing, full: bool, group: bool) -> None:
    moment = Moment()
    terms = Terms(60, 60.0, pacing, 10**9, "none", TIMEOUT_S)
    with sqlite_copy(template, moment) as database:
        schedule = Schedule(
            database,
            moment,
            "full",
            terms,
            random.Random(7),
            group,
            loss=0,
            pauses=0,
            latency_s=0.05,
            workers=3,
            full=full,
        )
        windows = 20
        schedule.run(until=60.0 * windows)
    steady = sum(cost for at, cost in schedule.arrivals if 60.0 <= at < 60.0 * windows)
    assert steady >= 0.99 * 60 * (windows - 1)
    assert most_in_any_window(schedule.arrivals, 60.0) <= 60


def test_calls_are_not_shattered_after_hours_of_saturation(template: Path) -> None:
    moment = Moment()
    terms = Terms(60, 60.0, "smooth", 10**9, "none", TIMEOUT_S)
    with sqlite_copy(template, moment) as database:
        schedule = Schedule(
            database,
            moment,
            "hours",
            terms,
            random.Random(3),
            True,
            loss=0,
            pauses=0,
            latency_s=0.2,
            workers=4,
            full=True,
        )
        schedule.run(until=60.0 * 120)
    late = schedule.grants[len(schedule.grants) // 2 :]
    assert sum(late) / len(late) >= 16
