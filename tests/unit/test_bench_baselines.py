"""What the bench compares with: the sleeper's fate, the instant provider's answers, the share of a quota."""

import json
from datetime import UTC, datetime

import pytest

from bench.load import Ask
from bench.scenarios.saturation import used
from bench.sleeper import fate
from bench.stub import GROUP, Counted, group_answer
from bench.town import Conditions, each
from consumer.provider.openweather import read_group

SWEEP = [20] * 8 + [7]


@pytest.mark.parametrize(
    ("batches", "consumers", "worst", "refused_at_s"),
    [
        (SWEEP, 1, 60, None),
        # docs/quota.md: the short batch shifts the next call so that 67 lie in one window.
        ([20, 20, 7, *[20] * 6], 1, 67, 47.3),
        (SWEEP * 2, 1, 67, 167.9),
        (SWEEP, 3, 167, 20.1),
    ],
)
def test_a_sleeper_keeps_the_quota_only_while_its_batches_are_even(
    batches: list[int], consumers: int, worst: int, refused_at_s: float | None
) -> None:
    found = fate(batches, consumers)
    assert found.worst_window == worst
    assert found.refused_at_s == (None if refused_at_s is None else pytest.approx(refused_at_s, abs=0.01))
    assert (found.collected == sum(batches)) == (refused_at_s is None)


def test_the_instant_provider_answers_as_the_consumer_reads() -> None:
    at = datetime(2026, 11, 10, tzinfo=UTC)
    request = b"GET /data/2.5/group?id=11,22&units=metric&appid=k HTTP/1.1"
    match = GROUP.match(request)
    assert match is not None
    head, _, body = group_answer(match[1].split(b","), int(at.timestamp())).partition(b"\r\n\r\n")
    weather = read_group(json.loads(body), [11, 22])
    assert f"Content-Length: {len(body)}".encode() in head
    assert weather.observations.keys() == {11, 22}
    assert weather.observations[11].observed_at == at


class _At:
    """A clock that is told."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> datetime:
        return datetime(2026, 11, 10, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def test_the_instant_provider_witnesses_what_arrives() -> None:
    clock = _At()
    counted = Counted(5.0, clock)
    for seconds in (100.0, 100.5, 103.2, 106.0):
        clock.seconds = seconds
        counted.arrived(20)
    assert counted.told() == {"calls": 4, "units": 80, "most_in_window": 60, "seconds": [40, 0, 0, 20, 0, 0, 20]}


def test_the_share_that_is_used_is_counted_from_pause_to_pause() -> None:
    bursts = [(window * 60.1 + 0.05 * call, 20) for window in range(60) for call in range(3)]
    assert used(bursts, Conditions("burst")) == pytest.approx(60 / 60.1, abs=1e-4)
    even = [(number * 20.0, 20) for number in range(60)]
    assert used(even, Conditions()) == pytest.approx(1.0)
    assert used([(at, cities // 2) for at, cities in even], Conditions()) == pytest.approx(0.5)


def test_a_request_is_one_line_for_the_load_generator() -> None:
    assert Ask("/get?id=c1&data=false", tag='W/"1"').line == 'GET\t/get?id=c1&data=false\tW/"1"\t'
    assert Ask("/collect", "POST", body='{"id": "1"}').line == 'POST\t/collect\t\t{"id": "1"}'


def test_conditions_multiply() -> None:
    towns = each(Conditions(), pacing=["smooth", "burst"], consumers=[1, 3])
    assert [str(town) for town in towns] == [
        "smooth, group, 1 consumer",
        "smooth, group, 3 consumers",
        "burst, group, 1 consumer",
        "burst, group, 3 consumers",
    ]
