"""What the tests of the quota, the queue and settling share: an account in virtual database time, and its consumers."""

from collections import Counter
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import count
from typing import Any, Final, TypeVar

import pytest
from sqlalchemy import Connection
from sqlalchemy.engine import Row

from consumer.control import GateControl
from consumer.gate import EndpointSetting, Event
from consumer.ledger import Ledger, NotNow, Reservation
from raingauge.blocking import inline
from raingauge.database import Database
from raingauge.database.transactions import Transactions
from raingauge.model import BatchKey
from raingauge.quota.pacing import Terms
from raingauge.storage import enqueueing, quota, settling
from raingauge.storage.cities import remember
from raingauge.storage.models import Batch, Collection, QuotaCharge, QuotaGate, Reading
from raingauge.storage.settling import Fetched, Settled
from tests.contract.storage_support import NOW, Moment, accept, an_observation, cancel, rows

T = TypeVar("T")

TERMS: Final = Terms(60, 60.0, "burst", 10**9, "none", timeout_s=10.0)
CLAIM_S: Final = 25.0
"""D + T + M of these terms."""
WORST_S: Final = 85.0
"""D + T + M + W."""


class StillClock:
    """A clock on which no reservation takes any time."""

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("the database is there")


def finish(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("it waits")


def milliseconds(seconds: float) -> Any:
    """About that many seconds: within five milliseconds."""
    return pytest.approx(seconds, abs=0.005)


def rest_two_seconds(attempts: int) -> float | None:
    """How long a city rests in these tests: two seconds, and it is given up after three failures."""
    return 2.0 if attempts < 3 else None


def assert_exact(database: Database) -> None:
    """The counters of collections and batches are what the readings say."""
    status = Counter((row.collection_id, row.status) for row in rows(database, Reading))
    settled = Counter(row.collection_id for row in rows(database, Reading))
    for row in rows(database, Collection):
        assert (row.collected, row.failed) == (status[row.id, "collected"], status[row.id, "failed"])
        assert row.cancelled_at or (row.finished_at is not None) == (row.collected + row.failed == row.total)
    for row in rows(database, Batch):
        settled[row.collection_id] -= row.settled
        assert (row.settled_at is not None) == (row.settled == row.size)
    assert not any(settled.values())


class Consumer:
    """One consumer of an account; what it does is done when its methods return."""

    def __init__(
        self,
        database: Database,
        account: str,
        terms: Terms,
        endpoint: EndpointSetting = "group",
        name: str = "one",
        key_hash: str | None = None,
    ) -> None:
        self.database = database
        transactions = Transactions(database, inline, StillClock())
        self.ledger = Ledger(transactions, StillClock(), account, terms, endpoint, name, key_hash)
        self.control = GateControl(transactions, account, terms)

    def open(self) -> None:
        """Create the gate, or check it."""
        finish(self.ledger.open())

    def reserve(self, calls: int = 1) -> Reservation | NotNow:
        """What the ledger answers."""
        return finish(self.ledger.reserve(calls))

    def take(self, calls: int = 1) -> Reservation:
        """A charge: it is an error if there is none."""
        answer = self.reserve(calls)
        assert isinstance(answer, Reservation), answer
        assert answer.charge_id is not None, answer
        return answer

    def refused(self) -> NotNow:
        """Why nothing may go now: it is an error if something may."""
        answer = self.reserve()
        assert isinstance(answer, NotNow), answer
        return answer

    def report(self, taken: Reservation, event: Event, retry_after_s: float | None = None) -> Mapping[str, Any]:
        """Record at the gate what became of a call."""
        return finish(self.ledger.report(taken.plan, event, retry_after_s))

    def close(self, taken: Reservation) -> None:
        """The answers are in."""
        charge_id = taken.charge_id or 0
        self.database.write(lambda c: quota.close_charge(c, charge_id, taken.reserved_at, self.database.now(c)))

    def settle(self, taken: Reservation, **kinds: Iterable[int]) -> Settled:
        """Settle and close a charge: weather for its cities, but for those given as unknown, failed, split or lost."""
        other = {kind: frozenset(cities) for kind, cities in kinds.items()}
        left_out = frozenset().union(*other.values())
        other.pop("lost", None)
        seen = {city_id: an_observation(city_id) for city_id in taken.city_ids if city_id not in left_out}
        fetched = Fetched(
            taken.charge_id or 0,
            taken.city_ids,
            taken.reserved_at,
            seen,
            counts=taken.gate_was_untroubled,
            probe=taken.plan.probe,
            **other,
        )
        return self.settle_fetched(fetched)

    def settle_fetched(self, fetched: Fetched) -> Settled:
        """Settle what calls brought, and close their charge."""

        def work(connection: Connection) -> Settled:
            now = self.database.now(connection)
            settled = settling.settle(connection, now, fetched, rest_two_seconds)
            quota.close_charge(connection, fetched.charge_id, fetched.fetched_at, now)
            return settled

        return self.database.write(work)


class Account:
    """A provider account in virtual time: its consumers, and the collections that they work on."""

    def __init__(self, database: Database, now: datetime = NOW, name: str = "account", **terms: Any) -> None:
        self.moment = Moment(now)
        self.database = Database(database.engine, self.moment)
        self.name = name
        self.terms = replace(TERMS, **terms)
        self._new_city = count(1_000_000)

    def unopened(
        self, name: str = "one", endpoint: EndpointSetting = "group", key_hash: str | None = None, **terms: Any
    ) -> Consumer:
        """A consumer before it has looked at the gate."""
        return Consumer(self.database, self.name, replace(self.terms, **terms), endpoint, name, key_hash)

    def consumer(
        self, name: str = "one", endpoint: EndpointSetting = "group", key_hash: str | None = None, **terms: Any
    ) -> Consumer:
        """A consumer."""
        consumer = self.unopened(name, endpoint, key_hash, **terms)
        consumer.open()
        return consumer

    def post(self, name: str, city_ids: Sequence[int], max_age_s: int = 600) -> list[BatchKey]:
        """Have a collection; its batches."""
        return accept(self.database, name, city_ids, self.moment.now, max_age_s)

    def enqueue(self, keys: Sequence[BatchKey], failing: str | None = None) -> Settled:
        """Put batches into the queue, as the intake does."""

        def work(connection: Connection) -> Settled:
            gate = quota.find_gate(connection, self.name)
            turn = 0 if gate is None else gate.turn
            return enqueueing.enqueue(connection, self.database.now(connection), self.name, turn, keys, failing)

        return self.database.write(work)

    def want(self, name: str, city_ids: Sequence[int], max_age_s: int = 600) -> Settled:
        """Post a collection and enqueue all of it."""
        return self.enqueue(self.post(name, city_ids, max_age_s))

    def want_new(self, number: int) -> None:
        """Want that many cities that nobody wanted before."""
        city_ids = [next(self._new_city) for _ in range(number)]
        self.want(f"new-{city_ids[0]}", city_ids)

    def cancel(self, name: str) -> None:
        """End a collection before it is settled."""
        cancel(self.database, name, self.moment.now)

    def remember(self, *observed: int, unknown: Sequence[int] = (), at: datetime = NOW) -> None:
        """Have weather of these cities that was fetched at that moment, and others that the provider did not know."""
        seen = {city_id: an_observation(city_id) for city_id in observed}
        self.database.write(lambda connection: remember(connection, seen, unknown, at))

    def collection(self, name: str) -> Row[Any]:
        """The row of a collection."""
        return next(row for row in rows(self.database, Collection) if row.id == name)

    def charge(self, taken: Reservation) -> Row[Any]:
        """The row of a charge."""
        return next(row for row in rows(self.database, QuotaCharge) if row.id == taken.charge_id)

    @property
    def gate(self) -> Row[Any]:
        """The row of the gate."""
        return next(row for row in rows(self.database, QuotaGate) if row.account == self.name)
