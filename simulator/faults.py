"""The faults that are active, and which calls they hit. It must not read a clock: callers pass the moment.

For example {"fault": "errors", "share": 0.3, "for_s": 10}.
"""

import math
from collections.abc import Iterable
from enum import StrEnum
from random import Random

from pydantic import BaseModel, Field


class Kind(StrEnum):
    """What a fault does to a call."""

    ERRORS = "errors"
    """500 with the provider's JSON."""
    HTML = "html"
    """502 with a proxy's page."""
    BROKEN_JSON = "broken_json"
    """The body ends in its middle."""
    OUTAGE = "outage"
    """The connection is closed at once, without a response."""
    LOSE = "lose"
    """The connection is closed when the response is due, without it."""
    SLOW = "slow"
    """The response takes `latency_s` longer."""
    DRIP = "drip"
    """The body is sent one byte at a time, with a pause of `pause_s` after each."""
    TOO_MANY = "too_many"
    """429, with a Retry-After header if `retry_after_s` is given."""
    REFUSE_KEY = "refuse_key"
    """401, as for an invalid key."""


class Fault(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """A fault, and which calls it hits."""

    fault: Kind
    for_s: float | None = Field(None, gt=0, description="ends after that; null: when it is cleared")
    share: float = Field(1.0, ge=0, le=1, description="hits this share of the calls")
    city_ids: frozenset[int] | None = Field(None, min_length=1, description="hits calls for one of these only")
    latency_s: float = Field(5.0, gt=0, description="for slow")
    pause_s: float = Field(0.1, gt=0, description="for drip")
    retry_after_s: int | None = Field(None, ge=0, description="for too_many")


class Faults:
    """The faults that are set: one of each kind, the latest counts. All moments are seconds on one clock."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._set: dict[Kind, tuple[Fault, float]] = {}

    def set(self, fault: Fault, at: float) -> None:
        """Activate a fault."""
        self._set[fault.fault] = (fault, math.inf if fault.for_s is None else at + fault.for_s)

    def clear(self) -> None:
        """End all faults."""
        self._set.clear()

    def active(self, at: float) -> list[tuple[Fault, float | None]]:
        """The active faults, each with the seconds that are left, or None if it stays until it is cleared."""
        return [(f, None if until == math.inf else until - at) for f, until in self._set.values() if at < until]

    def hit(self, kind: Kind, at: float, city_ids: Iterable[int]) -> Fault | None:
        """The active fault of this kind, if it hits this call. Draws at random: call it once for each call."""
        fault, until = self._set.get(kind, (None, at))
        if fault is None or at >= until or (fault.city_ids is not None and fault.city_ids.isdisjoint(city_ids)):
            return None
        return fault if self.chance(fault.share) else None

    def chance(self, share: float) -> bool:
        """True for this share of the calls."""
        return self._random.random() < share
