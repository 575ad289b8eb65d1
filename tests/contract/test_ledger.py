"""The ledger grants what the quota allows and says exactly when the next may go: pace, holds, months, clock, terms."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, update

from consumer.gate import Event
from consumer.ledger import NotNow
from raingauge.database import Database
from raingauge.errors import GateMismatch
from raingauge.storage import quota
from raingauge.storage.models import City, QueuedCity, QuotaCharge
from tests.contract.ledger_support import CLAIM_S, WORST_S, Account, Consumer, finish, milliseconds
from tests.contract.storage_support import MICROSECOND, NOW, SECOND, rows

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
JANUARY = datetime(2027, 1, 1, tzinfo=UTC)
DAY_S = 86_400.0


def busy(database: Database, cities: int = 400, now: datetime = NOW, **terms: Any) -> tuple[Account, Consumer]:
    """An account for which cities wait, and a consumer of it."""
    account = Account(database, now, **terms)
    consumer = account.consumer()
    account.want_new(cities)
    return account, consumer


def cost(consumer: Consumer, calls: int = 1) -> int:
    return len(consumer.take(calls).city_ids)


# -- opening and terms -------------------------------------------------------------------------------------------------


def test_the_first_consumer_creates_the_gate_and_others_find_it(database: Database) -> None:
    account = Account(database)
    account.consumer("one")
    account.moment.forward(5)
    account.consumer("one")
    account.consumer("two", cities_per_month=7, month_pacing="even", timeout_s=3.0)
    gate = account.gate
    assert (gate.cities_per_window, gate.window_s, gate.pacing, gate.last_now) == (60, 60.0, "burst", NOW)
    assert (gate.state, gate.endpoint, gate.month, gate.turn) == ("open", "unknown", "2026-11", 0)


@pytest.mark.parametrize("terms", [{"cities_per_window": 600}, {"window_s": 0.1}, {"pacing": "smooth"}])
def test_a_consumer_with_other_terms_is_refused_and_both_are_named(database: Database, terms: dict[str, Any]) -> None:
    account = Account(database)
    account.consumer()
    with pytest.raises(GateMismatch) as raised:
        account.consumer("other", **terms)
    for word in ("account", "'burst'", "60", str(*terms.values()), "python -m consumer quota adopt"):
        assert word in str(raised.value)
    assert account.gate.pacing == "burst"


@pytest.mark.parametrize("window_s", [0.1, 1 / 3, 86_400 / 7, 86_400.0])
def test_consumers_find_the_terms_that_the_gate_was_created_with(database: Database, window_s: float) -> None:
    account, one = busy(database, window_s=window_s)
    assert cost(one) == 20
    assert cost(account.consumer("two")) == 20


def test_adopting_creates_the_gate_or_changes_its_terms_and_consumers_with_the_old_ones_wait(
    database: Database,
) -> None:
    account = Account(database)
    one, other = account.unopened("one"), account.unopened("other", cities_per_window=120)
    assert [finish(consumer.control.adopt()) for consumer in (one, other)] == ["no gate", "60 cities in 60 s, burst"]
    account.want_new(400)
    assert one.refused() == NotNow(milliseconds(60), "terms")
    assert [cost(other) for _ in range(6)] == [20] * 6
    assert other.refused().reason == "pace"


def test_what_is_held_counts_against_a_lower_quota_and_a_longer_window_at_once(database: Database) -> None:
    account, consumer = busy(database)
    consumer.close(consumer.take())
    other = account.unopened("other", cities_per_window=15, window_s=600.0)
    finish(other.control.adopt())
    account.moment.forward(599)
    assert other.refused().seconds == milliseconds(1)
    account.moment.forward(1.002)
    assert cost(other) == 15


# -- pace and holds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cities", [20, 5, 2])
def test_smooth_pacing_lets_the_next_call_go_when_its_cities_are_due(database: Database, cities: int) -> None:
    account, consumer = busy(database, cities, pacing="smooth")
    taken = consumer.take()
    assert (len(taken.city_ids), taken.reserved_at, taken.plan.endpoint) == (cities, NOW, "group")
    assert taken.gate_was_untroubled
    account.want_new(40)
    account.moment.forward(1.3)
    assert consumer.refused() == NotNow(milliseconds(cities - 1.3), "pace")
    account.moment.forward(cities - 1.3)
    assert cost(consumer) == 20


@pytest.mark.parametrize("cities", [1, 5, 19])
def test_a_short_call_is_filled_up_at_once_by_what_arrives(database: Database, cities: int) -> None:
    account, consumer = busy(database, cities, pacing="smooth")
    assert cost(consumer) == cities
    account.want_new(40)
    account.moment.forward(0.5)
    assert cost(account.consumer("two")) == 20 - cities
    assert consumer.refused() == NotNow(milliseconds(19.5), "pace")


@pytest.mark.parametrize(("quota", "together"), [(60, 1), (600, 10), (6000, 20)])
def test_cities_requested_one_by_one_go_by_the_second(database: Database, quota: int, together: int) -> None:
    account = Account(database, cities_per_window=quota, pacing="smooth")
    consumer = account.consumer(endpoint="single")
    account.want_new(60)
    taken = consumer.take()
    assert [len(call) for call in taken.calls] == [1] * together
    assert (taken.lanes, taken.plan.endpoint) == (1, "single")
    assert consumer.refused().seconds == milliseconds(together * 60 / quota)


def test_burst_pacing_grants_the_whole_quota_at_once_and_then_waits_for_the_first_release(database: Database) -> None:
    account, consumer = busy(database)
    taken = [consumer.take() for _ in range(3)]
    assert consumer.refused() == NotNow(milliseconds(60), "pace")
    account.moment.forward(0.3)
    consumer.close(taken[1])
    assert consumer.refused().seconds == milliseconds(60)
    account.moment.forward(60 + 0.002)
    assert cost(consumer) == 20
    assert consumer.refused().seconds == milliseconds(WORST_S - 60.3)


def test_a_charge_never_covers_more_than_the_quota_or_the_queue_has(database: Database) -> None:
    account, consumer = busy(database, 3, cities_per_window=7)
    assert cost(consumer) == 3
    account.want_new(20)
    assert cost(consumer) == 4


def test_a_call_waits_a_little_to_become_fuller_but_no_longer(database: Database) -> None:
    account = Account(database)
    consumer = account.consumer()
    taken = []
    for cities in (20, 20, 5, 10, 5):
        account.want_new(cities)
        taken.append(consumer.take())
    account.want_new(20)
    for each, after_s in zip(taken[2:], (1.0, 0.1, 0.2), strict=True):
        account.moment.forward(after_s)
        consumer.close(each)
    # 5 are released at 61, 10 more at 61.1 and 5 more at 61.3: the last is further away than 0.002 of the window.
    assert consumer.refused().seconds == milliseconds(61.1 - 1.3)
    account.moment.forward(61.1 - 1.3 + 0.002)
    assert cost(consumer) == 15


def test_a_charge_that_is_never_closed_is_held_until_its_worst_case_and_not_beyond(database: Database) -> None:
    account, consumer = busy(database, cities_per_window=20)
    taken = consumer.take()
    assert account.charge(taken).ends_at == NOW + CLAIM_S * SECOND
    account.moment.now = NOW + WORST_S * SECOND - MICROSECOND
    assert consumer.refused().seconds == milliseconds(0)
    account.moment.now = NOW + WORST_S * SECOND
    assert cost(consumer) == 20


def test_with_nothing_in_the_queue_the_ledger_says_when_to_look_again(database: Database) -> None:
    account, consumer = busy(database, 2)
    taken = consumer.take()
    assert consumer.refused() == NotNow(1.0, None)
    account.moment.forward(CLAIM_S - 0.4)
    assert consumer.refused() == NotNow(milliseconds(0.4), None)
    consumer.settle(taken)
    assert consumer.refused() == NotNow(1.0, None)


# -- closing -----------------------------------------------------------------------------------------------------------


def test_a_closed_charge_is_held_from_its_first_answer(database: Database) -> None:
    account, consumer = busy(database)
    first, second = consumer.take(), consumer.take()
    account.moment.forward(0.7)
    consumer.close(second)
    closed = account.charge(second)
    assert closed.closed_at == account.moment.now
    # SQLite's clock has whole milliseconds, and cuts the rest off.
    assert closed.ends_at - account.moment.now == (SECOND / 1000 if database.dialect == "sqlite" else timedelta())
    assert account.charge(first).closed_at is None
    account.moment.forward(3)
    consumer.close(second)
    assert account.charge(second) == closed


@pytest.mark.parametrize("late_s", [24.9995, 26.0, 200.0])
def test_a_late_answer_never_holds_a_charge_beyond_its_worst_case(database: Database, late_s: float) -> None:
    account, consumer = busy(database)
    taken = consumer.take()
    account.moment.forward(late_s)
    consumer.close(taken)
    assert account.charge(taken).ends_at <= NOW + CLAIM_S * SECOND
    assert account.charge(taken).closed_at == account.moment.now


def test_charges_are_forgotten_a_day_after_their_release_and_not_before(database: Database) -> None:
    account, consumer = busy(database)
    consumer.close(consumer.take())
    consumer.take()
    for forward, left in ((timedelta(days=1, seconds=60), 2), (timedelta(seconds=1), 1), (timedelta(seconds=25), 0)):
        account.moment.now += forward
        assert not finish(consumer.ledger.prune(timedelta(days=1)))
        assert len(rows(database, QuotaCharge)) == left


def test_old_charges_are_forgotten_in_steps_the_oldest_first(database: Database) -> None:
    _, consumer = busy(database)
    taken = [consumer.take() for _ in range(3)]
    for more in (True, False):
        assert database.write(lambda c: quota.forget_charges(c, "account", NOW + timedelta(days=1), limit=2)) is more
        assert [row.id for row in rows(database, QuotaCharge)] == [taken[-1].charge_id][:more]


def test_answers_do_not_close_the_charge_that_got_the_id_of_theirs_from_a_replica(database: Database) -> None:
    account, consumer = busy(database)
    lost = consumer.take()
    database.write(lambda c: c.execute(delete(QuotaCharge)))
    account.moment.now += 60 * SECOND
    taken = consumer.take()
    database.write(lambda c: c.execute(update(QuotaCharge).values(id=lost.charge_id)))
    consumer.close(lost)
    assert [row.closed_at for row in rows(database, QuotaCharge)] == [None]
    consumer.close(replace(taken, charge_id=lost.charge_id))
    assert [row.closed_at for row in rows(database, QuotaCharge)] == [account.moment.now]


def test_the_calls_and_the_outcome_of_a_charge_are_recorded(database: Database) -> None:
    account, consumer = busy(database)
    taken, silent = consumer.take(2), consumer.take()
    answered_at = account.moment.now
    database.write(lambda c: quota.close_charge(c, taken.charge_id or 0, taken.reserved_at, answered_at, "answered"))
    recorded = [(row.calls, row.outcome) for row in map(account.charge, (taken, silent))]
    assert recorded == [(len(taken.calls), "answered"), (1, None)]


# -- months ------------------------------------------------------------------------------------------------------------


def monthly(database: Database, now: datetime, budget: int, **terms: Any) -> tuple[Account, Consumer]:
    """An account that only the month holds back."""
    return busy(database, 600, now, cities_per_window=10_000, cities_per_month=budget, **terms)


def spent(account: Account) -> tuple[str, int, int]:
    return account.gate.month, account.gate.month_spent, account.gate.next_month_spent


def test_a_budget_is_spent_to_its_last_city_and_then_the_next_month_waited_for(database: Database) -> None:
    account, consumer = monthly(database, NOVEMBER, 50)
    assert [cost(consumer) for _ in range(3)] == [20, 20, 10]
    assert consumer.refused() == NotNow(milliseconds(30 * DAY_S), "month")
    account.moment.now = DECEMBER - MICROSECOND
    assert consumer.refused().seconds == milliseconds(0)
    account.moment.now = DECEMBER
    assert cost(consumer) == 20
    assert spent(account) == ("2026-12", 20, 0)


def test_even_pacing_allows_the_elapsed_share_and_one_day_more_and_all_of_it_in_the_end(database: Database) -> None:
    account, consumer = monthly(database, NOVEMBER, 3000, month_pacing="even")
    assert sum(cost(consumer) for _ in range(5)) == 100
    assert consumer.refused() == NotNow(milliseconds(0.2 * DAY_S), "month")
    account.moment.forward(0.2 * DAY_S)
    assert cost(consumer) == 20
    finish(consumer.control.set_month(2900))
    account.moment.now = DECEMBER - timedelta(days=1)
    assert sum(cost(consumer) for _ in range(5)) == 100
    assert consumer.refused().seconds == milliseconds(DAY_S)


@pytest.mark.parametrize(("before_s", "carried"), [(25.001, 0), (25, 20), (1, 20)])
def test_what_may_arrive_in_the_next_month_counts_against_both(
    database: Database, before_s: float, carried: int
) -> None:
    account, consumer = monthly(database, DECEMBER - before_s * SECOND, 50)
    consumer.take()
    assert spent(account) == ("2026-11", 20, carried)
    account.moment.now = DECEMBER
    assert [cost(consumer), cost(consumer)] == [20, min(20, 30 - carried)]
    assert spent(account) == ("2026-12", carried + 20 + min(20, 30 - carried), 0)
    account.moment.now = JANUARY
    assert sum(cost(consumer) for _ in range(3)) == 50
    assert spent(account) == ("2027-01", 50, 0)


def test_the_month_can_be_set_by_hand_and_keeps_what_its_last_seconds_carried_over(database: Database) -> None:
    account, consumer = monthly(database, DECEMBER - SECOND, 50)
    consumer.take()
    assert finish(consumer.control.set_month(45)) == (20, 45)
    assert spent(account) == ("2026-11", 45, 20)
    assert cost(consumer) == 5
    assert consumer.refused().reason == "month"
    account.moment.now = DECEMBER + timedelta(days=3)
    assert finish(consumer.control.set_month(10)) == (25, 10)
    assert spent(account) == ("2026-12", 10, 0)


# -- the clock ---------------------------------------------------------------------------------------------------------


def test_a_gate_shut_by_hand_opens_after_the_longest_hold_and_forgets_no_charge(database: Database) -> None:
    account, consumer = busy(database)
    consumer.take()
    before = rows(database, QuotaCharge)
    assert finish(consumer.control.shut()) == NOW + WORST_S * SECOND
    assert rows(database, QuotaCharge) == before
    assert consumer.refused() == NotNow(milliseconds(WORST_S), "database")
    account.moment.forward(WORST_S)
    assert cost(consumer) == 20
    assert (account.gate.state, account.gate.strikes) == ("open", 0)


@pytest.mark.parametrize("event", list(Event))
def test_an_answer_to_an_earlier_call_does_not_open_a_gate_that_was_shut(database: Database, event: Event) -> None:
    _, consumer = busy(database)
    first, second = consumer.take(), consumer.take()
    consumer.report(first, Event.SILENT)
    finish(consumer.control.shut())
    for taken in (first, second):
        consumer.report(taken, event, retry_after_s=1.0)
        assert consumer.refused().seconds >= WORST_S - 0.001


@pytest.mark.parametrize("back_s", [0.5, 2.0])
def test_a_clock_a_little_behind_stands_still_for_the_ledger(database: Database, back_s: float) -> None:
    account, consumer = busy(database)
    consumer.take()
    account.moment.forward(-back_s)
    taken = consumer.take()
    assert taken.reserved_at == NOW
    consumer.close(taken)
    assert account.charge(taken).ends_at >= NOW, "or a window shorter than the step would release it at once"
    assert (account.gate.state, account.gate.last_now) == ("open", NOW)


@pytest.mark.parametrize("back", [timedelta(seconds=2, milliseconds=1), timedelta(hours=3), timedelta(days=40)])
def test_a_clock_that_stepped_back_closes_the_gate_and_clips_what_is_held_and_claimed(
    database: Database, back: timedelta
) -> None:
    account, consumer = busy(database, 40)
    kept, lost = consumer.take(), consumer.take()
    account.remember(7, unknown=[8], at=NOW)
    account.moment.now -= back
    stepped = account.moment.now
    assert consumer.refused() == NotNow(milliseconds(WORST_S), "database")
    ends, until = stepped + CLAIM_S * SECOND, stepped + WORST_S * SECOND
    assert {row.ends_at for row in rows(database, QuotaCharge)} == {ends}
    assert {row.ready_at for row in rows(database, QueuedCity)} == {ends}
    assert [(row.fetched_at, row.doubted_at) for row in rows(database, City)] == [(stepped, None), (None, stepped)]
    gate = account.gate
    assert (gate.state, gate.last_now, gate.blocked_until, gate.next_start_at) == ("database", stepped, until, stepped)
    account.moment.forward(50)
    consumer.close(kept)
    assert account.charge(kept).ends_at <= ends
    assert consumer.refused() == NotNow(milliseconds(WORST_S - 50), "database")
    account.moment.now = until
    again = [consumer.take(), consumer.take()]
    assert sorted(again[0].city_ids + again[1].city_ids) == sorted(kept.city_ids + lost.city_ids)
    assert [len(consumer.settle(taken).collections) for taken in again] == [0, 1]


def test_a_probe_from_before_a_step_back_does_not_block_the_next(database: Database) -> None:
    account = Account(database)
    consumer = account.consumer(endpoint="auto")
    account.want_new(40)
    assert consumer.take().plan.probe
    account.moment.forward(-3 * 3600)
    consumer.refused()
    account.moment.forward(WORST_S)
    assert consumer.take().plan.probe
