"""What a reservation finds under the gate's lock, on every database, by its own clock and by one that it is told."""

from datetime import timedelta

import pytest
from sqlalchemy import Connection, insert

from consumer.account import Account as LedgerAccount
from consumer.admission import Grant
from consumer.look import Candidate, Known, Look, Open, Ticket, UnderWay, look
from consumer.quota import Ledger
from consumer.turns import TURN
from raingauge.storage.cities import remember
from raingauge.storage.database import Database
from raingauge.storage.gate import held
from raingauge.storage.models import QuotaCharge, QuotaTicket
from tests.contract.storage_support import (
    MICROSECOND,
    NOW,
    SECOND,
    Account,
    accept,
    an_observation,
    cancel,
    claim,
    rows,
)

MILLISECOND = SECOND / 1000


def found(account: Account, *candidates: Candidate, consumer: str = "one") -> Look:
    one = LedgerAccount(account.database, "account", account.terms, "group", consumer)
    return account.database.write(lambda c: look(c, one, candidates, patience=TURN))


def by_its_own_clock(database: Database) -> Account:
    account = Account(database, window_s=3600.0, pacing="burst")
    account.database = Database(database.engine)
    return account


def test_it_reads_the_databases_own_clock_and_what_is_held_at_that_moment(database: Database) -> None:
    account = by_its_own_clock(database)
    ledger = account.ledger()
    account.close(ledger, account.take(ledger, 7))
    account.take(ledger, 5)
    before = account.database.read(account.database.now)
    seen = found(account, Candidate(1, NOW))
    after = account.database.read(account.database.now)
    assert before <= seen.read_at <= after
    assert seen.now == seen.read_at
    assert seen.held == 12 == account.database.read(lambda c: held(c, "account", seen.now))


def test_a_charge_is_ended_by_the_databases_own_clock(database: Database) -> None:
    account = by_its_own_clock(database)
    ledger = account.ledger()
    grant = account.take(ledger)
    before = account.database.read(account.database.now)
    account.close(ledger, grant)
    after = account.database.read(account.database.now)
    [charge] = rows(database, QuotaCharge)
    assert before <= charge.closed_at <= after
    rounded_up = 2 * MILLISECOND if database.dialect == "sqlite" else timedelta()
    assert charge.release_at == charge.closed_at + timedelta(hours=1) + rounded_up


def test_a_clock_that_is_behind_does_not_take_the_ledger_back(database: Database) -> None:
    account = Account(database, pacing="burst")
    ledger = account.ledger()
    grant = account.take(ledger, 3)
    account.moment.forward(-1)
    seen = found(account, Candidate(1, NOW))
    assert (seen.read_at, seen.now) == (NOW - SECOND, NOW)
    account.close(ledger, grant)
    [charge] = rows(database, QuotaCharge)
    assert charge.closed_at == NOW
    assert NOW <= charge.release_at - timedelta(seconds=account.terms.window_s) <= NOW + 2 * MILLISECOND


@pytest.mark.parametrize(("later_s", "expected"), [(0.0, 20), (84.999, 20), (85.0, 0)])
def test_what_is_released_at_a_moment_is_held_until_then(database: Database, later_s: float, expected: int) -> None:
    account = Account(database, pacing="burst")
    account.take(account.ledger())
    account.moment.forward(later_s)
    assert found(account, Candidate(1, NOW)).held == expected


def test_what_is_held_is_told_for_the_moment_at_which_the_pace_lets_the_next_call_go(database: Database) -> None:
    account = Account(database)  # smooth: the next call starts 20 s later
    ledger = account.ledger()
    account.close(ledger, account.take(ledger))
    account.moment.forward(41)
    account.take(ledger)
    account.moment.forward(1)
    # At 42 s both are held; at 61 s, when the next may go, only the second is.
    assert found(account, Candidate(1, NOW)).held == 20


def test_it_tells_of_cities_that_were_fetched_or_found_unknown_or_are_claimed_by_others(database: Database) -> None:
    account = Account(database)
    account.ledger()
    until = NOW + 25 * SECOND

    def prepare(connection: Connection) -> None:
        remember(connection, {1: (NOW, an_observation(1)), 2: (NOW - SECOND, an_observation(2))}, {6: NOW})
        claim(connection, [3], "one", until)
        claim(connection, [4], "two", until)
        claim(connection, [5], "two", NOW)

    account.database.write(prepare)
    seen = found(account, *(Candidate(city_id, NOW) for city_id in range(1, 7)))
    assert seen.cities == {1: Known(NOW), 6: Known(None, NOW)}
    assert (seen.claimed, seen.claimed_here) == (frozenset({4}), frozenset({3}))


def test_it_tells_of_the_collections_that_are_open_and_of_the_tickets_that_count(database: Database) -> None:
    account = Account(database)
    account.ledger()
    accept(database, "open", [1])
    accept(database, "cancelled", [1])
    cancel(database, "cancelled")
    due = NOW - TURN
    ticket = {"id": "two", "account": "account", "collection_ids": '["open"]', "taken_at": due, "due_at": due}
    tickets = [ticket, ticket | {"id": "3", "account": "other"}, ticket | {"id": "4", "due_at": due - MICROSECOND}]
    account.database.write(lambda c: c.execute(insert(QuotaTicket), tickets))
    seen = found(account, Candidate(1, NOW, "open"), Candidate(2, NOW, "cancelled"), Candidate(3, NOW))
    assert seen.collections == {"open": Open(NOW, None, 0)}
    assert seen.tickets == [Ticket("two", ("open",), due, due, None)]


def test_it_tells_for_which_collections_calls_are_under_way(database: Database) -> None:
    account = Account(database, pacing="burst")
    one, two = account.ledger("one"), account.ledger("two")
    accept(database, "a", [1])
    accept(database, "b", [2])
    answered, open_one = (
        granted(one, Candidate(10, NOW, "a")),
        granted(two, Candidate(11, NOW, "a"), Candidate(12, NOW, "b"), Candidate(13, NOW)),
    )
    account.close(one, answered)
    assert open_one.city_ids == (11, 12, 13)
    assert found(account, Candidate(1, NOW, "a")).under_way == [UnderWay("two", {"a": 1, "b": 1}, [11, 12, 13])]


def granted(ledger: Ledger, *candidates: Candidate) -> Grant:
    answer = ledger.reserve(candidates, together=True)
    assert isinstance(answer, Grant), answer
    return answer
