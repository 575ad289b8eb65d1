"""How long to be patient with a city: when to ask again, when to ask for it alone, when to give up. Pure.

A failure counts against a city only if the provider has answered for other cities since its last one: in an outage no
city is to blame. When nothing but suspects is left to ask for, a city known to be good is asked for in between: its
answer tells an outage from a city that the provider cannot answer for.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from raingauge.pacing import backoff_s

ALONE_AFTER: Final = 2
SUSPECT_AFTER: Final = 2
GIVE_UP_AFTER: Final = 8
"""A provider that loses one call in ten fails a good city once in a hundred million times."""
GIVE_UP_ANYWAY_AFTER: Final = 1440
"""Failures in all, however the others fare: about half a day."""
BASE_S: Final = 2.0
CAP_S: Final = 30.0


@dataclass(slots=True)
class _Record:
    failures: int
    strikes: int
    """Failures while others succeed."""
    successes: int
    """What the count of successes was at its last strike."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do with a city that failed."""

    rest_s: float
    alone: bool
    give_up: bool


class Patience:
    """Counts the failures of each city while others succeed."""

    def __init__(self) -> None:
        self._records: dict[int, _Record] = {}
        self._successes = 0
        self.good: int | None = None
        """The city that the provider answered for last."""

    def succeeded(self, observed: Iterable[int], unknown: Iterable[int] = ()) -> None:
        """The provider answered for these, for some of them that it does not know them."""
        for city_id in observed:
            self._answered(city_id)
            self.good = city_id
        for city_id in unknown:
            self._answered(city_id)

    def _answered(self, city_id: int) -> None:
        self._records.pop(city_id, None)
        self._successes += 1

    def failed(self, city_id: int, jitter: float) -> Verdict:
        """A call with this city failed. `jitter` is a random number in [0, 1)."""
        record = self._records.setdefault(city_id, _Record(0, 0, -1))
        record.failures += 1
        if record.successes != self._successes:
            record.strikes += 1
            record.successes = self._successes
        rest = backoff_s(record.failures, BASE_S, CAP_S) * (0.5 + jitter / 2)
        give_up = record.strikes >= GIVE_UP_AFTER or record.failures >= GIVE_UP_ANYWAY_AFTER
        return Verdict(rest, record.strikes >= ALONE_AFTER, give_up)

    @property
    def failing(self) -> frozenset[int]:
        """The cities that failed and have had no answer since."""
        return frozenset(self._records)

    def suspects(self, city_id: int) -> bool:
        """Whether it failed several times, and nobody knows since whether the provider answers at all."""
        record = self._records.get(city_id)
        return record is not None and record.failures >= SUSPECT_AFTER and record.successes == self._successes

    def forget(self, city_id: int) -> None:
        """It is settled."""
        self._records.pop(city_id, None)
