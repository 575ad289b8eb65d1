"""The quota's promise checked on what the ledger wrote down: the most cities that any window can have seen.

Pure: charges in, a window out. It trusts nothing of the ledger but the moments of each charge and its cost: when it was
released plays no part, so that a charge that was released too early shows. The rule and its proof: docs/quota.md.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import heappop, heappush
from typing import Final

from raingauge.model import Charge
from raingauge.quota.pacing import Terms


@dataclass(frozen=True, slots=True)
class Worst:
    """What the window that can have seen most can have seen."""

    cities: int
    begin: datetime | None
    """The window is half-open: from here, for W. None: no call can have arrived in any."""
    charges: int
    """All that were replayed: those whose calls can have arrived in one of the windows."""
    charged: int
    """The cities of these."""


NOTHING: Final = Worst(0, None, 0, 0)


def last_arrival(charge: Charge, terms: Terms) -> datetime:
    """The last moment at which a call of it may have arrived: its answer's, at most D + T + M after its reservation."""
    at_worst = charge.reserved_at + timedelta(seconds=terms.claim_s)
    answered = at_worst if charge.closed_at is None else min(charge.closed_at, at_worst)
    return max(charge.reserved_at, answered)


class Replay:
    """Finds the most that any window [x, x + W) can have seen, over all windows with a moment from `since` to `until`.

    A charge's calls may have arrived at any moment from its reservation to `last_arrival`. So a window can have seen
    all charges whose intervals meet it: x + W is after the reservation, and x is not after the last arrival. As a
    function of x each charge is an interval, open at its begin and closed at its end, and the most of them meet at the
    end of one. It remembers only the intervals that meet the last one: a day may have a million charges.
    """

    def __init__(self, terms: Terms, since: datetime, until: datetime) -> None:
        self._terms = terms
        self._since = since
        self._until = until
        self._window = timedelta(seconds=terms.window_s)
        self._ends: list[tuple[datetime, int]] = []
        self._total = 0
        self.worst = NOTHING

    def forget_worst(self) -> None:
        """Forget what was found so far, and none of the charges: what follows shares its windows with them."""
        self.worst = NOTHING

    def add(self, charges: Iterable[Charge]) -> None:
        """Replay these too. All charges are added in the order of their reservation."""
        most, at = self.worst.cities, self.worst.begin
        number, charged = self.worst.charges, self.worst.charged
        for charge in charges:
            begin = max(charge.reserved_at, self._since) - self._window
            end = min(last_arrival(charge, self._terms), self._until)
            if begin >= end:
                continue
            while self._ends and self._ends[0][0] <= begin:
                self._total -= heappop(self._ends)[1]
            heappush(self._ends, (end, charge.cost))
            self._total += charge.cost
            number, charged = number + 1, charged + charge.cost
            if self._total > most:
                most, at = self._total, self._ends[0][0]
        self.worst = Worst(most, at, number, charged)
