"""Which candidates need no call, what a grant holds for whom, and consumers that share a gate."""

import json
from datetime import timedelta

import pytest

from consumer.admission import Grant, LeftOut
from consumer.look import NEVER, Candidate
from consumer.quota import Ledger
from raingauge.errors import GateMismatch
from raingauge.storage import cities
from raingauge.storage.database import Database
from raingauge.storage.models import QuotaCharge, QuotaGate
from raingauge.storage.wanted import UNKNOWN_FOR
from tests.contract.storage_support import (
    MICROSECOND,
    NOW,
    SECOND,
    TERMS,
    Account,
    an_observation,
    claims,
    milliseconds,
    rows,
)

CLAIM = timedelta(seconds=25)


def wanted(*city_ids: int, max_age_s: int = 0) -> list[Candidate]:
    return [Candidate(city_id, NOW - max_age_s * SECOND) for city_id in city_ids]


def left_out(ledger: Ledger, candidates: list[Candidate]) -> tuple[list[int], list[int]]:
    """The fresh and the claimed ones: it is an error if none is left out."""
    answer = ledger.reserve(candidates, together=True)
    assert isinstance(answer, LeftOut), answer
    return sorted(answer.fresh), sorted(answer.claimed)


def granted(ledger: Ledger, candidates: list[Candidate]) -> Grant:
    answer = ledger.reserve(candidates, together=True)
    assert isinstance(answer, Grant), answer
    return answer


def observe(database: Database, *city_ids: int, seconds_ago: float = 0) -> None:
    seen = [an_observation(city_id) for city_id in city_ids]
    at = NOW - timedelta(seconds=seconds_ago)
    database.write(lambda connection: cities.remember(connection, {o.city_id: (at, o) for o in seen}, {}))


def burst(database: Database) -> tuple[Account, Ledger, Ledger]:
    account = Account(database, pacing="burst")
    return account, account.ledger("one"), account.ledger("two")


def test_a_grant_takes_the_first_candidates_in_their_order_and_claims_them(database: Database) -> None:
    account, ledger, _ = burst(database)
    account.take(ledger)
    account.take(ledger)
    grant = granted(ledger, wanted(*range(1040, 1010, -1))[:20])
    assert grant.city_ids == tuple(range(1040, 1020, -1))
    charge = account.charge(grant)
    assert json.loads(charge.cities) == list(grant.city_ids)
    assert (charge.cost, charge.reserved_at, charge.consumer, charge.account) == (20, NOW, "one", "account")


def test_only_what_is_granted_is_claimed(database: Database) -> None:
    account = Account(database, cities_per_window=3)
    assert granted(account.ledger(), wanted(5, 4, 3, 2, 1)).city_ids == (5, 4, 3)
    assert claims(database) == dict.fromkeys([3, 4, 5], "one")


def test_cities_fetched_meanwhile_are_left_out_and_nothing_is_charged(database: Database) -> None:
    _, ledger, _ = burst(database)
    observe(database, 1, 2, seconds_ago=60)
    observe(database, 3, seconds_ago=61)
    assert left_out(ledger, wanted(1, 2, 3, 4, max_age_s=60)) == ([1, 2], [])
    assert rows(database, QuotaCharge) == []
    assert granted(ledger, wanted(3, 4, max_age_s=60)).city_ids == (3, 4)


def test_a_city_that_was_found_unknown_is_left_out_for_a_day(database: Database) -> None:
    account, ledger, _ = burst(database)
    database.write(lambda connection: cities.remember(connection, {}, {1: NOW}))
    assert left_out(ledger, wanted(1, 2)) == ([1], [])
    account.moment.now = NOW + UNKNOWN_FOR
    assert left_out(ledger, wanted(1, 2)) == ([1], [])
    account.moment.now += MICROSECOND
    assert granted(ledger, wanted(1, 2)).city_ids == (1, 2)


def test_a_city_that_is_to_be_asked_for_in_any_case_is_though_it_was_found_unknown(database: Database) -> None:
    _, ledger, _ = burst(database)
    observe(database, 1)
    database.write(lambda connection: cities.remember(connection, {}, {1: NOW}))
    assert granted(ledger, [Candidate(1, NEVER)]).city_ids == (1,)


def test_each_candidate_is_fresh_by_its_own_measure(database: Database) -> None:
    _, ledger, _ = burst(database)
    observe(database, 1, 2, seconds_ago=30)
    candidates = [*wanted(1, max_age_s=29), *wanted(2, max_age_s=30)]
    assert left_out(ledger, candidates) == ([2], [])


def test_cities_that_another_consumer_fetches_are_left_out_until_its_claim_ends(database: Database) -> None:
    account, one, two = burst(database)
    granted(one, wanted(1, 2))
    assert left_out(two, wanted(1, 2, 3)) == ([], [1, 2])
    account.moment.now = NOW + CLAIM - MICROSECOND
    assert left_out(two, wanted(1, 3)) == ([], [1])
    account.moment.now = NOW + CLAIM
    assert granted(two, wanted(1, 3)).city_ids == (1, 3)
    assert len(rows(database, QuotaCharge)) == 2


def test_a_claim_lasts_no_longer_when_the_window_is_made_shorter(database: Database) -> None:
    account = Account(database, pacing="burst", window_s=3600.0)
    granted(account.ledger("one"), wanted(1))
    changer = account.unopened("two", window_s=60.0)
    changer.open(change=True)
    account.moment.now = NOW + CLAIM - MICROSECOND
    assert left_out(changer, wanted(1)) == ([], [1])
    account.moment.now = NOW + CLAIM
    assert granted(changer, wanted(1)).city_ids == (1,)


def test_a_consumers_own_claims_do_not_hinder_it(database: Database) -> None:
    _, one, _ = burst(database)
    granted(one, wanted(1, 2))
    assert granted(one, wanted(2, 3)).city_ids == (2, 3)


def test_a_city_that_is_fresh_and_claimed_is_fresh(database: Database) -> None:
    _, one, two = burst(database)
    granted(one, wanted(1, 2))
    observe(database, 1)
    assert left_out(two, wanted(1, 2)) == ([1], [2])


def test_a_claimed_city_beyond_what_is_allowed_now_does_not_matter(database: Database) -> None:
    account = Account(database, cities_per_window=4, pacing="burst")
    granted(account.ledger("one"), wanted(9))
    assert granted(account.ledger("two"), wanted(1, 2, 3, 9)).city_ids == (1, 2, 3)


def test_no_claims_are_looked_at_before_the_quota_allows_a_call(database: Database) -> None:
    account = Account(database)
    one, two = account.ledger("one"), account.ledger("two")
    account.take(one)
    assert account.refused(two).reason == "pace"


def test_two_consumers_share_the_quota_of_their_account(database: Database) -> None:
    account, one, two = burst(database)
    assert [len(account.take(ledger).city_ids) for ledger in (one, two, one)] == [20, 20, 20]
    assert account.refused(two).seconds == milliseconds(60)
    assert [row.consumer for row in rows(database, QuotaCharge)] == ["one", "two", "one"]


def test_two_consumers_share_the_pace_of_their_account(database: Database) -> None:
    account = Account(database)
    one, two = account.ledger("one"), account.ledger("two")
    account.take(one)
    assert account.refused(two).seconds == milliseconds(20)
    account.moment.forward(20)
    account.take(two)
    assert account.refused(one).seconds == milliseconds(20)


@pytest.mark.parametrize("name", ["Account", "other"])
def test_accounts_do_not_touch_each_other(database: Database, name: str) -> None:
    account, one, _ = burst(database)
    other = Ledger(account.database, name, account.terms, "group", "one")
    other.open()
    for _ in range(3):
        account.take(one)
    account.close(one, account.take(other))
    assert [len(account.take(other).city_ids) for _ in range(2)] == [20, 20]
    account.moment.forward(3 * 86_400)
    other.prune()
    assert [row.account for row in rows(database, QuotaCharge)] == ["account"] * 3
    other.shut()
    assert len(account.take(one).city_ids) == 20


def test_a_gate_that_is_gone_is_said_so(database: Database) -> None:
    ledger = Ledger(database, "account", TERMS, "group", "one")
    for work in (lambda: ledger.reserve(wanted(1), together=True), ledger.shut, lambda: ledger.set_month(1)):
        with pytest.raises(GateMismatch, match="the gate of account account"):
            work()
    assert rows(database, QuotaGate) == []
