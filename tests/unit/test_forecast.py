"""How far a collection is, what it waits for and when it will be done: words for rows, without a database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer import forecast
from producer.forecast import Competition, Forecast, Progress, Snapshot, expected_at
from raingauge.model import DATABASE_STATES, Charge, CollectionState, Gate, OpenCollection
from raingauge.quota.pacing import Terms
from tests.api_support import NOON, gate_row

TERMS = Terms(
    cities_per_window=60, window_s=60, pacing="smooth", cities_per_month=1_000_000, month_pacing="none", timeout_s=10
)
GATE = Gate(**gate_row() | {"endpoint": "group"})
CALM = Snapshot(now=NOON, terms=TERMS, gate=GATE, consumer_alive=True, competition=Competition([]), held=0)
FRESH = CollectionState(
    id="1", requested_at=NOON, max_age_s=600, cities_hash="default", total=167, collected=0, failed=0, last_turn=0,
    last_progress_at=None, finished_at=None, cancelled_at=None,
)  # fmt: skip
STATES = {"quota": "provider", "provider": "provider", "key": "key", "database": "database", "failover": "failover"}
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


def test_an_ended_collection_is_done_or_cancelled_whatever_is_around_it() -> None:
    finished = replace(FRESH, collected=167, finished_at=NOON)
    for around in (CALM, replace(CALM, gate=None), replace(CALM, consumer_alive=False), with_gate(state="key")):
        assert progress(finished, around) == Progress("done", None, NOON)
        assert progress(replace(finished, collected=3, cancelled_at=NOON), around) == Progress("cancelled", None, None)


@pytest.mark.parametrize(
    ("around", "reason"),
    [
        (CALM, None),
        (replace(CALM, gate=None), "no consumer"),
        (replace(CALM, consumer_alive=False), "no consumer"),
        (replace(with_gate(state="key"), consumer_alive=False), "no consumer"),
        *((with_gate(state=state), reason) for state, reason in STATES.items()),
        *((with_gate(month_spent=spent), "month") for spent in (1_000_000, 1_000_001)),
        (with_gate(month="2026-10", next_month_spent=1_000_000), "month"),
        (with_gate(month="2026-10", month_spent=1_000_000), None),
    ],
)
def test_what_it_waits_for_is_the_first_thing_that_stands_in_the_way(around: Snapshot, reason: str | None) -> None:
    begun = (replace(FRESH, collected=1), replace(FRESH, failed=1), replace(FRESH, collected=166))
    for state in (FRESH, *begun):
        found = progress(state, around)
        otherwise = "collecting" if state in begun else "queued"
        assert (found.status, found.reason) == ("waiting" if reason else otherwise, reason)
    if reason in {"no consumer", "key"}:
        assert expected_at(167, around) is None, "a person has to act first"


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


SINGLE = with_gate(endpoint="single")
BURST = with_terms(pacing="burst")
BLOCKED: Final[dict[str, Any]] = {"blocked_until": after(90)}
# An answer takes two seconds, too long for others to fill up a probe's call.
SLOW = replace(holding(charge(1, -70, -68)), gate=replace(GATE, endpoint="unknown"))
EVEN = with_terms(month_pacing="even", cities_per_month=3000)
UNDER_WAY = holding(charge(20, -30, -29.8), charge(20, -0.1))


@pytest.mark.parametrize(
    ("around", "expected_s"),
    [
        # Smooth pacing: the last call goes when all before it are paid.
        (CALM, {1: 0, 20: 0, 21: 20, 167: 160}),
        (with_gate(endpoint="unknown"), {1: 0, 2: 0, 20: 0, 21: 20, 167: 160}),
        (with_gate(endpoint="refused"), {1: 0, 2: 1, 3: 2}),
        (SINGLE, {1: 0, 2: 1, 167: 166}),
        (replace(SINGLE, terms=replace(TERMS, cities_per_window=600)), {20: 1}),  # a second of a large quota at once
        # Burst pacing: as many windows as the quota makes of it.
        (BURST, {60: 0, 61: 60, 120: 60, 167: 120}),
        (replace(BURST, held=60), {1: 60}),
        (replace(BURST, held=50), {10: 0}),
        # It begins when the next call may start, or when a closed gate is tried again.
        (with_gate(next_start_at=after(7)), {167: 167}),
        (replace(BURST, gate=replace(GATE, next_start_at=after(7))), {60: 0}),
        (with_gate(**BLOCKED), {20: 0}),
        *((with_gate(state=state, **BLOCKED), {1: 90, 20: 90}) for state in ("quota", "provider", *DATABASE_STATES)),
        (replace(BURST, gate=replace(GATE, state="provider", **BLOCKED)), {1: 90, 20: 90}),
        # A probe that is under way is not made again; an endpoint that is set needs none.
        (with_gate(endpoint="unknown", probe_until=after(5)), {21: 20}),
        *((replace(SLOW, endpoint=endpoint), {20: s}) for endpoint, s in (("auto", 4), ("group", 2), ("single", 21))),
        # A call that was short a moment ago is filled up first.
        (replace(holding(charge(5, -1, -1)), gate=replace(GATE, next_start_at=after(4))), {15: 0, 16: 19}),
        # Answers take as long as they took lately. What is under way is not fetched again.
        (holding(charge(1, -40, -39.5), charge(1, -20, -19.5), charge(1, -10, -3)), {20: 0.5}),
        (UNDER_WAY, {20: 0.2}),
        (replace(UNDER_WAY, gate=replace(GATE, next_start_at=after(19.9))), {40: 20.1}),
        # A charge that was never answered is held, and no longer waited for.
        (holding(charge(60, -20)), {20: 65}),
        # It goes on when what is held is released. Of smooth pacing's 60, 40 are held for 5 s more, 20 for 50 s.
        (holding(charge(20, -25, -25), charge(20, -50, -50), pacing="burst"),
         {20: 0, 21: 10, 40: 10, 41: 35, 60: 35, 61: 60, 81: 70}),
        (holding(charge(40, -80), charge(20, -10, -10)), {20: 5, 40: 25, 60: 50}),
        # Charges that were not read are taken for held a window longer; older terms may have allowed more.
        (replace(holding(charge(20, -50, -50), pacing="burst"), held=60), {20: 10, 21: 60}),
        (holding(charge(60, -50, -50), charge(20, -30, -30), pacing="burst"), {40: 10, 41: 30}),
        # A month that has enough for the last of them.
        (with_terms(cities_per_month=100), {100: 80}),
        (replace(EVEN, gate=replace(GATE, month_spent=1900)), {100: 80}),
    ],
)  # fmt: skip
def test_when_the_last_of_some_cities_is_fetched(around: Snapshot, expected_s: dict[int, float]) -> None:
    found = {cities: seconds(expected_at(cities, around)) for cities in expected_s}
    assert found == pytest.approx(expected_s)


def test_fresh_cities_take_no_time_and_a_large_quota_is_played_forward_in_few_steps() -> None:
    assert [seconds(progress(FRESH, CALM, fresh=fresh).expected_at) for fresh in (146, 147, 167)] == [20, 0, 0]
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
def test_the_others_get_as_many_until_a_collection_is_done(
    others: list[tuple[str, int]], left: int, units: int
) -> None:
    listed = [OpenCollection(f"{number}.", *one, 5, one[1], 5 + one[1]) for number, one in enumerate(others)]
    itself = OpenCollection(FRESH.id, FRESH.cities_hash, 10_000, 5, 10_000, 10_005)
    for open_collections in (listed, [itself, *listed], [*listed, itself]):
        competition = Competition(open_collections)
        state = replace(FRESH, collected=5, last_turn=left, enqueued=5 + left)
        assert [competition.units(state, left) for _ in range(2)] == [units] * 2


OTHERS: st.SearchStrategy[list[OpenCollection]] = st.lists(
    st.builds(OpenCollection, st.just(""), st.sampled_from("abcdef"), *[st.integers(0, 100)] * 4), max_size=12
)


@given(others=OTHERS, gate_turn=st.integers(0, 100), is_open=st.booleans())
def test_many_open_collections_are_summed_up_as_few(
    others: list[OpenCollection], gate_turn: int, is_open: bool
) -> None:
    others = [one._replace(id=f"{n:02}") for n, one in enumerate(others)]
    # Its id is the highest: of many, all others count as those that go first where turns are equal.
    state = replace(FRESH, id="~", cities_hash="a", total=50, last_turn=40, enqueued=30)
    if is_open:
        others.append(OpenCollection("~", "a", 50, 0, 40, 30))
    exact = Competition(others, gate_turn).units(state, 50)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forecast, "EXACT_UP_TO", -1)
        assert Competition(others, gate_turn).units(state, 50) == exact


@pytest.mark.parametrize(
    ("around", "cities", "moment"),
    [
        (with_gate(month_spent=999_990), 10, NOON),
        (with_gate(month_spent=999_990), 11, DECEMBER),
        (with_gate(month_spent=999_940), 3660, DECEMBER + timedelta(minutes=59)),
        (with_gate(month_spent=2_000_000), 1, DECEMBER),
        (with_terms(cities_per_month=100), 101, DECEMBER),
        (with_terms(cities_per_month=100), 201, datetime(2027, 1, 1, tzinfo=UTC)),
        # 2,900 of 3,000 are allowed when 28 of 30 days' shares are, which is one day earlier.
        (replace(EVEN, gate=replace(GATE, month_spent=2000)), 900, datetime(2026, 11, 29, 0, 0, 0, 1000, tzinfo=UTC)),
    ],
)
def test_what_the_month_forbids_comes_on_a_later_day_or_month(around: Snapshot, cities: int, moment: datetime) -> None:
    assert expected_at(cities, around) == moment


def test_an_estimate_further_away_than_a_century_is_none() -> None:
    assert expected_at(250_000, with_terms(cities_per_month=1)) is None
    for pacing in ("smooth", "burst"):
        assert expected_at(250_000, with_terms(cities_per_window=1, window_s=86_400.0, pacing=pacing)) is None


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
    st.sampled_from(["open", "quota", "key", "provider", "database", "failover"]),
    st.integers(-3600, 3600),
)


@given(around=SNAPSHOTS, cities=st.integers(1, 250_000), more=st.integers(0, 1000))
def test_more_cities_never_take_less_time_and_none_end_in_the_past(around: Snapshot, cities: int, more: int) -> None:
    fewer, all_of_them = expected_at(cities, around), expected_at(cities + more, around)
    if all_of_them is not None:
        assert fewer is not None
        assert NOON <= fewer <= all_of_them


@given(around=SNAPSHOTS, collected=st.integers(0, 166))
def test_a_reason_is_given_when_and_only_when_it_waits(around: Snapshot, collected: int) -> None:
    found = progress(replace(FRESH, collected=collected), around)
    assert (found.status == "waiting") == (found.reason is not None)
