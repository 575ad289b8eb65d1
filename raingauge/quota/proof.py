"""The quota's promise checked on what the ledger wrote down: the most cities that any window can have seen.

Pure: charges in, a window out. It trusts nothing of the ledger but the moments of each charge and its cost: when it was
released plays no part, so that a charge that was released too early shows. The rule and its proof: docs/quota.md.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

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


def last_arrival(charge: Charge, terms: Terms) -> datetime:
    """The last moment at which a call of it may have arrived: its answer's, at most D + T + M after its reservation."""
    at_worst = charge.reserved_at + timedelta(seconds=terms.claim_s)
    answered = at_worst if charge.closed_at is None else min(charge.closed_at, at_worst)
    return max(charge.reserved_at, answered)


def worst_window(charges: Iterable[Charge], terms: Terms, since: datetime, until: datetime) -> Worst:
    """The most that any window [x, x + W) can have seen, over all windows with a moment from `since` to `until`.

    A charge's calls may have arrived at any moment from its reservation to `last_arrival`. So a window can have seen
    all charges whose intervals meet it: x + W is after the reservation, and x is not after the last arrival. As a
    function of x each charge is an interval, open at its begin and closed at its end, and the most of them meet at the
    end of one. O(n log n).
    """
    window = timedelta(seconds=terms.window_s)
    meeting = [
        (begin, end, charge.cost)
        for charge in charges
        if (begin := max(charge.reserved_at, since) - window) < (end := min(last_arrival(charge, terms), until))
    ]
    begins = sorted((begin, cost) for begin, _, cost in meeting)
    most, at, total, begun = 0, None, 0, 0
    for end, cost in sorted((end, cost) for _, end, cost in meeting):
        while begun < len(begins) and begins[begun][0] < end:
            total += begins[begun][1]
            begun += 1
        if total > most:
            most, at = total, end
        total -= cost
    return Worst(most, at, len(meeting), sum(cost for _, _, cost in meeting))
