"""The rule of the provider: how many cities arrived in any rolling window."""

from collections import deque
from collections.abc import Iterable


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
