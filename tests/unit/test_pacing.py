"""The ledger's decisions: how many cities may go now, when the next call starts, what the month still allows."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from raingauge.backoff import backoff_s
from raingauge.model import month_of
from raingauge.quota.pacing import (
    MonthPacing,
    Pacing,
    Release,
    Terms,
    admit,
    month_allows,
    month_moment,
    month_start,
    next_month,
    next_start,
    room_beside,
)

NOW = datetime(2026, 11, 20, 16, tzinfo=UTC)
DAY = timedelta(days=1)
FREE_KEY = Terms(60, 60.0, "smooth", 1_000_000, "even", timeout_s=10.0)
WANTS = st.integers(1, 20)
FREE = st.integers(-50, 80)
SECONDS = st.floats(0, 300).map(lambda seconds: timedelta(seconds=seconds))
GATHER = st.floats(0, 5).map(lambda seconds: timedelta(seconds=seconds))
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2029, 1, 1), timezones=st.just(UTC))
BUDGETS = st.integers(1, 10**9)
unhurried = settings(deadline=None)


@st.composite
def releases(draw: st.DrawFn) -> list[Release]:
    """Charges to be released, in their order, up to the 20 that the ledger looks at."""
    gaps = draw(st.lists(st.floats(0, 20), max_size=20))
    return [(NOW + timedelta(seconds=after + 0.001), draw(WANTS)) for after in accumulate(gaps)]


def free_at(moment: datetime, free: int, released: list[Release]) -> int:
    return free + sum(cost for release_at, cost in released if release_at <= moment)


# -- terms -------------------------------------------------------------------------------------------------------------


def test_terms_say_how_long_a_call_is_held_and_spread() -> None:
    assert (FREE_KEY.claim_s, FREE_KEY.worst_hold_s, FREE_KEY.spread_s(20)) == (5 + 10 + 10, 5 + 10 + 10 + 60, 20)
    assert replace(FREE_KEY, timeout_s=3, window_s=20.0).worst_hold_s == 5 + 3 + 10 + 20
    assert replace(FREE_KEY, cities_per_window=30_000).spread_s(20) == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("pacing", "cities", "single_calls", "gather_s"),
    [
        ("smooth", 5, 1, 15),
        ("smooth", 60, 1, 1.25),
        ("burst", 60, 1, 0.12),
        ("smooth", 600, 10, 0.125),
        ("smooth", 1200, 20, 0.12),
        ("smooth", 30_000, 20, 0.12),
    ],
)
def test_single_calls_of_a_second_go_together_and_smooth_calls_gather_as_long_as_a_city_takes(
    pacing: Pacing, cities: int, single_calls: int, gather_s: float
) -> None:
    terms = replace(FREE_KEY, pacing=pacing, cities_per_window=cities)
    assert terms.second_of_quota == single_calls
    assert terms.gather_s == pytest.approx(gather_s)


# -- admitting ---------------------------------------------------------------------------------------------------------


@unhurried
@given(WANTS, FREE, releases(), GATHER)
def test_a_call_takes_what_is_free_and_waits_only_to_be_fuller(
    want: int, free: int, released: list[Release], gather: timedelta
) -> None:
    number, moment = admit(NOW, want, free, released, gather)
    assert moment in {NOW, *(release_at for release_at, _ in released)}
    assert 0 <= number <= min(want, max(0, free_at(moment, free, released)))
    assert (number == 0) is (free + sum(cost for _, cost in released) <= 0), "only if nothing is ever free"
    if free >= want:
        assert (number, moment) == (want, NOW), "a call that is full never waits"
    before = free_at(moment - timedelta(microseconds=1), free, released)
    assert moment == NOW or number == 0 or before < number
    steps = [NOW, *(release_at for release_at, _ in released if release_at <= moment)]
    waited = [later - earlier for earlier, later in pairwise(steps) if free_at(earlier, free, released) > 0]
    assert all(wait <= gather for wait in waited), "while some may go, no single wait is longer than gathering"


@unhurried
@given(WANTS, FREE, st.integers(0, 30), releases(), GATHER)
def test_with_more_free_a_call_never_goes_later_and_who_wants_more_never_gets_fewer(
    want: int, free: int, more: int, released: list[Release], gather: timedelta
) -> None:
    number, moment = admit(NOW, want, free, released, gather)
    assert admit(NOW, want, free + more, released, gather)[1] <= moment
    assert admit(NOW, want + more, free, released, gather)[0] >= number


@pytest.mark.parametrize(
    ("free", "released", "admitted"),
    [
        (7, [(0.1, 5), (0.2, 20)], (20, 0.2)),  # both are near: a full call
        (7, [(0.1, 5), (3.0, 20)], (12, 0.1)),  # the second is far
        (7, [(0.12, 20)], (20, 0.12)),  # as near as may be
        (7, [(3.0, 20)], (7, 0.0)),
        (0, [(30.0, 20)], (20, 30.0)),  # nothing is free: wait however long it takes
        (0, [(30.0, 5), (30.1, 5), (40.0, 20)], (10, 30.1)),
        (-30, [(10.0, 20), (20.0, 20)], (10, 20.0)),  # the quota was lowered: more is held than allowed
        (-30, [(10.0, 20)], (0, 10.0)),
    ],
)
def test_a_call_waits_for_near_releases(
    free: int, released: list[tuple[float, int]], admitted: tuple[int, float]
) -> None:
    moments = [(NOW + timedelta(seconds=after), cost) for after, cost in released]
    number, after = admitted
    assert admit(NOW, 20, free, moments, timedelta(seconds=0.12)) == (number, NOW + timedelta(seconds=after))


# -- the plan of smooth pacing -----------------------------------------------------------------------------------------


@unhurried
@given(st.lists(st.tuples(WANTS, st.floats(0, 1)), min_size=1, max_size=50))
def test_small_delays_do_not_add_up(calls: list[tuple[int, float]]) -> None:
    planned = NOW
    for cost, share in calls:
        planned = next_start(planned, planned + timedelta(seconds=FREE_KEY.gather_s * share), cost, FREE_KEY)
    assert planned == NOW + timedelta(seconds=sum(cost for cost, _ in calls))


@unhurried
@given(WANTS, SECONDS, st.integers(1, 30_000))
def test_the_next_start_is_a_spread_away_give_or_take_the_gathering(cost: int, late: timedelta, cities: int) -> None:
    terms = replace(FREE_KEY, cities_per_window=cities)
    spread, gathering = timedelta(seconds=terms.spread_s(cost)), timedelta(seconds=terms.gather_s)
    following = next_start(NOW, NOW + late, cost, terms)
    assert NOW + late + spread - gathering <= following <= NOW + late + spread
    if late > gathering:
        assert following == NOW + late + spread, "idleness earns no head start"
    assert next_start(NOW, NOW + late, cost, replace(terms, pacing="burst")) == NOW + late, "bursts are not planned"


@pytest.mark.parametrize(
    ("lately", "planned_in_s", "room"),
    [
        (0, 5, 0),  # nothing has just gone: the plan holds
        (5, 5, 15),
        (5, 4.5, 15),
        (19, 19, 1),
        (20, 20, 0),
        (1, 18.5, 1),  # one city has just gone, and others shortly before: no more than the pace allows
        (1, 25, 0),
    ],
)
def test_what_has_just_gone_may_be_filled_up_to_a_full_call(lately: int, planned_in_s: float, room: int) -> None:
    assert room_beside(NOW + timedelta(seconds=planned_in_s), NOW, lately, 20, FREE_KEY) == room


# -- the month ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "following"),
    [
        ("2026-11-20T16:05:01.000007", "2026-12-01"),
        ("2026-12-31T23:59:59.999999", "2027-01-01"),
        ("2028-02-29", "2028-03-01"),
        ("2026-02-01", "2026-03-01"),
    ],
)
def test_a_month_begins_and_ends_where_the_calendar_says(moment: str, following: str) -> None:
    at = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    assert month_of(at) == moment[:7]
    assert month_start(at) == datetime.fromisoformat(f"{moment[:7]}-01").replace(tzinfo=UTC)
    assert next_month(at) == datetime.fromisoformat(following).replace(tzinfo=UTC)


def month_terms(budget: int, pacing: MonthPacing) -> Terms:
    return replace(FREE_KEY, cities_per_month=budget, month_pacing=pacing)


PACINGS: st.SearchStrategy[MonthPacing] = st.sampled_from(["even", "none"])


@unhurried
@given(MOMENTS, BUDGETS, st.floats(0, 1.2), PACINGS)
def test_a_month_allows_no_more_than_its_budget(
    moment: datetime, budget: int, share: float, pacing: MonthPacing
) -> None:
    spent, terms = int(budget * share), month_terms(budget, pacing)
    assert 0 <= month_allows(moment, spent, terms) <= max(0, budget - spent)
    if spent >= budget:
        assert month_moment(moment, spent, 1, terms) == next_month(moment)


@unhurried
@given(MOMENTS, BUDGETS)
def test_even_pacing_allows_the_elapsed_share_and_one_days_more(moment: datetime, budget: int) -> None:
    terms = month_terms(budget, "even")
    share = (moment - month_start(moment) + DAY) / (next_month(moment) - month_start(moment))
    assert min(1, share) * budget - 1 <= month_allows(moment, 0, terms) <= share * budget + 1e-6
    assert month_allows(next_month(moment) - DAY, 0, terms) == budget


@unhurried
@given(MOMENTS, BUDGETS, st.floats(0, 1), WANTS, PACINGS)
def test_at_the_months_moment_it_allows_what_is_wanted_and_not_before(
    moment: datetime, budget: int, share: float, want: int, pacing: MonthPacing
) -> None:
    terms, spent = month_terms(budget, pacing), int(budget * share)
    assume(spent + want <= budget)
    at = month_moment(moment, spent, want, terms)
    assert at >= moment
    assert month_of(at) == month_of(moment)
    assert month_allows(at, spent, terms) >= want
    earlier = at - timedelta(milliseconds=1, microseconds=10)
    assert earlier < moment or month_allows(earlier, spent, terms) < want


@pytest.mark.parametrize("budget", [1000, 1_000_000])
def test_a_month_taken_as_it_is_allowed_spends_the_budget_evenly_and_wholly(budget: int) -> None:
    terms, spent = month_terms(budget, "even"), 0
    for hour in range(30 * 24):
        at = month_start(NOW) + timedelta(hours=hour)
        spent += month_allows(at, spent, terms)
        assert spent <= budget * (hour + 24) / (30 * 24) + 1e-6
    assert spent == budget


# -- backoff -----------------------------------------------------------------------------------------------------------


@unhurried
@given(st.integers(0, 10**9), st.floats(0.01, 100), st.floats(0.01, 10_000))
def test_backoff_doubles_from_its_base_up_to_its_cap(strikes: int, base_s: float, cap_s: float) -> None:
    assert [backoff_s(number, 2.0, 30.0) for number in range(7)] == [2, 2, 4, 8, 16, 30, 30]
    assert backoff_s(strikes, base_s, cap_s) <= backoff_s(strikes + 1, base_s, cap_s) <= cap_s
