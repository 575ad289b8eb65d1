"""Many consumers at once, in real time: what is held never exceeds the quota, and no city is charged twice."""

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy.engine import Row

from consumer.gate import EndpointSetting, Event
from consumer.ledger import Reservation
from raingauge.database import Database
from raingauge.quota.pacing import Terms
from raingauge.storage.models import QuotaCharge, QuotaGate
from tests.contract.ledger_support import TERMS, Account, Consumer, assert_exact
from tests.contract.storage_support import at_once, rows

THREADS = 8


def most_held_at_once(charges: Sequence[Row[Any]], window_s: float) -> int:
    """The largest sum of costs held at any reservation, replayed from what became of the charges."""
    most = 0
    held: deque[Row[Any]] = deque()
    for charge in sorted(charges, key=lambda row: row.id):
        held.append(charge)
        held = deque(row for row in held if (charge.reserved_at - row.ends_at).total_seconds() < window_s)
        most = max(most, sum(row.cost for row in held))
    return most


class Worker(Consumer):
    """A consumer that reserves until nothing may go any more, and settles what it is granted."""

    def __init__(self, database: Database, number: int, terms: Terms, endpoint: EndpointSetting) -> None:
        super().__init__(database, "account", terms, endpoint, f"worker-{number}")
        self._chance = random.Random(number)
        self.taken: list[Reservation] = []

    def reserve_once(self) -> Reservation | None:
        answer = self.reserve(self._chance.randint(1, 3))
        if isinstance(answer, Reservation) and answer.charge_id is not None:
            self.taken.append(answer)
            return answer
        return None

    def work(self, settles: bool, tries: int = 12) -> None:
        self.open()
        for _ in range(tries):
            taken = self.reserve_once()
            if taken is not None and settles:
                self.settle(taken)


def workers_on(database: Database, cities: int, endpoint: EndpointSetting = "group", **terms: Any) -> list[Worker]:
    """Consumers, and two collections that want the same cities."""
    for name in ("one", "two"):
        Account(database).want(name, range(1, cities + 1))
    return [Worker(database, number, replace(TERMS, **terms), endpoint) for number in range(THREADS)]


def charged_once(workers: Sequence[Worker]) -> int:
    """How many cities were charged: each of them once."""
    cities = [city_id for worker in workers for taken in worker.taken for city_id in taken.city_ids]
    assert len(cities) == len(set(cities))
    return len(cities)


@pytest.mark.parametrize("limits", [{"cities_per_window": 300}, {"cities_per_window": 10_000, "cities_per_month": 300}])
def test_consumers_that_reserve_at_once_get_the_quota_to_the_last_city_and_no_more(
    database: Database, limits: dict[str, Any]
) -> None:
    workers = workers_on(database, 500, **limits, window_s=3600.0)
    at_once([partial(worker.work, settles=False) for worker in workers])
    charges = rows(database, QuotaCharge)
    assert charged_once(workers) == sum(charge.cost for charge in charges) == 300
    assert most_held_at_once(charges, 3600.0) == 300
    (gate,) = rows(database, QuotaGate)
    assert gate.month_spent == 300


def test_what_is_released_meanwhile_is_granted_again_but_never_beyond_the_quota(database: Database) -> None:
    workers = workers_on(database, 800, cities_per_window=100, window_s=0.05)
    at_once([partial(worker.work, settles=True, tries=25) for worker in workers])
    charges = rows(database, QuotaCharge)
    assert most_held_at_once(charges, 0.05) <= 100 < charged_once(workers)
    assert [charge.reserved_at for charge in charges] == sorted(charge.reserved_at for charge in charges)
    assert_exact(database)


def test_of_consumers_that_find_an_unknown_endpoint_at_once_one_probes(database: Database) -> None:
    workers = workers_on(database, 100, "auto", cities_per_window=10_000)
    at_once([worker.open for worker in workers])
    probes = [taken for taken in at_once([worker.reserve_once for worker in workers]) if taken]
    assert [(probe.plan.probe, len(probe.city_ids)) for probe in probes] == [(True, 1)]


@pytest.mark.parametrize(("event", "found"), [(Event.QUOTA, ("quota", 1)), (Event.SILENT, ("provider", 3))])
def test_what_consumers_report_at_once_is_counted_rightly(
    database: Database, event: Event, found: tuple[str, int]
) -> None:
    workers = workers_on(database, 200, cities_per_window=10_000)
    workers[0].open()
    calls = [(worker, worker.take()) for worker in workers]
    at_once([partial(worker.report, taken, event) for worker, taken in calls])
    (gate,) = rows(database, QuotaGate)
    assert (gate.state, gate.strikes) == found
