"""Counting in rolling windows. Pure: moments come in as seconds, never going back, and are never asked for."""

from collections import deque


class Window:
    """What arrived in the last `width_s` seconds, exactly; each arrival costs constant time over the long run.

    Two arrivals share a half-open window [x, x + W) of that width when less than W lies between them.
    """

    def __init__(self, width_s: float) -> None:
        self.width_s = width_s
        self._arrivals: deque[tuple[float, int]] = deque()
        self._units = 0

    def units(self, at: float) -> int:
        """The units that share a window with the moment `at`."""
        while self._arrivals and at - self._arrivals[0][0] >= self.width_s:
            self._units -= self._arrivals.popleft()[1]
        return self._units

    def add(self, at: float, units: int) -> None:
        """Count an arrival."""
        self._arrivals.append((at, units))
        self._units += units


class Peak:
    """The most units that ever arrived in any one window of a width."""

    def __init__(self, width_s: float) -> None:
        self.units = 0
        self._window = Window(width_s)

    @property
    def width_s(self) -> float:
        """The width of the windows."""
        return self._window.width_s

    def add(self, at: float, units: int) -> None:
        """Count an arrival. Some window with the most units ends just after an arrival, so looking there is exact."""
        self._window.add(at, units)
        self.units = max(self.units, self._window.units(at))


class RollingQuota:
    """Lets at most `limit` units through in any window; 0 lets all through. What it refuses uses nothing up."""

    def __init__(self, limit: int, width_s: float) -> None:
        self._limit = limit
        self._window = Window(width_s)

    def admit(self, at: float, units: int) -> bool:
        """Whether these units may pass now; if so they are counted."""
        if self._limit and self._window.units(at) + units > self._limit:
            return False
        if self._limit:
            self._window.add(at, units)
        return True

    def change(self, limit: int, width_s: float) -> None:
        """Go on with another limit; what has left the old window stays forgotten, also in a wider one."""
        self._limit = limit
        self._window.width_s = width_s
