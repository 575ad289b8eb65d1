"""The outside witness of the quota's promise: it sees every call arrive, and refuses none. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from simulator.calls import CallLog, Endpoint
from simulator.windows import Peak


@dataclass(slots=True)
class Tally:
    """What was counted since the start or the last reset. Moments are seconds on the clock's monotonic()."""

    calls: int = 0
    units: int = 0
    first_at: float | None = None
    last_at: float | None = None
    statuses: Counter[int] = field(default_factory=Counter)
    """Calls by the status they were answered with; 0: the connection was closed without an answer."""
    calls_to: Counter[Endpoint] = field(default_factory=Counter)
    units_to: Counter[Endpoint] = field(default_factory=Counter)

    def arrived(self, at: float, endpoint: Endpoint, units: int) -> None:
        """Count one call."""
        self.calls += 1
        self.units += units
        self.first_at = at if self.first_at is None else self.first_at
        self.last_at = at
        self.calls_to[endpoint] += 1
        self.units_to[endpoint] += units


class Witness:
    """Counts all calls, and keeps the latest. Calls without the right key arrive with 0 units."""

    def __init__(self, width_s: float, log: CallLog | None = None) -> None:
        self.log = log or CallLog()
        self.tally = Tally()
        self.peak = Peak(width_s)
        self._since = self.log.next

    def arrived(self, at: float, endpoint: Endpoint, ids: Sequence[int], units: int) -> int:
        """See a call arrive; returns the number it is known by."""
        self.tally.arrived(at, endpoint, units)
        self.peak.add(at, units)
        return self.log.append(at, endpoint, ids, units)

    def answered(self, number: int, status: int) -> None:
        """See the answer to a call; those that arrived before the last reset count no more."""
        if number >= self._since:
            self.tally.statuses[status] += 1
            self.log.answered(number, status)

    def replay(self, peak: Peak, begin: int) -> int:
        """Count a part of the kept calls, from number `begin` on, and return the number to go on with.

        In parts, so that a long list stops nobody; it is done when the number is `log.next`.
        """
        begin = max(begin, self.log.first)
        arrivals = list(self.log.arrivals(begin))
        for at, units in arrivals:
            peak.add(at, units)
        return begin + len(arrivals)

    def reset(self) -> None:
        """Forget all that was seen; the numbers of the calls go on."""
        self.log.clear()
        self.tally = Tally()
        self.peak = Peak(self.peak.width_s)
        self._since = self.log.next
