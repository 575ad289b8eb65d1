"""The ledger grants what the quota allows and says exactly when the next may go: pace, holds, closing, sharing."""

from datetime import timedelta
from typing import Any

import pytest

from consumer.admission import Grant
from consumer.quota import Ledger
from raingauge.errors import GateMismatch
from raingauge.storage.database import Database
from raingauge.storage.models import QuotaCharge, QuotaGate
from tests.contract.storage_support import MICROSECOND, NOW, SECOND, Account, milliseconds, rows

MILLISECOND = SECOND / 1000
WORST_S = 85.0
LOOK_S = 60.0
"""An open charge that closes now is released in a window: then it is worth looking again."""
"""D + T + M + W of the terms here."""
CLAIM_S = 25.0


def charges(database: Database) -> list[int]:
    return [row.cost for row in rows(database, QuotaCharge)]


# -- opening -----------------------------------------------------------------------------------------------------------


def test_the_first_consumer_makes_the_gate_and_others_find_it(database: Database) -> None:
    account = Account(database)
    account.ledger("one")
    account.moment.forward(5)
    account.ledger("one")
    account.ledger("two")
    (gate,) = rows(database, QuotaGate)
    assert (gate.account, gate.cities_per_window, gate.window_s, gate.pacing) == ("account", 60, 60.0, "smooth")
    assert (gate.last_now, gate.state, gate.endpoint, gate.month) == (NOW, "open", "unknown", "2026-11")


@pytest.mark.parametrize(
    ("terms", "named"),
    [({"cities_per_window": 600}, "600"), ({"window_s": 0.1}, "0.1"), ({"pacing": "burst"}, "burst")],
)
def test_a_consumer_with_other_terms_is_refused_and_both_are_named(
    database: Database, terms: dict[str, Any], named: str
) -> None:
    account = Account(database)
    account.ledger()
    with pytest.raises(GateMismatch) as told:
        account.ledger("other", **terms)
    for word in ("account", "'smooth'", "60", named, "python -m consumer quota adopt"):
        assert word in str(told.value)
    assert rows(database, QuotaGate)[0].pacing == "smooth"


def test_terms_that_are_not_in_the_gate_may_differ(database: Database) -> None:
    account = Account(database)
    account.ledger("one")
    account.ledger("two", cities_per_month=7, month_pacing="even", timeout_s=3.0)


def changed(account: Account, **terms: Any) -> Ledger:
    """A ledger that wrote these terms into the gate."""
    ledger = account.unopened("changer", **terms)
    ledger.open(change=True)
    return ledger


def test_a_change_of_terms_binds_everybody_who_comes_later(database: Database) -> None:
    account = Account(database)
    account.ledger("one")
    ledger = changed(account, cities_per_window=120, pacing="burst")
    assert [len(account.take(ledger).city_ids) for _ in range(6)] == [20] * 6
    assert account.refused(ledger).seconds == milliseconds(LOOK_S)
    with pytest.raises(GateMismatch):
        account.ledger("one")


def test_what_is_held_counts_against_a_lower_quota(database: Database) -> None:
    account = Account(database, pacing="burst")
    ledger = account.ledger()
    account.close(ledger, account.take(ledger))
    account.take(ledger)
    lower = changed(account, cities_per_window=15)
    assert account.refused(lower).seconds == milliseconds(LOOK_S)
    account.moment.forward(WORST_S)
    assert len(account.take(lower).city_ids) == 15


def test_a_longer_window_waits_until_all_that_was_held_by_the_shorter_one_would_be_free(database: Database) -> None:
    account = Account(database, pacing="burst")
    account.ledger()
    ledger = changed(account, window_s=600.0)
    answer = account.refused(ledger)
    assert (answer.seconds, answer.reason) == (milliseconds(CLAIM_S + 600), "database")
    account.moment.forward(CLAIM_S + 600)
    assert len(account.take(ledger).city_ids) == 20


# -- pace and holds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cities", "pause_s"), [(20, 20.0), (5, 5.0), (2, 2.0)])
def test_smooth_pacing_lets_the_next_call_go_when_its_cities_are_due(
    database: Database, cities: int, pause_s: float
) -> None:
    account = Account(database)
    ledger = account.ledger()
    grant = account.take(ledger, cities)
    assert (len(grant.city_ids), grant.reserved_at, grant.together, grant.clean) == (cities, NOW, True, True)
    account.moment.forward(1.3)
    answer = account.refused(ledger)
    assert (answer.seconds, answer.reason) == (milliseconds(pause_s - 1.3), "pace")
    account.moment.forward(pause_s - 1.55)
    assert account.refused(ledger).seconds == milliseconds(0.25)
    account.moment.forward(0.25)
    assert len(account.take(ledger).city_ids) == 20


@pytest.mark.parametrize("cities", [1, 5, 19])
def test_a_short_call_is_filled_up_by_others_at_once(database: Database, cities: int) -> None:
    account = Account(database)
    one, two = account.ledger("one"), account.ledger("two")
    account.take(one, cities)
    account.moment.forward(0.5)
    assert len(account.take(two).city_ids) == 20 - cities
    answer = account.refused(one)
    assert (answer.seconds, answer.reason) == (milliseconds(19.5), "pace")


def test_short_calls_that_follow_each_other_closely_keep_to_the_pace(database: Database) -> None:
    account = Account(database)
    ledger = account.ledger()
    went = 0
    for _ in range(60):
        answer = ledger.reserve(account.candidates(7), together=True)
        went += len(answer.city_ids) if isinstance(answer, Grant) else 0
        account.moment.forward(0.7)
    assert went <= 20 + 60 * 0.7


@pytest.mark.parametrize(("quota", "at_once"), [(60, 1), (600, 10), (6000, 20)])
def test_cities_asked_one_by_one_go_by_the_second(database: Database, quota: int, at_once: int) -> None:
    account = Account(database, cities_per_window=quota)
    ledger = account.ledger(endpoint="single")
    grant = account.take(ledger)
    assert (len(grant.city_ids), grant.together) == (at_once, False)
    assert account.refused(ledger).seconds == milliseconds(at_once * 60 / quota)


def test_a_call_never_takes_more_than_it_was_offered_or_the_quota_has(database: Database) -> None:
    account = Account(database, cities_per_window=7, pacing="burst")
    ledger = account.ledger()
    assert len(account.take(ledger, 3).city_ids) == 3
    assert len(account.take(ledger, 20).city_ids) == 4
    assert charges(database) == [3, 4]


def test_burst_pacing_grants_the_whole_quota_at_once_and_then_waits_for_the_first_release(database: Database) -> None:
    account = Account(database, pacing="burst")
    ledger = account.ledger()
    grants = [account.take(ledger) for _ in range(3)]
    answer = account.refused(ledger)
    assert (answer.seconds, answer.reason) == (milliseconds(LOOK_S), "pace")
    account.moment.forward(0.3)
    account.close(ledger, grants[1])
    assert account.refused(ledger).seconds == milliseconds(60)
    account.moment.forward(60 + 0.002)
    assert len(account.take(ledger).city_ids) == 20
    assert account.refused(ledger).seconds == milliseconds(WORST_S - 60.3)


def test_a_call_waits_a_little_to_become_fuller_but_no_longer(database: Database) -> None:
    account = Account(database, pacing="burst")
    ledger = account.ledger()
    grants = [account.take(ledger, cities) for cities in (20, 20, 5, 10, 5)]
    for grant, after_s in zip(grants[2:], (1.0, 0.1, 0.2), strict=True):
        account.moment.forward(after_s)
        account.close(ledger, grant)
    # 5 are released at 61, 10 more at 61.1 and 5 more at 61.3: the last is further away than 0.002 of the window.
    assert account.refused(ledger).seconds == milliseconds(61.1 - 1.3)
    account.moment.forward(61.1 - 1.3 + 0.002)
    assert len(account.take(ledger).city_ids) == 15


def test_a_charge_is_held_until_its_very_release_and_not_beyond(database: Database) -> None:
    account = Account(database, cities_per_window=20, pacing="burst")
    ledger = account.ledger()
    release_at = account.charge(account.take(ledger)).release_at
    account.moment.now = release_at - MICROSECOND
    assert account.refused(ledger).seconds == milliseconds(0)
    account.moment.now = release_at
    assert len(account.take(ledger).city_ids) == 20


# -- closing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window_s", [60.0, 1.0005, 1 / 3, 86_400 / 7])
def test_a_closed_charge_is_held_for_one_window_from_its_answer(database: Database, window_s: float) -> None:
    account = Account(database, window_s=window_s)
    ledger = account.ledger()
    grant = account.take(ledger)
    assert account.charge(grant).release_at == NOW + timedelta(seconds=account.terms.worst_hold_s)
    account.moment.forward(0.7)
    account.close(ledger, grant)
    charge = account.charge(grant)
    assert charge.closed_at == account.moment.now
    rounded_up = charge.release_at - account.moment.now - timedelta(seconds=window_s)
    if database.dialect == "sqlite":
        assert MILLISECOND <= rounded_up <= 3 * MILLISECOND
    else:
        assert rounded_up == timedelta()


@pytest.mark.parametrize("window_s", [0.1, 1 / 3, 86_400 / 7, 86_400.0])
def test_consumers_find_the_terms_that_the_gate_was_made_with(database: Database, window_s: float) -> None:
    account = Account(database, window_s=window_s, pacing="burst")
    account.take(account.ledger("one"))
    account.take(account.ledger("two"))


def test_closing_twice_changes_nothing(database: Database) -> None:
    account = Account(database)
    ledger = account.ledger()
    grant = account.take(ledger)
    account.close(ledger, grant)
    before = account.charge(grant)
    account.moment.forward(3)
    account.close(ledger, grant)
    assert account.charge(grant) == before


@pytest.mark.parametrize("late_s", [24.9995, 26.0, 200.0])
def test_a_late_answer_never_holds_a_charge_beyond_its_worst_case(database: Database, late_s: float) -> None:
    account = Account(database)
    ledger = account.ledger()
    grant = account.take(ledger)
    account.moment.forward(late_s)
    account.close(ledger, grant)
    assert account.charge(grant).release_at <= NOW + timedelta(seconds=WORST_S)
    assert account.charge(grant).closed_at == account.moment.now


def test_closing_one_charge_leaves_the_others(database: Database) -> None:
    account = Account(database, pacing="burst")
    ledger = account.ledger()
    first, second = account.take(ledger), account.take(ledger)
    account.close(ledger, second)
    assert account.charge(first).closed_at is None


def test_charges_are_forgotten_a_day_after_their_release_and_not_before(database: Database) -> None:
    account = Account(database, pacing="burst")
    ledger = account.ledger()
    grants = [account.take(ledger), account.take(ledger)]
    account.close(ledger, grants[0])
    for forward, left in ((timedelta(days=1, seconds=60), 2), (timedelta(seconds=1), 1), (timedelta(seconds=25), 0)):
        account.moment.now += forward
        ledger.prune()
        assert len(charges(database)) == left
