"""The points at which programs are killed are still there: few of them are passed in every run of the tests."""

import pytest

from tests.chaos.crashing import CONSUMER, PRODUCER, Point, place


@pytest.mark.parametrize("point", [*CONSUMER.values(), *PRODUCER.values()], ids=[*CONSUMER, *PRODUCER])
def test_a_crash_point_is_a_function(point: Point) -> None:
    owner, name = place(point)
    assert callable(getattr(owner, name))
