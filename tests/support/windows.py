"""How many cities arrived in any rolling window: the provider's rule, and what a replay of charges finds."""

from collections import deque
from collections.abc import Iterable
from datetime import datetime

from raingauge.model import Charge
from raingauge.quota.pacing import Terms
from raingauge.quota.proof import Replay, Worst


def most_in_any_window(arrivals: Iterable[tuple[float, int]], window_s: float) -> int:
    """The most cities in one half-open window. `arrivals`: seconds and cities, in any order."""
    inside: deque[tuple[float, int]] = deque()
    most = total = 0
    for moment, cost in sorted(arrivals):
        inside.append((moment, cost))
        total += cost
        while inside[0][0] <= moment - window_s:
            total -= inside.popleft()[1]
        most = max(most, total)
    return most


def worst_window(charges: Iterable[Charge], terms: Terms, since: datetime, until: datetime) -> Worst:
    """What a replay of these charges finds, whatever their order."""
    replay = Replay(terms, since, until)
    replay.add(sorted(charges, key=lambda charge: charge.reserved_at))
    return replay.worst
