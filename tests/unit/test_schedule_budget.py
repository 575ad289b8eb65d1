"""What schedules cost a month, and when their runs would end."""

from datetime import timedelta

import pytest

from producer.forecast import Competition, Snapshot
from producer.schedules.budget import Demand, Overspent, check, foresee
from producer.schedules.times import Times
from raingauge.model import CollectionState, Gate, OpenCollection
from raingauge.quota.pacing import Terms
from tests.api_support import NOON, gate_row

HOURLY = Times("0 * * * *")


@pytest.mark.parametrize(
    ("demand", "most"),
    [
        (Demand(HOURLY, 10, 0), 31 * 24 * 10),
        (Demand(HOURLY, 10, 600), 31 * 24 * 10),
        (Demand(HOURLY, 10, 86_400), 32 * 10),  # an observation of a day ago is used again
        (Demand(Times("0 0 1 1 *"), 10, 0), 10),
    ],
)
def test_the_dearest_month_counts(demand: Demand, most: int) -> None:
    assert demand.most(NOON) == most


def test_what_the_month_cannot_pay_for_is_refused_with_the_figures() -> None:
    others = [Demand(HOURLY, 100, 0), Demand(Times("0 0 1 1 *"), 600, 0)]
    check(Demand(HOURLY, 100, 0), others, 149_400, NOON)
    with pytest.raises(Overspent, match=r"up to 74,400 cities in 2027-01 and 75,000 by the other active ones.*149,399"):
        check(Demand(HOURLY, 100, 0), others, 149_399, NOON)


def test_a_schedule_that_is_idle_in_the_dear_month_is_not_refused() -> None:
    check(Demand(Times("0 0 1 3 *"), 100, 0), [Demand(Times("0 0 1 1 *"), 1000, 0)], 1000, NOON)
    with pytest.raises(Overspent):
        check(Demand(Times("0 0 1 1 *"), 1, 0), [Demand(Times("0 0 1 1 *"), 1000, 0)], 1000, NOON)


def snapshot(*open_collections: OpenCollection, consumer_alive: bool = True) -> Snapshot:
    gate = Gate(**gate_row() | {"endpoint": "group"})
    terms = Terms(60, 60.0, "smooth", 1_000_000, "even", 10.0)
    return Snapshot(NOON, terms, gate, consumer_alive, Competition(open_collections), held=0)


def run_of(cities: int) -> CollectionState:
    return CollectionState("x:", NOON, 600, "", cities, 0, 0, 0, None, None, None)


def test_each_run_ends_as_the_forecast_says() -> None:
    due = HOURLY.following(NOON, 3)
    runs = foresee(due, run_of(167), "skip", snapshot())
    assert [run.ends_at for run in runs] == [at + timedelta(seconds=160) for at in due]
    assert not any(run.skipped for run in runs)


@pytest.mark.parametrize(
    ("overlap", "ends_after_min"),
    [("skip", [90, None, 90]), ("queue", [90, 120, 150]), ("cancel_previous", [90, 90, 90])],
)
def test_runs_that_overlap_end_as_the_schedule_says(overlap: str, ends_after_min: list[int | None]) -> None:
    due = HOURLY.following(NOON, 3)
    runs = foresee(due, run_of(90 * 60 + 20), overlap, snapshot())
    found = [None if run.ends_at is None else round((run.ends_at - run.at).total_seconds() / 60) for run in runs]
    assert (found, [run.skipped for run in runs]) == (ends_after_min, [after is None for after in ends_after_min])


def test_open_collections_delay_the_runs_that_begin_before_they_end() -> None:
    other = OpenCollection("other", "other", left=60 * 100, settled=0, last_turn=0, enqueued=0)
    first, second = foresee(HOURLY.following(NOON, 2), run_of(160), "skip", snapshot(other))
    assert first.ends_at is not None
    assert second.ends_at is not None
    assert first.ends_at - first.at > second.ends_at - second.at == timedelta(seconds=160 - 20)


def test_without_a_consumer_nobody_knows_when() -> None:
    runs = foresee(HOURLY.following(NOON, 2), run_of(167), "skip", snapshot(consumer_alive=False))
    assert [(run.ends_at, run.skipped) for run in runs] == [(None, False)] * 2
