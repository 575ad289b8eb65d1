"""The replay of the charges: the most that any window can have seen, by brute force and on real ledgers."""

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from raingauge.model import Charge
from raingauge.quota.pacing import Terms
from raingauge.quota.proof import Worst, last_arrival
from tests.simulation.provider import Witness
from tests.support.windows import worst_window

EPOCH: Final = datetime(2026, 11, 1, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)
TICK: Final = timedelta(microseconds=1)
TERMS: Final = Terms(60, 60.0, "smooth", 10**9, "none", timeout_s=10.0)
"""A call arrives within 25 s of its reservation, if it ever does."""
SMALL: Final = replace(TERMS, window_s=20.0)
"""A window so short that charges of a few seconds' distance often share one."""


def second(number: float) -> datetime:
    return EPOCH + timedelta(seconds=number)


def charge(reserved: float, closed: float | None, cost: int = 20) -> Charge:
    ends = second(reserved + 25) if closed is None else second(closed)
    return Charge(second(reserved), ends, None if closed is None else second(closed), cost)


def worst_of(*given_charges: Charge, since: float = -3600, until: float = 3600, terms: Terms = TERMS) -> Worst:
    return worst_window(given_charges, terms, second(since), second(until))


def seen(given_charges: Iterable[Charge], terms: Terms, x: datetime) -> int:
    """What the window that begins at x can have seen."""
    end = x + timedelta(seconds=terms.window_s)
    return sum(each.cost for each in given_charges if each.reserved_at < end and last_arrival(each, terms) >= x)


def by_brute_force(given_charges: Iterable[Charge], terms: Terms, since: datetime, until: datetime) -> int:
    """Every window that could be the worst, each looked at by itself."""
    window = timedelta(seconds=terms.window_s)
    known = list(given_charges)
    turns = {since, until} | {moment for each in known for moment in (each.reserved_at, last_arrival(each, terms))}
    turns |= {moment - window for moment in turns}
    begins = [turn + by for turn in turns for by in (-TICK, timedelta(0), TICK) if since - window < turn + by <= until]
    return max((seen(known, terms, x) for x in begins), default=0)


def test_charges_count_together_if_they_can_have_arrived_in_one_half_open_window() -> None:
    assert worst_of() == Worst(0, None, 0, 0)
    assert worst_of(charge(0, 1), charge(30, 31)) == Worst(40, second(1), 2, 40)
    assert worst_of(charge(0, 1), charge(61, 62)).cities == 20
    assert worst_of(charge(0, 1), charge(60.999999, 62)).cities == 40
    assert worst_of(charge(0, None), charge(84.9, 85)).cities == 40
    assert worst_of(charge(0, None), charge(85, 86)).cities == 20


def test_a_call_arrives_between_its_reservation_and_the_longest_delay() -> None:
    assert last_arrival(charge(0, 3), TERMS) == second(3)
    assert last_arrival(charge(0, None), TERMS) == second(25)
    assert last_arrival(charge(0, 500), TERMS) == second(25), "it was closed late"
    assert last_arrival(charge(10, 3), TERMS) == second(10), "the database's clock stepped back"


def test_a_charge_that_ends_early_hides_nothing() -> None:
    early = [replace(each, ends_at=each.reserved_at) for each in (charge(0, 1, 40), charge(2, 3, 40))]
    assert worst_of(*early).cities == 80


def test_only_windows_that_touch_the_time_count() -> None:
    busy = [charge(0, 1), charge(2, 3), charge(100, 101)]
    assert worst_of(*busy, since=99, until=120) == Worst(20, second(101), 1, 20)
    assert worst_of(*busy, since=60.5, until=70).cities == 40, "the window from 1 to 61"
    assert worst_of(*busy, since=61, until=70).cities == 20
    assert worst_of(*busy, since=63, until=70) == Worst(20, second(70), 1, 20)
    assert worst_of(*busy, since=-10, until=-1) == Worst(40, second(-1), 2, 40)
    assert worst_of(*busy, since=-70, until=-60) == Worst(0, None, 0, 0)


CHARGES: Final = st.lists(
    st.builds(
        lambda reserved, lasts, cost: charge(reserved, None if lasts is None else reserved + lasts, cost),
        st.integers(0, 120),
        st.none() | st.integers(0, 40),
        st.integers(1, 20),
    ),
    max_size=12,
)


@settings(max_examples=500, deadline=None)
@given(CHARGES, st.integers(-60, 150), st.integers(0, 120), st.sampled_from([5.0, 20.0, 60.0]))
def test_the_sweep_finds_what_brute_force_finds(found: list[Charge], since: int, length: int, window_s: float) -> None:
    terms = replace(TERMS, window_s=window_s)
    begin, end = second(since), second(since + length)
    worst = worst_window(found, terms, begin, end)
    assert worst.cities == by_brute_force(found, terms, begin, end)
    assert worst.cities <= worst.charged <= sum(each.cost for each in found)
    if worst.begin is not None:
        assert worst.cities == seen(found, terms, worst.begin)


@settings(max_examples=200, deadline=None)
@given(CHARGES, st.randoms(use_true_random=False))
def test_no_arrivals_exceed_the_worst_and_some_reach_it(found: list[Charge], chance: random.Random) -> None:
    worst = worst_window(found, SMALL, second(-3600), second(3600))

    def most(place: Callable[[float, float], float]) -> int:
        spans = [((e.reserved_at - EPOCH) / TICK, (last_arrival(e, SMALL) - EPOCH) / TICK, e.cost) for e in found]
        witness = Witness()
        witness.arrivals = [(place(begin, end), cost) for begin, end, cost in spans]
        return witness.most_in_any_window(SMALL.window_s * 1e6)

    assert most(lambda begin, end: float(round(chance.uniform(begin, end)))) <= worst.cities
    if worst.begin is not None:
        at = (worst.begin - EPOCH) / TICK
        assert most(lambda begin, end: min(max(begin, at), end)) == worst.cities
