"""The month's budget: spent to the last city, evenly or at once, over the turn of a month and by hand."""

from datetime import UTC, datetime, timedelta

import pytest

from consumer.admission import Grant, NotNow
from consumer.quota import Ledger
from raingauge.storage.database import Database
from raingauge.storage.models import QuotaGate
from tests.contract.storage_support import MICROSECOND, SECOND, Account, milliseconds, rows

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
JANUARY = datetime(2027, 1, 1, tzinfo=UTC)
DAY_S = 86_400.0
LATE = timedelta(seconds=25)
"""D + T + M: what is reserved so shortly before the end of a month may arrive in the next."""


def spending(database: Database, now: datetime, budget: int, **terms: object) -> tuple[Account, Ledger]:
    """An account that only the month holds back."""
    account = Account(database, now, cities_per_window=10_000, pacing="burst", cities_per_month=budget, **terms)
    return account, account.ledger()


def spent(database: Database) -> tuple[str, int, int]:
    (gate,) = rows(database, QuotaGate)
    return gate.month, gate.month_spent, gate.next_month_spent


def test_a_budget_is_spent_to_its_last_city_and_then_the_next_month_waited_for(database: Database) -> None:
    account, ledger = spending(database, NOVEMBER, 50)
    assert [len(account.take(ledger).city_ids) for _ in range(3)] == [20, 20, 10]
    answer = account.refused(ledger, 1)
    assert (answer.seconds, answer.reason) == (milliseconds(30 * DAY_S), "month")
    account.moment.now = DECEMBER - MICROSECOND
    assert account.refused(ledger, 1).seconds == milliseconds(0)
    account.moment.now = DECEMBER
    assert len(account.take(ledger).city_ids) == 20
    assert spent(database) == ("2026-12", 20, 0)


def test_even_pacing_allows_the_elapsed_share_and_one_day_more(database: Database) -> None:
    account, ledger = spending(database, NOVEMBER, 3000, month_pacing="even")
    assert sum(len(account.take(ledger).city_ids) for _ in range(5)) == 100
    answer = account.refused(ledger)
    assert (answer.seconds, answer.reason) == (milliseconds(0.2 * DAY_S), "month")
    account.moment.forward(answer.seconds)
    assert len(account.take(ledger).city_ids) == 20
    assert account.refused(ledger, 5).seconds == milliseconds(0.05 * DAY_S)


def test_even_pacing_spends_the_whole_budget_by_the_last_day(database: Database) -> None:
    account, ledger = spending(database, NOVEMBER, 3000, month_pacing="even")
    ledger.set_month(2900)
    assert account.refused(ledger).seconds == milliseconds(28.2 * DAY_S)
    account.moment.now = DECEMBER - timedelta(days=1)
    assert sum(len(account.take(ledger).city_ids) for _ in range(5)) == 100
    answer = account.refused(ledger)
    assert (answer.seconds, answer.reason) == (milliseconds(DAY_S), "month")


@pytest.mark.parametrize(("before", "carried"), [(LATE + MICROSECOND, 0), (LATE, 20), (SECOND, 20)])
def test_what_may_arrive_in_the_next_month_counts_against_both(
    database: Database, before: timedelta, carried: int
) -> None:
    account, ledger = spending(database, DECEMBER - before, 50)
    account.take(ledger)
    assert spent(database) == ("2026-11", 20, carried)
    account.moment.now = DECEMBER
    assert len(account.take(ledger, 20).city_ids) == 20
    assert len(account.take(ledger, 20).city_ids) == min(20, 30 - carried)
    assert account.moment.now == DECEMBER
    assert spent(database) == ("2026-12", carried + 20 + min(20, 30 - carried), 0)


def test_the_last_seconds_of_a_spent_month_grant_nothing_on_the_next_ones_account(database: Database) -> None:
    account, ledger = spending(database, DECEMBER - SECOND, 30)
    assert [len(account.take(ledger).city_ids) for _ in range(2)] == [20, 10]
    assert account.refused(ledger, 1).seconds == milliseconds(1)
    account.moment.now = DECEMBER
    assert account.refused(ledger, 1).seconds == milliseconds(31 * DAY_S)


def test_a_month_without_any_call_carries_nothing_further(database: Database) -> None:
    account, ledger = spending(database, DECEMBER - SECOND, 50)
    account.take(ledger)
    account.moment.now = JANUARY
    assert sum(len(account.take(ledger).city_ids) for _ in range(3)) == 50
    assert spent(database) == ("2027-01", 50, 0)


def test_the_month_can_be_set_by_hand(database: Database) -> None:
    account, ledger = spending(database, NOVEMBER, 50)
    ledger.set_month(45)
    assert len(account.take(ledger).city_ids) == 5
    assert account.refused(ledger).reason == "month"
    ledger.set_month(0)
    assert len(account.take(ledger).city_ids) == 20
    assert spent(database) == ("2026-11", 20, 0)


def test_setting_the_month_forgets_what_the_one_before_had_carried_over(database: Database) -> None:
    account, ledger = spending(database, DECEMBER - SECOND, 50)
    account.take(ledger)
    account.moment.now = DECEMBER + timedelta(days=3)
    ledger.set_month(10)
    account.take(ledger)
    account.moment.now = JANUARY
    account.take(ledger)
    assert spent(database) == ("2027-01", 20, 0)


def test_setting_the_month_in_its_last_seconds_keeps_what_is_carried_over(database: Database) -> None:
    account, ledger = spending(database, DECEMBER - SECOND, 50)
    account.take(ledger)
    ledger.set_month(10)
    assert spent(database) == ("2026-11", 10, 20)


def test_over_many_months_each_budget_is_spent_and_no_more(database: Database) -> None:
    account, ledger = spending(database, NOVEMBER, 90, month_pacing="even")
    taken: dict[str, int] = {}
    while account.moment.now < datetime(2027, 3, 1, tzinfo=UTC):
        answer = ledger.reserve(account.candidates(20), together=True)
        if isinstance(answer, NotNow):
            assert answer.seconds > 0
            account.moment.forward(answer.seconds)
            continue
        assert isinstance(answer, Grant)
        month = f"{account.moment.now:%Y-%m}"
        taken[month] = taken.get(month, 0) + len(answer.city_ids)
    assert taken == {"2026-11": 90, "2026-12": 90, "2027-01": 90, "2027-02": 90}
