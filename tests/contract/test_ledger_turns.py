"""Whose turn it is when several consumers wait for the same quota, and for whom nothing is spent any more."""

from collections import Counter
from datetime import timedelta
from itertools import count

import pytest
from sqlalchemy import update

from consumer.admission import Grant, NotNow, Over
from consumer.look import Candidate
from consumer.quota import Ledger
from consumer.turns import RECHECK, TURN
from raingauge.pacing import FIRST_FEW
from raingauge.storage.database import Database
from raingauge.storage.models import Collection, QuotaCharge, QuotaTicket
from tests.contract.storage_support import NOW, SECOND, Account, accept, cancel, rows

Reserved = Grant | NotNow
CALL_S = 20.01
"""From one group call to the next, and a little: SQLite holds a millisecond longer."""


class Crowd:
    """Consumers of one account that ask for cities of collections, with a group call each 20 s."""

    def __init__(self, database: Database, *collections: str) -> None:
        self.account = Account(database)
        self.moment = self.account.moment
        self._cities = count(1)
        for name in collections:
            accept(database, name, [1])
            self.progress(name)

    def progress(self, collection: str) -> None:
        """So much of it is stored that it is not new any more."""
        this = update(Collection).where(Collection.id == collection)
        values = {"last_progress_at": self.moment.now, "collected": FIRST_FEW}
        self.account.database.write(lambda c: c.execute(this.values(values)))

    def ask(self, ledger: Ledger, *collections: str) -> Reserved:
        """20 cities of these, in turn."""
        names = [collections[number % len(collections)] for number in range(20)]
        answer = ledger.reserve([Candidate(next(self._cities), NOW, name) for name in names], together=True)
        assert isinstance(answer, Grant | NotNow), answer
        return answer

    def served(self, ledger: Ledger, *collections: str) -> Reserved:
        """The same; what is granted is answered at once, and there is progress."""
        answer = self.ask(ledger, *collections)
        if isinstance(answer, Grant):
            self.account.close(ledger, answer)
            for name in collections:
                self.progress(name)
        return answer

    def got(self, ledger: Ledger, *collections: str) -> bool:
        """Whether they were granted."""
        return isinstance(self.served(ledger, *collections), Grant)


def seconds(wait: Reserved) -> float:
    assert isinstance(wait, NotNow), wait
    return wait.seconds


def test_the_one_who_always_asks_first_is_not_always_served_first(database: Database) -> None:
    crowd = Crowd(database, "big")
    lags = {"near": 0.001, "far": 0.1}
    """How long each takes to the database, seconds."""
    ledgers = {name: crowd.account.ledger(name) for name in lags}
    due = {name: NOW + lag * SECOND for name, lag in lags.items()}
    grants: Counter[str] = Counter()
    while sum(grants.values()) < 24:
        name = min(due, key=due.__getitem__)
        crowd.moment.now = due[name]
        answer = crowd.served(ledgers[name], "big")
        wait_s = answer.seconds if isinstance(answer, NotNow) else 0.0
        grants[name] += isinstance(answer, Grant)
        due[name] += (wait_s + lags[name]) * SECOND
    assert min(grants.values()) >= 11
    assert crowd.moment.now - NOW < 1.01 * 23 * 20 * SECOND


def test_a_collection_without_progress_goes_first_whoever_holds_it(database: Database) -> None:
    crowd = Crowd(database, "big")
    ledgers = [crowd.account.ledger(str(number)) for number in range(8)]
    for _ in range(10):
        for ledger in ledgers:
            crowd.got(ledger, "big")
        crowd.moment.forward(CALL_S)
    assert any(crowd.got(ledger, "big") for ledger in ledgers)
    accept(database, "small", [1], crowd.moment.now)
    assert not crowd.got(ledgers[7], "big", "small")
    crowd.moment.forward(CALL_S)
    assert not any(crowd.got(ledger, "big") for ledger in ledgers[:7])
    assert crowd.got(ledgers[7], "big", "small")


def test_who_does_not_come_for_its_grant_holds_up_the_others_for_a_moment_only(database: Database) -> None:
    crowd = Crowd(database, "big")
    one, gone = crowd.account.ledger("one"), crowd.account.ledger("gone")
    assert crowd.got(one, "big")
    assert seconds(crowd.ask(gone, "big")) == pytest.approx(20)
    crowd.moment.forward(CALL_S)
    answer = crowd.ask(one, "big")
    assert isinstance(answer, NotNow)
    assert answer.reason == "turn"
    assert answer.seconds == pytest.approx(RECHECK.total_seconds())
    crowd.moment.forward(TURN.total_seconds() + 0.001)
    assert crowd.got(one, "big")


def test_a_ticket_lies_no_longer_than_until_the_grant(database: Database) -> None:
    crowd = Crowd(database, "big")
    ledger = crowd.account.ledger("one")
    crowd.got(ledger, "big")
    crowd.ask(ledger, "big")
    ticket = rows(database, QuotaTicket)[0]
    assert (ticket.id, ticket.collection_ids, ticket.taken_at, ticket.due_at) == (
        "one",
        '["big"]',
        NOW,
        NOW + 20 * SECOND,
    )
    crowd.moment.forward(CALL_S)
    assert crowd.got(ledger, "big")
    assert not rows(database, QuotaTicket)


def test_old_tickets_are_forgotten(database: Database) -> None:
    crowd = Crowd(database, "big")
    ledger, gone = crowd.account.ledger("one"), crowd.account.ledger("gone")
    crowd.got(ledger, "big")
    crowd.ask(gone, "big")
    crowd.moment.forward(timedelta(days=1, minutes=1).total_seconds())
    ledger.prune()
    assert not rows(database, QuotaTicket)


def test_one_by_one_the_collection_that_waits_longest_is_asked_for_first(database: Database) -> None:
    crowd = Crowd(database, "big", "other")
    ledger = crowd.account.ledger("one", endpoint="single")
    crowd.moment.forward(1)
    crowd.progress("big")
    wanted = [
        Candidate(1, NOW, "big"),
        Candidate(2, NOW, "other"),
        Candidate(3, NOW, "big"),
        Candidate(4, NOW, "other"),
    ]
    answer = ledger.reserve(wanted, together=True)
    assert isinstance(answer, Grant)
    assert answer.city_ids == (2,)


def test_a_new_collection_gets_its_first_few_in_one_call_beside_a_big_one(database: Database) -> None:
    crowd = Crowd(database, "big")
    ledger = crowd.account.ledger("one")
    assert crowd.got(ledger, "big")
    crowd.moment.forward(CALL_S)
    accept(database, "small", range(1001, 1021), crowd.moment.now)
    wanted = [Candidate(city_id, NOW, "big") for city_id in range(101, 121)]
    wanted += [Candidate(city_id, NOW, "small") for city_id in range(1001, 1021)]
    answer = ledger.reserve(wanted, together=True)
    assert isinstance(answer, Grant)
    assert set(answer.city_ids[:FIRST_FEW]) == set(range(1001, 1001 + FIRST_FEW))
    rest = (20 - FIRST_FEW) / 2
    assert sum(city_id > 1000 for city_id in answer.city_ids) - FIRST_FEW == pytest.approx(rest, abs=0.5)


def test_a_new_collection_goes_before_old_ones_that_wait_long(database: Database) -> None:
    crowd = Crowd(database, *(f"big{number}" for number in range(4)))
    ledger = crowd.account.ledger("one")
    crowd.moment.forward(120)
    accept(database, "small", range(1, 6), crowd.moment.now)
    wanted = [Candidate(100 * number + n, NOW, f"big{number - 1}") for number in range(1, 5) for n in range(10)]
    answer = ledger.reserve(wanted + [Candidate(n, NOW, "small") for n in range(1, 6)], together=True)
    assert isinstance(answer, Grant)
    assert answer.city_ids[:5] == (1, 2, 3, 4, 5)


def test_new_collections_without_end_do_not_keep_an_old_one_waiting_for_longer_than_ten_windows(
    database: Database,
) -> None:
    crowd = Crowd(database, "big")
    ledger = crowd.account.ledger("one")
    big = [Candidate(city_id, NOW, "big") for city_id in range(100_001, 100_021)]
    assert crowd.got(ledger, "big")
    for step in range(1, 31):
        crowd.moment.forward(CALL_S)
        names = [f"new-{step}-{number}" for number in range(4)]
        for name in names:
            accept(database, name, [1], crowd.moment.now)
        wanted = [Candidate(1000 * step + n, NOW, names[n % 4]) for n in range(20)] + big
        answer = ledger.reserve(wanted, together=True)
        assert isinstance(answer, Grant)
        crowd.account.close(ledger, answer)
        served = sum(city_id > 100_000 for city_id in answer.city_ids)
        assert served == (FIRST_FEW if step == 30 else 0)


def test_nothing_is_spent_for_a_cancelled_collection(database: Database) -> None:
    crowd = Crowd(database, "big", "cancelled")
    ledger = crowd.account.ledger("one")
    cancel(database, "cancelled")
    wanted = [Candidate(1, NOW, "big"), Candidate(2, NOW, "cancelled")]
    assert ledger.reserve(wanted, together=True) == Over(frozenset({"cancelled"}))
    assert not rows(database, QuotaCharge)
    assert isinstance(ledger.reserve(wanted[:1], together=True), Grant)


def test_a_consumer_whose_gate_was_changed_spends_nothing_more(database: Database) -> None:
    crowd = Crowd(database, "big")
    ledger = crowd.account.ledger("one")
    crowd.account.unopened("other", cities_per_window=600).open(change=True)
    answer = crowd.ask(ledger, "big")
    assert isinstance(answer, NotNow)
    assert (answer.reason, answer.seconds) == ("terms", 60.0)
