"""The pace at full scale, in virtual time: 167 cities at 60 a minute, with nothing going wrong."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from raingauge.model import CollectionRequest
from raingauge.quota.pacing import Pacing, Terms
from tests.simulation.virtual import VirtualLoop
from tests.simulation.world import Parts, World
from tests.support.databases import sqlite_again

CITIES = range(3_000_000, 3_000_167)
LATENCY_S = 0.1
ONE_OR_TWO = pytest.mark.parametrize("consumers", [1, pytest.param(2, marks=pytest.mark.long)])


class CalmWorld(World):
    """No faults, one collection."""

    outstanding = 10
    window = 1000
    partitions = 12

    def calm(self, pacing: Pacing, group_mode: str, consumers: int) -> None:
        plan = self.plan
        plan.consumers = consumers
        plan.faulty = False
        plan.terms = Terms(60, 60.0, pacing, 1_000_000, "none", 10.0)
        plan.group_mode = group_mode
        plan.unknown = plan.hopeless = frozenset()
        plan.latency = lambda: LATENCY_S  # type: ignore[method-assign]
        plan.statement_s = lambda: 0.0  # type: ignore[method-assign]

    async def live(self) -> None:
        self.start_relay()
        for _ in range(self.plan.consumers):
            self.start_consumer("auto")
        await self.clock.sleep(5)  # so that the first call does not make up for the time since the gate was made
        await self._post(CollectionRequest("all", tuple(CITIES), 600, named=True))
        while not self.audit.all_done():
            self.fail_if_a_process_failed()
            await self.clock.sleep(1)
        self.audit.check()


@contextmanager
def collected(template: Path, pacing: Pacing, group_mode: str, consumers: int) -> Iterator[list[tuple[float, int]]]:
    """The arrivals of the run: seconds after the first, and how many cities."""
    with sqlite_again(template) as engine:
        world = CalmWorld(1, engine, VirtualLoop(), Parts())
        world.calm(pacing, group_mode, consumers)
        world.run()
    first = world.witness.arrivals[0][0]
    yield [(moment - first, cost) for moment, cost in world.witness.arrivals]


@ONE_OR_TWO
def test_smooth_pacing_takes_ten_calls_with_the_probe_and_no_longer_than_the_optimum(
    template: Path, consumers: int
) -> None:
    with collected(template, "smooth", "works", consumers) as arrivals:
        assert [cost for _, cost in arrivals[:2]] == [1, 19]
        assert arrivals[1][0] <= 1
        assert sum(cost for _, cost in arrivals) == 167
        # What is left of the cities does not fill a call in each of two pools.
        assert len(arrivals) <= 9 + consumers
        assert arrivals[-1][0] <= 1.005 * 160


@ONE_OR_TWO
def test_burst_pacing_takes_two_windows(template: Path, consumers: int) -> None:
    with collected(template, "burst", "works", consumers) as arrivals:
        assert sum(cost for _, cost in arrivals) == 167
        assert arrivals[-1][0] <= 1.01 * 120 + LATENCY_S


@pytest.mark.long
@pytest.mark.parametrize("consumers", [1, 2])
def test_city_by_city_the_second_call_goes_after_a_second_and_the_last_by_168(template: Path, consumers: int) -> None:
    with collected(template, "smooth", "removed", consumers) as arrivals:
        assert [cost for _, cost in arrivals] == [1] * 168
        assert arrivals[1][0] == pytest.approx(1.0, abs=0.05)
        assert arrivals[-1][0] <= 168
