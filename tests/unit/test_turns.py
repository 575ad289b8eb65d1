"""How much each collection had lately, as a consumer reckons it."""

from collections import Counter
from datetime import UTC, datetime, timedelta

from consumer.turns import Shares
from raingauge.pacing import FIRST_FEW

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def seconds(number: float) -> datetime:
    return NOON + timedelta(seconds=number)


def had(shares: Shares, settled: dict[str, int], now: datetime, **under_way: int) -> dict[str, int]:
    return dict(shares.of(settled, Counter(under_way), now)[0])


def test_what_others_settle_counts_from_the_first_look_on() -> None:
    shares = Shares(MINUTE)
    assert had(shares, {"old": 50_000, "young": 3}, NOON) == {"old": 0, "young": 3 - FIRST_FEW}
    assert had(shares, {"old": 50_007, "young": 3}, seconds(1)) == {"old": 7, "young": 3 - FIRST_FEW}


def test_a_new_one_begins_with_the_least_of_the_others_and_a_few_as_a_gift() -> None:
    shares = Shares(MINUTE)
    shares.of({"a": 10, "b": 10}, Counter(), NOON)
    assert had(shares, {"a": 19, "b": 14, "new": 0}, seconds(1)) == {"a": 9, "b": 4, "new": 4 - FIRST_FEW}
    # The gift of one is none of the next one's.
    later = had(shares, {"a": 19, "b": 14, "new": 1, "newer": 0}, seconds(2))
    assert later == {"a": 9, "b": 4, "new": 5 - FIRST_FEW, "newer": 4 - FIRST_FEW}


def test_what_was_asked_for_counts_once_whatever_becomes_of_it() -> None:
    shares = Shares(MINUTE)
    had(shares, {"a": 10, "b": 10}, NOON)
    shares.tried(Counter(a=2))
    shares.tried(Counter(a=1))
    assert had(shares, {"a": 10, "b": 10}, seconds(1), a=3) == {"a": 3, "b": 0}
    assert had(shares, {"a": 12, "b": 10}, seconds(2), a=1) == {"a": 3, "b": 0}
    assert had(shares, {"a": 12, "b": 11}, seconds(26)) == {"a": 3, "b": 1}


def test_what_others_are_asking_for_counts_too() -> None:
    shares = Shares(MINUTE)
    had(shares, {"a": 10, "b": 10}, NOON)
    assert had(shares, {"a": 10, "b": 10}, seconds(1), a=14, b=6) == {"a": 14, "b": 6}
    assert had(shares, {"a": 24, "b": 16}, seconds(2)) == {"a": 14, "b": 6}


def test_what_lies_further_back_is_forgotten() -> None:
    shares = Shares(MINUTE)
    shares.of({"a": 10, "b": 10}, Counter(), NOON)
    shares.of({"a": 50, "b": 10}, Counter(), seconds(1))
    assert had(shares, {"a": 51, "b": 10}, seconds(61)) == {"a": 0, "b": 0}


def test_an_attempt_in_vain_counts_as_had_and_so_do_the_first_few() -> None:
    shares = Shares(MINUTE)
    shares.of({"a": 10, "new": 0}, Counter(), NOON)
    shares.tried(Counter(new=4))
    assert shares.of({"a": 10, "new": 0}, Counter(), seconds(1)) == (
        {"a": 0, "new": 4 - FIRST_FEW},
        {"a": 0, "new": FIRST_FEW - 4},
    )


def test_who_is_absent_for_a_moment_is_not_left_behind() -> None:
    shares = Shares(MINUTE)
    shares.of({"a": 10}, Counter(), NOON)
    assert had(shares, {"a": 810}, seconds(1)) == {"a": 800}
    assert had(shares, {"new": 0}, seconds(2)) == {"new": 800 - FIRST_FEW}
