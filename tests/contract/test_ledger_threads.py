"""Many consumers at once, in real time: what is held never exceeds the quota, and none of it is lost between them."""

import random
from collections import deque
from collections.abc import Sequence
from functools import partial
from itertools import count
from typing import Any

import pytest
from sqlalchemy.engine import Row

from consumer.admission import Grant, LeftOut
from consumer.gate import Event
from consumer.look import Candidate
from consumer.quota import Ledger
from raingauge.pacing import Terms
from raingauge.storage.database import Database
from raingauge.storage.models import QuotaCharge, QuotaGate
from tests.contract.storage_support import NOW, at_once, claims, rows

THREADS = 8
RESERVES = 30


def terms(cities_per_window: int, window_s: float, cities_per_month: int = 10**9) -> Terms:
    return Terms(cities_per_window, window_s, "burst", cities_per_month, "none", timeout_s=10.0)


def most_held_at_once(charges: Sequence[Row[Any]]) -> int:
    """The largest sum of costs held at any reservation, replayed from what became of the charges."""
    most = 0
    held: deque[Row[Any]] = deque()
    for charge in sorted(charges, key=lambda row: row.id):
        held.append(charge)
        held = deque(row for row in held if row.release_at > charge.reserved_at)
        most = max(most, sum(row.cost for row in held))
    return most


class Worker:
    """A consumer that reserves again and again, and keeps what it was granted."""

    def __init__(self, database: Database, terms: Terms, number: int) -> None:
        self._database = database
        self._chance = random.Random(number)
        self._city_ids = count(1 + number * 10_000)
        self.ledger = Ledger(database, "account", terms, "group", f"worker-{number}")
        self.grants: list[Grant] = []

    def reserve(self) -> Grant | None:
        candidates = [Candidate(next(self._city_ids), NOW) for _ in range(self._chance.randint(1, 20))]
        answer = self.ledger.reserve(candidates, together=True)
        if not isinstance(answer, Grant):
            return None
        self.grants.append(answer)
        return answer

    def reserve_again_and_again(self) -> None:
        self.ledger.open()
        for _ in range(RESERVES):
            self.reserve()

    def reserve_and_close_again_and_again(self) -> None:
        self.ledger.open()
        for _ in range(RESERVES):
            grant = self.reserve()
            if grant is not None and self._chance.random() < 0.9:
                self._database.write(partial(_close, self.ledger, grant))


def _close(ledger: Ledger, grant: Grant, connection: Any) -> None:
    ledger.close(connection, [grant])


def granted(workers: Sequence[Worker]) -> int:
    return sum(len(grant.city_ids) for worker in workers for grant in worker.grants)


def test_consumers_that_reserve_at_once_get_the_quota_to_the_last_city_and_no_more(database: Database) -> None:
    workers = [Worker(database, terms(1500, 3600.0), number) for number in range(THREADS)]
    at_once([worker.reserve_again_and_again for worker in workers])
    charges = rows(database, QuotaCharge)
    assert granted(workers) == sum(charge.cost for charge in charges) == 1500
    assert most_held_at_once(charges) == 1500
    assert len(rows(database, QuotaGate)) == 1


def test_what_is_released_meanwhile_is_granted_again_but_never_beyond_the_quota(database: Database) -> None:
    quota = 300
    workers = [Worker(database, terms(quota, 0.02), number) for number in range(THREADS)]
    at_once([worker.reserve_and_close_again_and_again for worker in workers])
    charges = rows(database, QuotaCharge)
    assert granted(workers) == sum(charge.cost for charge in charges)
    assert most_held_at_once(charges) <= quota
    assert sum(charge.cost for charge in charges) > quota
    assert [charge.reserved_at for charge in charges] == sorted(charge.reserved_at for charge in charges)


def test_consumers_that_spend_a_month_at_once_spend_it_exactly(database: Database) -> None:
    workers = [Worker(database, terms(10_000, 3600.0, cities_per_month=1500), number) for number in range(THREADS)]
    at_once([worker.reserve_again_and_again for worker in workers])
    assert granted(workers) == 1500
    assert rows(database, QuotaGate)[0].month_spent == 1500


def test_a_city_that_all_want_at_once_is_fetched_by_one(database: Database) -> None:
    workers = [Worker(database, terms(10_000, 3600.0), number) for number in range(THREADS)]
    workers[0].ledger.open()
    same = [Candidate(city_id, NOW) for city_id in range(1, 21)]
    answers = at_once([partial(worker.ledger.reserve, same, together=True) for worker in workers])
    assert [type(answer) for answer in answers].count(Grant) == 1
    assert [answer.claimed for answer in answers if isinstance(answer, LeftOut)] == [frozenset(range(1, 21))] * 7
    assert len(set(claims(database).values())) == 1


def test_of_consumers_that_come_to_an_unknown_endpoint_at_once_one_probes(database: Database) -> None:
    ledgers = [Ledger(database, "account", terms(10_000, 3600.0), "auto", str(number)) for number in range(THREADS)]
    at_once([ledger.open for ledger in ledgers])
    answers = at_once(
        [partial(ledger.reserve, [Candidate(number + 1, NOW)], together=True) for number, ledger in enumerate(ledgers)]
    )
    probes = [answer for answer in answers if isinstance(answer, Grant)]
    assert [probe.call.probe for probe in probes] == [True]


@pytest.mark.parametrize("event", [Event.QUOTA, Event.SILENT])
def test_what_consumers_report_at_once_is_counted_rightly(database: Database, event: Event) -> None:
    workers = [Worker(database, terms(10_000, 3600.0), number) for number in range(THREADS)]
    workers[0].ledger.open()
    grants = [worker.reserve() for worker in workers]
    works = [
        partial(worker.ledger.report, grant, event) for worker, grant in zip(workers, grants, strict=True) if grant
    ]
    at_once(works)
    (gate,) = rows(database, QuotaGate)
    assert len(works) == THREADS
    assert (gate.state, gate.strikes) == {Event.QUOTA: ("quota", 1), Event.SILENT: ("provider", 3)}[event]
