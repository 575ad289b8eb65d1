"""The witness and its rolling windows: exact at the edges, and the same as counting by hand."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from simulator.witness import DROPPED, KEPT_IDS, Endpoint, Peak, Window, Witness

ARRIVALS = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 20)), max_size=60).map(sorted)


def witness_of(calls: int, keep: int) -> Witness:
    """A witness of single calls, one each second."""
    witness = Witness(60, keep=keep)
    for at in range(calls):
        witness.arrived(at, Endpoint.SINGLE, [at], 1)
    return witness


@given(ARRIVALS, st.integers(1, 120))
@example([(0, 60), (60, 60), (120, 60)], 60)  # a whole window apart
@example([(59, 60), (61, 60)], 60)  # across the edge of a fixed window
def test_the_peak_is_what_trying_every_window_finds(arrivals: list[tuple[int, int]], width: int) -> None:
    peak = Peak(width)
    for at, units in arrivals:
        peak.add(at, units)
    by_hand = (sum(units for at, units in arrivals if start <= at < start + width) for start in range(301))
    assert peak.units == max(by_hand, default=0)


@given(ARRIVALS, st.integers(1, 60), st.integers(1, 120))
def test_a_window_never_admits_more_than_its_limit(arrivals: list[tuple[int, int]], limit: int, width: int) -> None:
    window, peak = Window(width), Peak(width)
    for at, units in arrivals:
        if window.admit(at, units, limit):
            peak.add(at, units)
    assert peak.units <= limit


def test_what_a_window_refuses_uses_nothing_up_and_it_opens_as_its_oldest_units_leave() -> None:
    window = Window(60)
    calls = [(0, 20), (30, 41), (30, 40), (59.9, 20), (60, 20), (60, 1)]
    assert [window.admit(at, units, 60) for at, units in calls] == [True, False, True, False, True, False]


def test_a_limit_of_zero_admits_everything_and_a_new_limit_counts_it() -> None:
    window = Window(60)
    assert all(window.admit(0, 1000, 0) for _ in range(10))
    assert not window.admit(59, 1, 9999)
    window.width_s = 10
    assert window.admit(59, 60, 60)


def test_calls_are_counted_and_kept_as_they_arrived() -> None:
    witness = Witness(60)
    first = witness.arrived(1.5, Endpoint.GROUP, [3, 3, -1], 3)
    second = witness.arrived(2.5, Endpoint.SINGLE, [], 1)
    third = witness.arrived(3.5, Endpoint.SINGLE, [1], 0)
    witness.answered(second, 429)
    witness.answered(third, DROPPED)
    assert witness.page(0, 10) == [first, second, third]
    assert [(call.number, list(call.ids), call.status) for call in witness.page(0, 2)] == [
        (1, [3, 3, -1], None),
        (2, [], 429),
    ]
    assert (witness.first_at, witness.last_at, witness.peak.units) == (1.5, 3.5, 4)
    assert witness.statuses == {429: 1, DROPPED: 1}
    assert (witness.calls[Endpoint.SINGLE], witness.units[Endpoint.GROUP]) == (2, 3)


@pytest.mark.parametrize(
    ("after", "numbers"), [(0, [16, 17, 18]), (15, [16, 17, 18]), (16, [17, 18, 19]), (34, [35]), (35, [])]
)
def test_the_latest_calls_are_kept_and_read_in_pages(after: int, numbers: list[int]) -> None:
    witness = witness_of(35, keep=20)
    assert witness.first_number == 16
    assert [call.number for call in witness.page(after, 3)] == numbers


def test_of_an_endless_list_of_ids_only_the_beginning_is_kept() -> None:
    call = Witness(60).arrived(0, Endpoint.GROUP, range(5000), 5000)
    assert (len(call.ids), call.units) == (KEPT_IDS, 5000)


def test_another_windows_peak_is_counted_over_the_kept_calls() -> None:
    witness = witness_of(100, keep=30)
    assert [witness.peak_of(width).units for width in (1, 25, 1000, 60)] == [1, 25, 30, 60]
