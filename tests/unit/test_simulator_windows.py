"""Counting in rolling windows: exact at the edges, and the same as counting by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.windows import Peak, RollingQuota, Window

ARRIVALS = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 20)), max_size=60).map(sorted)


def test_an_arrival_leaves_the_window_exactly_when_its_width_has_passed() -> None:
    window = Window(60)
    window.add(0, 20)
    assert window.units(59.999) == 20
    assert window.units(60) == 0


def test_arrivals_a_whole_window_apart_never_share_one() -> None:
    peak = Peak(60)
    for at in (0, 60, 120):
        peak.add(at, 60)
    assert peak.units == 60


def test_a_burst_across_a_fixed_windows_edge_is_seen() -> None:
    peak = Peak(60)
    peak.add(59, 60)
    peak.add(61, 60)
    assert peak.units == 120


def test_the_peak_stays_after_its_arrivals_have_left() -> None:
    peak = Peak(60)
    peak.add(0, 45)
    peak.add(1000, 5)
    assert peak.units == 45


@given(ARRIVALS, st.integers(1, 120))
def test_the_peak_is_what_trying_every_window_finds(arrivals: list[tuple[int, int]], width: int) -> None:
    peak = Peak(width)
    for at, units in arrivals:
        peak.add(at, units)
    by_hand = (sum(units for at, units in arrivals if start <= at < start + width) for start in range(301))
    assert peak.units == max(by_hand, default=0)


@given(ARRIVALS, st.integers(1, 60), st.integers(1, 120))
def test_the_quota_never_lets_more_through_than_its_limit(
    arrivals: list[tuple[int, int]], limit: int, width: int
) -> None:
    quota, peak = RollingQuota(limit, width), Peak(width)
    for at, units in arrivals:
        if quota.admit(at, units):
            peak.add(at, units)
    assert peak.units <= limit


def test_what_the_quota_refuses_uses_nothing_up() -> None:
    quota = RollingQuota(60, 60)
    assert quota.admit(0, 50)
    assert not quota.admit(1, 11)
    assert quota.admit(2, 10)


def test_a_full_quota_opens_as_its_oldest_units_leave() -> None:
    quota = RollingQuota(60, 60)
    assert quota.admit(0, 20)
    assert quota.admit(30, 40)
    assert not quota.admit(59.9, 20)
    assert quota.admit(60, 20)
    assert not quota.admit(60, 1)


def test_a_quota_of_zero_lets_everything_through() -> None:
    quota = RollingQuota(0, 60)
    assert all(quota.admit(0, 1000) for _ in range(10))


@pytest.mark.parametrize(("limit", "passes"), [(59, False), (60, True)])
def test_a_changed_limit_counts_what_is_in_the_window_already(limit: int, passes: bool) -> None:
    quota = RollingQuota(100, 60)
    assert quota.admit(0, 40)
    quota.change(limit, 60)
    assert quota.admit(1, 20) is passes


def test_a_narrower_window_forgets_sooner() -> None:
    quota = RollingQuota(60, 60)
    assert quota.admit(0, 60)
    quota.change(60, 10)
    assert not quota.admit(9, 1)
    assert quota.admit(10, 60)
