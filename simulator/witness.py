"""The witness of the quota's promise: it sees every call arrive, and refuses none.

It must not read a clock: callers pass the moment, in seconds that never go back.
"""

from array import array
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Final

KEPT_CALLS: Final = 100_000
KEPT_IDS: Final = 100
"""Ids kept of one call. A longer list is invalid, and its units say how long it was."""
DROPPED: Final = 0
"""The status of a call whose connection was closed without a response."""


class Endpoint(StrEnum):
    """The provider's endpoints."""

    GROUP = "group"
    SINGLE = "single"


class Window:
    """What arrived in the last `width_s` seconds, exactly. Amortised constant time.

    Two arrivals share a half-open window [x, x + W) if less than W lies between them.
    """

    def __init__(self, width_s: float) -> None:
        self.width_s = width_s
        self._arrivals: deque[tuple[float, int]] = deque()
        self._units = 0

    def units(self, at: float) -> int:
        """The units that share a window with this moment."""
        while self._arrivals and at - self._arrivals[0][0] >= self.width_s:
            self._units -= self._arrivals.popleft()[1]
        return self._units

    def add(self, at: float, units: int) -> None:
        """Count an arrival."""
        self._arrivals.append((at, units))
        self._units += units

    def admit(self, at: float, units: int, limit: int) -> bool:
        """Count an arrival unless it exceeds the limit (0: unlimited); return whether it was counted."""
        if self.units(at) + units > limit > 0:
            return False
        self.add(at, units)
        return True


class Peak:
    """The most units that ever arrived in any one window of a width."""

    def __init__(self, width_s: float) -> None:
        self.width_s = width_s
        self.units = 0
        self._window = Window(width_s)

    def add(self, at: float, units: int) -> None:
        """Count an arrival. Some window with the most units ends just after an arrival, so looking there is exact."""
        self._window.add(at, units)
        self.units = max(self.units, self._window.units(at))


@dataclass(slots=True)
class Call:
    """A call that arrived."""

    number: int
    """From 1, in the order of arrival."""
    at: float
    endpoint: Endpoint
    ids: Sequence[int]
    """-1 for what is no city id."""
    units: int
    """What it costs; 0 without the right key."""
    status: int | None = None
    """None while the call has no response; `DROPPED` if it gets none."""


class Witness:
    """Counts all calls and keeps the latest."""

    def __init__(self, width_s: float, next_number: int = 1, keep: int = KEPT_CALLS) -> None:
        self.peak = Peak(width_s)
        self.next_number = next_number
        self.kept: deque[Call] = deque(maxlen=keep)
        self.first_at: float | None = None
        self.last_at: float | None = None
        self.calls: Counter[Endpoint] = Counter()
        self.units: Counter[Endpoint] = Counter()
        self.statuses: Counter[int] = Counter()

    @property
    def first_number(self) -> int:
        """The number of the oldest call that is kept."""
        return self.next_number - len(self.kept)

    def arrived(self, at: float, endpoint: Endpoint, ids: Sequence[int], units: int) -> Call:
        """Count and keep a call."""
        call = Call(self.next_number, at, endpoint, array("q", ids[:KEPT_IDS]), units)
        self.next_number += 1
        self.kept.append(call)
        self.first_at = at if self.first_at is None else self.first_at
        self.last_at = at
        self.calls[endpoint] += 1
        self.units[endpoint] += units
        self.peak.add(at, units)
        return call

    def answered(self, call: Call, status: int) -> None:
        """Count the response to a call."""
        call.status = status
        self.statuses[status] += 1

    def page(self, after: int, limit: int) -> list[Call]:
        """The kept calls with a number above `after`, at most `limit` of them."""
        begin = max(0, after + 1 - self.first_number)
        return list(islice(self.kept, begin, begin + limit))

    def peak_of(self, width_s: float) -> Peak:
        """The most units in any window of this width: of all calls for the witness's own width, else of the kept."""
        if width_s == self.peak.width_s:
            return self.peak
        peak = Peak(width_s)
        for call in self.kept:
            peak.add(call.at, call.units)
        return peak
