"""How long a city rests after a failed call, and when it is given up."""

import pytest

from consumer.retry import CAP_S, GIVE_UP_AFTER, rest_s


@pytest.mark.parametrize(("attempts", "longest"), [(0, 2), (1, 2), (2, 4), (3, 8), (4, 16), (5, CAP_S), (7, CAP_S)])
def test_the_rest_doubles_up_to_its_cap_with_jitter_down_to_half(attempts: int, longest: float) -> None:
    rests = {rest_s(attempts) for _ in range(50)}
    assert len(rests) > 1
    assert all(rest is not None and longest / 2 <= rest <= longest for rest in rests)


@pytest.mark.parametrize("attempts", [GIVE_UP_AFTER, GIVE_UP_AFTER + 1])
def test_a_city_that_failed_too_often_is_given_up(attempts: int) -> None:
    assert rest_s(attempts) is None
