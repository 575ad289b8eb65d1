"""The usual way: a consumer that takes a batch, calls, and sleeps one second for every city of it. As a baseline.

It runs against the simulator's own stand-in, with virtual moments instead of waiting: the same counting, the same 429.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Final

from simulator.settings import SimulatorSettings
from simulator.stand_in import Query, StandIn
from simulator.witness import Endpoint
from tests.simulation.virtual import EPOCH

LATENCY_S: Final = 0.1
QUOTA: Final = 60
WINDOW_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of it."""

    worst_window: int
    """Cities in the worst window, if nobody stops it."""
    collected: int
    """Cities until the first 429, at which it dies; or all of them."""
    total: int
    refused_at_s: float | None
    last_at_s: float
    """When the last call would arrive, if nobody stopped it."""

    @property
    def words(self) -> str:
        """For a note."""
        if self.refused_at_s is None:
            return "is never refused"
        share = self.collected / self.total
        return f"dies of a 429 after {self.refused_at_s:.0f} s, at {share:.0%} of {self.total:,} cities"


def fate(batches: Sequence[int], consumers: int = 1) -> Fate:
    """What becomes of so many sleepers that share these batches, given by their sizes in the order of their coming."""
    free = _calls(StandIn(SimulatorSettings(quota=0, latency_s=LATENCY_S)), batches, consumers)
    held = StandIn(SimulatorSettings(quota=QUOTA, latency_s=LATENCY_S))
    refused_at_s, collected = None, 0
    for at, size, status in _calls(held, batches, consumers):
        if status == 429:
            refused_at_s = at
            break
        collected += size
    arrivals = [(at, size) for at, size, _ in free]
    worst = max(sum(size for other, size in arrivals if at <= other < at + WINDOW_S) for at, _ in arrivals)
    return Fate(worst, collected, sum(batches), refused_at_s, arrivals[-1][0])


def _calls(stand_in: StandIn, batches: Sequence[int], consumers: int) -> list[tuple[float, int, int]]:
    """Every call: when it arrives, for how many cities, and the status of its answer."""
    ready = [(0.0, number) for number in range(consumers)]
    city_ids, calls = count(3_439_525), []
    for size in batches:
        at, consumer = heapq.heappop(ready)
        ids = ",".join(str(next(city_ids)) for _ in range(size))
        query = Query(id=ids, appid=stand_in.settings.key, units="metric")
        reply = stand_in.arrive(Endpoint.GROUP, query, at, EPOCH + timedelta(seconds=at))
        calls.append((at, size, reply.answer.status))
        heapq.heappush(ready, (at + LATENCY_S + size * WINDOW_S / QUOTA, consumer))
    return calls
