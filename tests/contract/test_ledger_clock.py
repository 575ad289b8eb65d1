"""When the database's clock or its past cannot be trusted: the gate stays closed until no call is in the window."""

from datetime import datetime, timedelta

import pytest

from consumer.admission import LeftOut
from consumer.gate import Event
from consumer.quota import Ledger
from raingauge.storage.database import Database
from raingauge.storage.models import QuotaCharge, QuotaGate
from tests.contract.storage_support import MICROSECOND, NOW, Account, claims, milliseconds, rows

WORST_S = 85.0


def burst(database: Database) -> tuple[Account, Ledger]:
    account = Account(database, pacing="burst")
    return account, account.ledger()


def releases(database: Database) -> list[datetime]:
    return [row.release_at for row in rows(database, QuotaCharge)]


def seconds_and_reason(account: Account, ledger: Ledger) -> tuple[float, str]:
    answer = account.refused(ledger, 1)
    return answer.seconds, answer.reason


def test_a_gate_shut_by_hand_opens_after_the_longest_hold(database: Database) -> None:
    account, ledger = burst(database)
    ledger.shut()
    assert seconds_and_reason(account, ledger) == (milliseconds(WORST_S), "database")
    account.moment.forward(WORST_S - 0.001)
    assert seconds_and_reason(account, ledger) == (milliseconds(0.001), "database")
    account.moment.forward(0.001)
    assert len(account.take(ledger).city_ids) == 20
    assert [(row.state, row.strikes) for row in rows(database, QuotaGate)] == [("open", 0)]


def test_shutting_forgets_no_charge(database: Database) -> None:
    account, ledger = burst(database)
    for _ in range(3):
        account.take(ledger)
    before = rows(database, QuotaCharge)
    ledger.shut()
    assert rows(database, QuotaCharge) == before


@pytest.mark.parametrize("event", list(Event))
def test_an_answer_to_an_earlier_call_does_not_open_a_gate_that_was_shut(database: Database, event: Event) -> None:
    account, ledger = burst(database)
    first, second, third = (account.take(ledger, 1) for _ in range(3))
    ledger.report(first, Event.SILENT)
    ledger.shut()
    for grant in (first, second, third):
        ledger.report(grant, event, retry_after_s=1.0)
        assert account.refused(ledger, 1).seconds >= WORST_S - 0.001


@pytest.mark.parametrize("back_s", [0.5, 2.0])
def test_a_clock_a_little_behind_stands_still_for_the_ledger(database: Database, back_s: float) -> None:
    account, ledger = burst(database)
    account.take(ledger)
    before = releases(database)
    account.moment.forward(-back_s)
    grant = account.take(ledger)
    assert grant.reserved_at == NOW
    assert releases(database) == before * 2
    account.close(ledger, grant)
    assert account.charge(grant).closed_at == NOW
    assert [(row.state, row.last_now) for row in rows(database, QuotaGate)] == [("open", NOW)]


@pytest.mark.parametrize("back", [timedelta(seconds=2) + 1000 * MICROSECOND, timedelta(hours=3), timedelta(days=40)])
def test_a_clock_that_stepped_back_closes_the_gate_and_clips_what_is_held(database: Database, back: timedelta) -> None:
    account, ledger = burst(database)
    kept = account.take(ledger)
    account.take(ledger)
    account.moment.forward(-10)
    account.moment.now += timedelta(seconds=10) - back
    stepped = account.moment.now
    assert seconds_and_reason(account, ledger) == (milliseconds(WORST_S), "database")
    until = stepped + timedelta(seconds=WORST_S)
    assert releases(database) == [until, until]
    (gate,) = rows(database, QuotaGate)
    assert (gate.state, gate.last_now, gate.blocked_until, gate.next_start_at) == ("database", stepped, until, stepped)
    account.moment.forward(50)
    account.close(ledger, kept)
    assert account.charge(kept).release_at <= until
    assert seconds_and_reason(account, ledger) == (milliseconds(WORST_S - 50), "database")
    account.moment.now = until
    assert [len(account.take(ledger).city_ids) for _ in range(3)] == [20] * 3


def test_a_clock_that_stepped_back_lengthens_no_hold(database: Database) -> None:
    account, ledger = burst(database)
    grant = account.take(ledger)
    account.close(ledger, grant)
    release_at = account.charge(grant).release_at
    account.moment.forward(60)
    account.take(ledger)
    account.moment.forward(-20)
    account.refused(ledger)
    assert releases(database) == [release_at, account.moment.now + timedelta(seconds=WORST_S)]


def test_a_probe_from_before_a_step_back_does_not_block_the_next(database: Database) -> None:
    account = Account(database)
    ledger = account.ledger(endpoint="auto")
    assert account.take(ledger).call.probe
    account.moment.forward(-3 * 3600)
    account.refused(ledger)
    account.moment.forward(WORST_S)
    assert account.take(ledger).call.probe


def test_a_claim_from_before_a_step_back_ends_with_the_charges(database: Database) -> None:
    account, ledger = burst(database)
    cities = account.candidates(3)
    ledger.reserve(cities, together=True)
    other = account.ledger("other")
    account.moment.forward(-3 * 3600)
    account.refused(other)
    account.moment.forward(WORST_S)
    assert not isinstance(other.reserve(cities, together=True), LeftOut)
    assert {claims(database)[city.city_id] for city in cities} == {"other"}
