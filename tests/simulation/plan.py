"""What a seed decides: the shape of the world and which faults come when. After `CALM_AT` there are none."""

from dataclasses import dataclass
from random import Random
from typing import Final

from raingauge.quota.pacing import Pacing, Terms
from tests.simulation.virtual import VirtualClock

CALM_AT: Final = 90.0
CITIES: Final = range(3_000_001, 3_000_061)
STREAMS_EVERY: Final = 16
"""Readings are published in one of this number of seeds, which take half as long again."""
FAILOVER_EVERY: Final = 8
"""In one of this number of seeds the database fails over to a replica that lacks the last transactions."""


@dataclass(frozen=True, slots=True)
class Outage:
    """From when to when something is away, in virtual seconds."""

    begin: float
    end: float


class Plan:
    """A seed's decisions. All chance of the run comes from here."""

    def __init__(self, seed: int, clock: VirtualClock) -> None:
        self.seed = seed
        self.chance = chance = Random(seed)
        self._clock = clock
        quota = chance.choice([20, 30, 45])
        # In the shortest one charge covers two group calls.
        window = chance.choice([6.0, 10.0, 15.0, 6.0, 10.0, 15.0, 0.1])
        pacing: Pacing = chance.choice(["smooth", "burst"])
        self.terms = Terms(quota, window, pacing, 10**9, "none", 10.0)
        self.consumers = chance.randint(1, 3)
        self.relays = chance.randint(1, 2)
        self.streams = seed % STREAMS_EVERY == 0
        failing_over = Random(f"failover {seed}")  # its own, so that it changes nothing else of a run
        self.fails_over = seed % FAILOVER_EVERY == FAILOVER_EVERY - 1
        self.failover_at = failing_over.uniform(5, CALM_AT - 20)
        self.transactions_lost = failing_over.randint(1, 60)
        self.collections = chance.randint(1, 5)
        self.group_mode = chance.choice(["works", "works", "removed", "strict"])
        cities = list(CITIES)
        self.unknown = frozenset(chance.sample(cities, chance.randint(0, 3)))
        self.hopeless = frozenset(chance.sample(cities, chance.choice([0, 0, 1]))) - self.unknown
        self.faulty = chance.random() < 0.9
        self._database_outages = self._outages(chance.choice([0, 0, 1, 2]), 20)
        self._handoff_outages = self._outages(chance.choice([0, 0, 1]), 40)
        self._refusals = {kind: self._outages(chance.choice([0, 0, 0, 1]), 15) for kind in ("quota", "key", "silent")}
        self._loss = chance.choice([0.0, 0.02, 0.1])
        self._lost_answers = chance.choice([0.0, 0.0, 0.02])
        self._pauses = chance.choice([0.0, 0.03])
        self._latency = chance.choice([0.02, 0.3, 2.0])
        self._statement_s = chance.choice([0.0, 0.0, 0.0, 0.02, 0.2])

    def _outages(self, number: int, longest: float) -> list[Outage]:
        begins = [self.chance.uniform(0, CALM_AT - longest) for _ in range(number)]
        return [Outage(begin, begin + self.chance.uniform(0.5, longest)) for begin in begins]

    @property
    def calm(self) -> bool:
        """Whether the faults are over."""
        return not self.faulty or self._clock.monotonic() >= CALM_AT

    def happens(self, share: float) -> bool:
        """Whether a fault of that share happens now."""
        return not self.calm and self.chance.random() < share

    def _away(self, outages: list[Outage]) -> bool:
        now = self._clock.monotonic()
        return not self.calm and any(outage.begin <= now < outage.end for outage in outages)

    # -- what is asked while the world runs ----------------------------------------------------------------------

    def database_away(self) -> bool:
        return self._away(self._database_outages)

    def answer_lost(self) -> bool:
        return self.happens(self._lost_answers)

    def database_delay(self) -> float:
        return self.chance.random() * 0.01

    def statement_s(self) -> float:
        """How far a process is from the database, in seconds for each statement."""
        return self.chance.uniform(0, self._statement_s)

    def handoff_away(self) -> bool:
        return self._away(self._handoff_outages)

    def refusal(self) -> str | None:
        """quota, key, silent or None."""
        return next((kind for kind, outages in self._refusals.items() if self._away(outages)), None)

    def call_lost(self) -> bool:
        return self.happens(self._loss)

    def pause_before_send(self) -> float:
        """Seconds; sometimes longer than the ledger allows."""
        return self.chance.uniform(0, 9) if self.happens(self._pauses) else self.chance.random() * 0.01

    def latency(self) -> float:
        return self.chance.random() * self._latency
