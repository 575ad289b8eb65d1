"""Whose turn is next: equal shares whatever the size, newcomers first but never more than half."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raingauge.quota.fairness import (
    FIRST_FEW,
    Share,
    Turn,
    cities_until,
    is_fresh,
    newcomers_in,
    retry_turn,
    share,
    share_with_newcomers,
    turns,
    unknown_since,
)

NOW = datetime(2026, 11, 10, tzinfo=UTC)


def test_a_new_collection_starts_beside_the_others_and_its_first_few_at_the_head() -> None:
    assert turns(100, 0, newcomers=2, others=3) == (
        [Turn(100, True), Turn(100, True), Turn(101, False), Turn(102, False), Turn(103, False)],
        103,
    )


def test_the_next_batch_goes_on_behind_the_last_turn_of_its_collection() -> None:
    assert turns(100, 120, 0, 2) == ([Turn(121, False), Turn(122, False)], 122)
    assert turns(100, 120, 3, 0) == ([Turn(100, True)] * 3, 120)
    assert turns(100, 120, 0, 0) == ([], 120)


def test_a_city_that_failed_waits_for_the_last_turn_of_its_collection() -> None:
    assert (retry_turn(100, 120), retry_turn(100, 20)) == (120, 101)


@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 9))
def test_newcomers_get_half_while_others_wait_and_all_is_used(
    want: int, newcomers: int, others: int, spent: int
) -> None:
    few = share_with_newcomers(want, newcomers, others, spent)
    assert 0 <= few <= newcomers
    assert few + min(others, want - few) == min(want, newcomers + others)
    if others >= want // 2:
        assert few <= want - want // 2


def test_newcomers_without_end_leave_every_third_call_of_one_city_to_others() -> None:
    assert [share_with_newcomers(1, 100, 100, spent) for spent in range(6)] == [0, 1, 1, 0, 1, 1]


@pytest.mark.parametrize(
    ("batch", "size", "total", "newcomers"), [(0, 20, 20, FIRST_FEW), (0, 3, 3, 3), (0, 20, 21, 0), (1, 20, 100, 0)]
)
def test_the_first_few_are_those_of_a_small_collection(batch: int, size: int, total: int, newcomers: int) -> None:
    assert newcomers_in(batch, size, total) == newcomers


def test_an_observation_is_fresh_for_who_wants_none_later() -> None:
    assert is_fresh(NOW, NOW)
    assert not is_fresh(NOW, NOW + timedelta(microseconds=1))
    assert not is_fresh(None, NOW)


def test_an_unknown_city_stays_unknown_for_a_day_unless_only_a_new_answer_will_do() -> None:
    assert unknown_since(NOW, 600) == NOW - timedelta(days=1)
    assert unknown_since(NOW, 0) == NOW


def test_a_collection_that_is_enqueued_whole_has_the_turns_up_to_its_last() -> None:
    assert share(100, 140, left=30, settled=12, enqueued=42) == Share(newcomers=0, begin=110, others=30)
    assert share(100, 0, left=30, settled=0, enqueued=0) == Share(newcomers=0, begin=100, others=30)
    assert share(100, 0, left=20, settled=0, enqueued=0) == Share(newcomers=5, begin=100, others=15)
    assert share(0, 0, left=20, settled=0, enqueued=0) == Share(newcomers=5, begin=0, others=15)
    assert share(100, 110, left=500, settled=12, enqueued=32) == Share(newcomers=0, begin=90, others=500)


def test_until_a_turn_a_collection_gets_its_first_few_and_a_city_for_each_turn() -> None:
    theirs = Share(newcomers=2, begin=100, others=30)
    assert [cities_until(turn, theirs) for turn in (50, 100, 110, 130, 500)] == [2, 2, 12, 32, 32]
