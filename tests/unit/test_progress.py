"""How far a collection is, what it waits for and when it will be done: words for rows, without a database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.progress import Progress, Surroundings, expected_at, others, progress
from raingauge.pacing import Terms
from raingauge.storage.collections import CollectionState
from raingauge.storage.gate import Gate
from tests.api_support import NOON, gate_row

TERMS = Terms(
    cities_per_window=60, window_s=60, pacing="smooth", cities_per_month=1_000_000, month_pacing="none", timeout_s=10
)
GATE = Gate(**gate_row())
CALM = Surroundings(now=NOON, terms=TERMS, gate=GATE, consumer_alive=True, others=(), held=0)
FRESH = CollectionState(
    id="1",
    requested_at=NOON,
    max_age_s=600,
    cities_hash="default",
    total=167,
    collected=0,
    failed=0,
    last_progress_at=None,
    finished_at=None,
    cancelled_at=None,
)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)


def seconds(moment: datetime | None) -> float:
    """From noon until then."""
    assert moment is not None
    return (moment - NOON).total_seconds()


def with_gate(**columns: Any) -> Surroundings:
    return replace(CALM, gate=replace(GATE, **columns))


def with_terms(**terms: Any) -> Surroundings:
    return replace(CALM, terms=replace(TERMS, **terms))


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (FRESH, "queued"),
        (replace(FRESH, collected=1), "collecting"),
        (replace(FRESH, failed=1), "collecting"),
        (replace(FRESH, collected=166), "collecting"),
    ],
)
def test_an_open_collection_is_queued_until_something_is_settled(state: CollectionState, status: str) -> None:
    found = progress(state, CALM)
    assert (found.status, found.reason) == (status, None)


def test_a_finished_collection_is_done_whatever_is_around_it() -> None:
    finished = replace(FRESH, collected=167, finished_at=NOON)
    for around in (CALM, replace(CALM, gate=None), replace(CALM, consumer_alive=False), with_gate(state="key")):
        assert progress(finished, around) == Progress("done", None, NOON)


def test_a_cancelled_collection_is_expected_no_more() -> None:
    cancelled = replace(FRESH, collected=3, finished_at=NOON, cancelled_at=NOON)
    assert progress(cancelled, CALM) == Progress("cancelled", None, None)


@pytest.mark.parametrize(
    ("around", "reason"),
    [
        (replace(CALM, gate=None), "no consumer"),
        (replace(CALM, consumer_alive=False), "no consumer"),
        (with_gate(state="quota"), "provider"),
        (with_gate(state="provider"), "provider"),
        (with_gate(state="key"), "key"),
        (with_gate(state="database"), "database"),
        (with_gate(month_spent=1_000_000), "month"),
        (with_gate(month_spent=1_000_001), "month"),
    ],
)
@pytest.mark.parametrize("collected", [0, 5])
def test_what_it_waits_for_is_the_first_thing_that_stands_in_the_way(
    around: Surroundings, reason: str, collected: int
) -> None:
    found = progress(replace(FRESH, collected=collected), around)
    assert (found.status, found.reason) == ("waiting", reason)


def test_a_silent_consumer_is_told_before_a_closed_gate() -> None:
    assert progress(FRESH, replace(with_gate(state="key"), consumer_alive=False)).reason == "no consumer"


def test_the_spending_of_last_month_does_not_count() -> None:
    assert progress(FRESH, with_gate(month="2026-10", month_spent=1_000_000)).reason is None
    assert progress(FRESH, with_gate(month="2026-10", next_month_spent=1_000_000)).reason == "month"


def test_even_month_pacing_makes_it_wait_before_the_budget_is_spent() -> None:
    # At noon of the 20th, 20.5 of 30 days' shares are allowed.
    around = replace(with_terms(month_pacing="even"), gate=replace(GATE, month_spent=700_000))
    assert progress(FRESH, around).reason == "month"
    assert progress(FRESH, replace(around, gate=replace(GATE, month_spent=650_000))).reason is None


@pytest.mark.parametrize(
    "around", [replace(CALM, gate=None), replace(CALM, consumer_alive=False), with_gate(state="key")]
)
def test_nobody_knows_when_as_long_as_a_person_has_to_act(around: Surroundings) -> None:
    assert expected_at(167, around) is None


@pytest.mark.parametrize(
    ("cities", "endpoint", "after_s"),
    [
        *[(1, "group", 0), (20, "group", 0), (21, "group", 20), (167, "group", 160), (167, "unknown", 160)],
        *[(1, "single", 0), (2, "single", 1), (167, "single", 166)],
    ],
)
def test_smooth_pacing_asks_for_the_last_call_when_all_before_it_are_paid(
    cities: int, endpoint: str, after_s: float
) -> None:
    assert seconds(expected_at(cities, with_gate(endpoint=endpoint))) == after_s


def test_smooth_pacing_of_single_calls_on_a_large_quota_asks_for_a_second_of_it_at_once() -> None:
    around = replace(with_terms(cities_per_window=600), gate=replace(GATE, endpoint="single"))
    assert seconds(expected_at(20, around)) == 1


@pytest.mark.parametrize(
    ("cities", "held", "after_s"), [(60, 0, 0), (61, 0, 60), (120, 0, 60), (167, 0, 120), (1, 60, 60), (10, 50, 0)]
)
def test_burst_pacing_needs_as_many_windows_as_the_quota_makes_of_it(cities: int, held: int, after_s: float) -> None:
    assert seconds(expected_at(cities, replace(with_terms(pacing="burst"), held=held))) == after_s


def test_it_begins_when_the_next_call_may_start() -> None:
    around = with_gate(next_start_at=NOON + timedelta(seconds=7))
    assert seconds(expected_at(167, around)) == 167
    burst = replace(around, terms=replace(TERMS, pacing="burst"))
    assert seconds(expected_at(60, burst)) == 0


@pytest.mark.parametrize("pacing", ["smooth", "burst"])
def test_it_begins_when_a_closed_gate_is_tried_again(pacing: str) -> None:
    around = replace(with_terms(pacing=pacing), gate=replace(GATE, blocked_until=NOON + timedelta(seconds=90)))
    assert seconds(expected_at(20, around)) == 0
    for state in ("quota", "provider", "database"):
        closed = replace(around, gate=replace(around.gate or GATE, state=state))
        assert seconds(expected_at(20, closed)) == 90


def test_collections_are_served_in_turn_so_a_small_one_waits_for_its_share_only() -> None:
    assert seconds(expected_at(20, replace(CALM, others=(5000,)))) == 20
    assert seconds(expected_at(20, replace(CALM, others=(5000, 10)))) == 40
    assert seconds(expected_at(5000, replace(CALM, others=(20,)))) == 5000


def test_what_the_month_does_not_allow_comes_next_month() -> None:
    assert expected_at(10, with_gate(month_spent=999_990)) == NOON
    assert expected_at(11, with_gate(month_spent=999_990)) == DECEMBER
    assert expected_at(1, with_gate(month_spent=2_000_000)) == DECEMBER


def test_what_several_months_allow_takes_several() -> None:
    around = with_terms(cities_per_month=100)
    assert seconds(expected_at(100, around)) == 80
    assert expected_at(101, around) == DECEMBER
    assert expected_at(201, around) == datetime(2027, 1, 1, tzinfo=UTC)


def test_even_month_pacing_spreads_it_over_the_month() -> None:
    around = with_terms(month_pacing="even", cities_per_month=3000)
    assert seconds(expected_at(100, replace(around, gate=replace(GATE, month_spent=1900)))) == 80
    late = expected_at(900, replace(around, gate=replace(GATE, month_spent=2000)))
    # 2,900 of 3,000 are allowed when 28 of 30 days' shares are, which is one day earlier.
    assert late == datetime(2026, 11, 29, 0, 0, 0, 1000, tzinfo=UTC)


@pytest.mark.parametrize(
    "around",
    [
        with_terms(cities_per_month=1),
        with_terms(cities_per_window=1, window_s=86_400.0),
        with_terms(cities_per_window=1, window_s=86_400.0, pacing="burst"),
        replace(with_terms(cities_per_window=1, window_s=86_400.0), others=(250_000,) * 10_000),
    ],
)
def test_an_estimate_further_away_than_a_century_is_none(around: Surroundings) -> None:
    assert expected_at(250_000, around) is None


def test_the_others_are_all_but_this_one() -> None:
    assert others([("a", 1), ("b", 2), ("c", 3)], "b") == (1, 3)


SURROUNDINGS: st.SearchStrategy[Surroundings] = st.builds(
    lambda q, w, pacing, month_pacing, budget, spent, others, held, state, blocked: replace(
        CALM,
        terms=replace(
            TERMS, cities_per_window=q, window_s=w, pacing=pacing, month_pacing=month_pacing, cities_per_month=budget
        ),
        gate=replace(GATE, month_spent=spent, state=state, blocked_until=NOON + timedelta(seconds=blocked)),
        others=tuple(others),
        held=held,
    ),
    st.integers(1, 30_000),
    st.floats(0.1, 86_400),
    st.sampled_from(["smooth", "burst"]),
    st.sampled_from(["even", "none"]),
    st.integers(1, 10**9),
    st.integers(0, 10**9),
    st.lists(st.integers(0, 250_000), max_size=5),
    st.integers(0, 30_000),
    st.sampled_from(["open", "quota", "key", "provider", "database"]),
    st.integers(-3600, 3600),
)


@given(around=SURROUNDINGS, cities=st.integers(1, 250_000), more=st.integers(0, 1000))
def test_more_cities_never_take_less_time_and_none_are_expected_in_the_past(
    around: Surroundings, cities: int, more: int
) -> None:
    fewer, all_of_them = expected_at(cities, around), expected_at(cities + more, around)
    if all_of_them is not None:
        assert fewer is not None
        assert NOON <= fewer <= all_of_them


@given(around=SURROUNDINGS, collected=st.integers(0, 166))
def test_a_reason_is_given_when_and_only_when_it_waits(around: Surroundings, collected: int) -> None:
    found = progress(replace(FRESH, collected=collected), around)
    assert (found.status == "waiting") == (found.reason is not None)
