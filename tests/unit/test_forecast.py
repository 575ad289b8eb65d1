"""How far a collection is, what it waits for and when it will be done: words for rows, without a database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.forecast import Competition, Forecast, Progress, Snapshot, expected_at
from raingauge.model import Charge, CollectionState, Gate, OpenCollection
from raingauge.quota.pacing import Terms
from tests.api_support import NOON, gate_row

TERMS = Terms(
    cities_per_window=60, window_s=60, pacing="smooth", cities_per_month=1_000_000, month_pacing="none", timeout_s=10
)
GATE = Gate(**gate_row() | {"endpoint": "group"})
CALM = Snapshot(now=NOON, terms=TERMS, gate=GATE, consumer_alive=True, competition=Competition([]), held=0)
FRESH = CollectionState(
    id="1",
    requested_at=NOON,
    max_age_s=600,
    cities_hash="default",
    total=167,
    collected=0,
    failed=0,
    last_turn=0,
    last_progress_at=None,
    finished_at=None,
    cancelled_at=None,
)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def charge(cost: int, reserved_s: float, closed_s: float | None = None) -> Charge:
    """A charge; seconds from noon."""
    closed_at = None if closed_s is None else after(closed_s)
    return Charge(after(reserved_s), closed_at or after(reserved_s + 25), closed_at, cost)


def holding(*charges: Charge, **terms: Any) -> Snapshot:
    """A snapshot with these charges."""
    return replace(with_terms(**terms), charges=charges, held=sum(each.cost for each in charges))


def progress(state: CollectionState, around: Snapshot, fresh: int = 0) -> Progress:
    return Forecast(around).progress(state, fresh)


def seconds(moment: datetime | None) -> float:
    """From noon until then."""
    assert moment is not None
    return (moment - NOON).total_seconds()


def with_gate(**columns: Any) -> Snapshot:
    return replace(CALM, gate=replace(GATE, **columns))


def with_terms(**terms: Any) -> Snapshot:
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
    around: Snapshot, reason: str, collected: int
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


def test_a_month_that_allows_less_than_a_call_is_the_reason_and_the_end_stays_as_time_goes_by() -> None:
    around = replace(with_terms(month_pacing="even"), gate=replace(GATE, month_spent=683_328))  # five are allowed
    assert progress(replace(FRESH, total=5), around).reason is None
    found = [progress(FRESH, replace(around, now=after(moment))) for moment in (0, 10, 30)]
    assert [(each.status, each.reason) for each in found] == [("waiting", "month")] * 3
    assert len({each.expected_at for each in found}) == 1


@pytest.mark.parametrize(
    "around", [replace(CALM, gate=None), replace(CALM, consumer_alive=False), with_gate(state="key")]
)
def test_nobody_knows_when_as_long_as_a_person_has_to_act(around: Snapshot) -> None:
    assert expected_at(167, around) is None


@pytest.mark.parametrize(
    ("cities", "endpoint", "after_s"),
    [
        *[(1, "group", 0), (20, "group", 0), (21, "group", 20), (167, "group", 160)],
        *[(1, "unknown", 0), (2, "unknown", 0), (20, "unknown", 0), (21, "unknown", 20), (167, "unknown", 160)],
        *[
            (1, "refused", 0),
            (2, "refused", 1),
            (3, "refused", 2),
            (1, "single", 0),
            (2, "single", 1),
            (167, "single", 166),
        ],
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
    around = with_gate(next_start_at=after(7))
    assert seconds(expected_at(167, around)) == 167
    burst = replace(around, terms=replace(TERMS, pacing="burst"))
    assert seconds(expected_at(60, burst)) == 0


@pytest.mark.parametrize("pacing", ["smooth", "burst"])
def test_it_begins_when_a_closed_gate_is_tried_again(pacing: str) -> None:
    around = replace(with_terms(pacing=pacing), gate=replace(GATE, blocked_until=NOON + timedelta(seconds=90)))
    assert seconds(expected_at(20, around)) == 0
    for state in ("quota", "provider", "database"):
        closed = replace(around, gate=replace(around.gate or GATE, state=state))
        assert seconds(expected_at(1, closed)) == 90
        assert seconds(expected_at(20, closed)) == 90


def test_a_probe_that_is_under_way_is_not_made_again() -> None:
    assert seconds(expected_at(21, with_gate(endpoint="unknown", probe_until=after(5)))) == 20


@pytest.mark.parametrize(("endpoint", "after_s"), [("auto", 4), ("group", 2), ("single", 21)])
def test_an_endpoint_that_is_set_needs_no_probe(endpoint: str, after_s: float) -> None:
    around = holding(charge(1, -70, -68))  # an answer takes two seconds, too long for others to fill up a probe's call
    around = replace(around, gate=replace(GATE, endpoint="unknown"), endpoint=endpoint)
    assert seconds(expected_at(20, around)) == after_s


def test_a_call_that_was_short_a_moment_ago_is_filled_up_first() -> None:
    around = replace(holding(charge(5, -1, -1)), gate=replace(GATE, next_start_at=after(4)))
    assert [seconds(expected_at(cities, around)) for cities in (15, 16)] == [0, 19]


def test_fresh_cities_take_no_time() -> None:
    assert progress(FRESH, CALM, fresh=147).expected_at == NOON
    assert seconds(progress(FRESH, CALM, fresh=146).expected_at) == 20
    assert progress(FRESH, CALM, fresh=167).expected_at == NOON


def test_answers_take_as_long_as_they_took_lately() -> None:
    around = holding(charge(1, -40, -39.5), charge(1, -20, -19.5), charge(1, -10, -3))
    assert seconds(expected_at(20, around)) == 0.5


def test_cities_that_are_being_asked_for_are_not_asked_for_again() -> None:
    around = holding(charge(20, -30, -29.8), charge(20, -0.1))
    assert seconds(expected_at(20, around)) == 0.2
    around = replace(around, gate=replace(GATE, next_start_at=after(19.9)))
    assert seconds(expected_at(40, around)) == pytest.approx(20.1)


def test_a_charge_that_was_never_answered_is_held_and_no_longer_waited_for() -> None:
    around = holding(charge(60, -20))
    assert seconds(expected_at(20, around)) == 65


@pytest.mark.parametrize(("cities", "after_s"), [(20, 0), (21, 10), (40, 10), (41, 35), (60, 35), (61, 60), (81, 70)])
def test_burst_pacing_goes_on_when_what_is_held_is_released(cities: int, after_s: float) -> None:
    around = holding(charge(20, -25, -25), charge(20, -50, -50), pacing="burst")
    assert seconds(expected_at(cities, around)) == after_s


def test_smooth_pacing_waits_for_a_window_that_is_full() -> None:
    around = holding(charge(40, -80), charge(20, -10, -10))
    # Of 60 cities 40 are held for 5 s more, 20 for 50 s.
    assert [seconds(expected_at(cities, around)) for cities in (20, 40, 60)] == [5, 25, 50]


def test_charges_that_were_not_read_are_taken_for_held_a_window_longer() -> None:
    around = replace(holding(charge(20, -50, -50), pacing="burst"), held=60)
    assert [seconds(expected_at(cities, around)) for cities in (20, 21)] == [10, 60]


def test_more_may_be_held_than_the_quota_by_older_terms() -> None:
    around = holding(charge(60, -50, -50), charge(20, -30, -30), pacing="burst")
    assert [seconds(expected_at(cities, around)) for cities in (40, 41)] == [10, 30]


def test_a_large_quota_is_played_forward_in_few_steps() -> None:
    around = with_terms(cities_per_window=30_000)
    assert seconds(expected_at(60_000, around)) == pytest.approx(120, abs=1)
    assert seconds(expected_at(600_000, around)) == pytest.approx(1200, rel=0.01)


@pytest.mark.parametrize(
    ("others", "left", "units"),
    [
        ([("a", 5000)], 20, 40),
        ([("a", 5000), ("b", 10)], 20, 50),
        ([("a", 20)], 5000, 5020),
        ([("default", 9), ("default", 4), ("default", 12)], 9, 9),
        ([("theirs", 9), ("theirs", 4)], 20, 29),
    ],
    ids=["a longer one", "two", "a shorter one", "those of the same cities", "two that share a call"],
)
def test_the_others_get_as_many_cities_until_a_collection_is_done(
    others: list[tuple[str, int]], left: int, units: int
) -> None:
    listed = [OpenCollection(f"{number}.", *one, 5, one[1], 5 + one[1]) for number, one in enumerate(others)]
    itself = OpenCollection(FRESH.id, FRESH.cities_hash, 10_000, 5, 10_000, 10_005)
    for open_collections in (listed, [itself, *listed], [*listed, itself]):
        competition = Competition(open_collections)
        state = replace(FRESH, collected=5, last_turn=left, enqueued=5 + left)
        assert [competition.units(state, left) for _ in range(2)] == [units] * 2


def test_a_small_collection_beside_a_big_one_waits_for_its_share_only() -> None:
    around = replace(CALM, competition=Competition([OpenCollection("a", "a", 5000, 5, 5000, 5005)]))
    assert seconds(progress(replace(FRESH, total=20, last_turn=20, enqueued=20), around).expected_at) == 20


def test_what_the_month_does_not_allow_comes_next_month() -> None:
    assert expected_at(10, with_gate(month_spent=999_990)) == NOON
    assert expected_at(11, with_gate(month_spent=999_990)) == DECEMBER
    assert expected_at(3660, with_gate(month_spent=999_940)) == DECEMBER + timedelta(hours=1) - timedelta(minutes=1)
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
    ],
)
def test_an_estimate_further_away_than_a_century_is_none(around: Snapshot) -> None:
    assert expected_at(250_000, around) is None


SNAPSHOTS: st.SearchStrategy[Snapshot] = st.builds(
    lambda q, w, pacing, month_pacing, budget, spent, others, held, state, blocked: replace(
        CALM,
        terms=replace(
            TERMS, cities_per_window=q, window_s=w, pacing=pacing, month_pacing=month_pacing, cities_per_month=budget
        ),
        gate=replace(GATE, month_spent=spent, state=state, blocked_until=NOON + timedelta(seconds=blocked)),
        competition=Competition(
            OpenCollection(f"{n}.", f"{n}", left, 5, left, 5 + left) for n, left in enumerate(others)
        ),
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


@given(around=SNAPSHOTS, cities=st.integers(1, 250_000), more=st.integers(0, 1000))
def test_more_cities_never_take_less_time_and_none_are_expected_in_the_past(
    around: Snapshot, cities: int, more: int
) -> None:
    fewer, all_of_them = expected_at(cities, around), expected_at(cities + more, around)
    if all_of_them is not None:
        assert fewer is not None
        assert NOON <= fewer <= all_of_them


@given(around=SNAPSHOTS, collected=st.integers(0, 166))
def test_a_reason_is_given_when_and_only_when_it_waits(around: Snapshot, collected: int) -> None:
    found = progress(replace(FRESH, collected=collected), around)
    assert (found.status == "waiting") == (found.reason is not None)
