"""What the simulator can be told before it starts. It reads no file and no environment: its caller does."""

import math
from dataclasses import dataclass, field
from enum import Enum

from raingauge.errors import SettingsError


class GroupMode(Enum):
    """How the group endpoint answers."""

    WORKS = "works"
    """Unknown ids are left out of the list; a 404 when all are unknown."""
    REMOVED = "removed"
    """401 for every call, as OpenWeather answers since August 2025."""
    STRICT = "strict"
    """404 for the whole call as soon as one id is unknown."""


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """All that can be told; the defaults stand for a free key.

    Raises:
        SettingsError: a value is out of its range.
    """

    key: str = field(default="simulator", repr=False)
    """The only API key it takes."""
    quota: int = 60
    """Cities it takes in any rolling window; 0: as many as come."""
    window_s: float = 60.0
    group: GroupMode = GroupMode.WORKS
    latency_s: float = 0.1
    """How long every answer takes."""
    error_share: float = 0.0
    """The share of calls answered with a 500, from 0 to 1."""
    unknown: frozenset[int] = frozenset()
    """City ids it does not know; it knows all others."""
    seed: int = 0
    """Decides which calls a share strikes."""

    def __post_init__(self) -> None:
        rules = (
            (bool(self.key), "key must not be empty"),
            (self.quota >= 0, "quota must be 0 (unlimited) or more"),
            (self.window_s > 0 and math.isfinite(self.window_s), "window_s must be more than 0"),
            (self.latency_s >= 0 and math.isfinite(self.latency_s), "latency_s must be 0 or more"),
            (0 <= self.error_share <= 1, "error_share must be from 0 to 1"),
        )
        for holds, otherwise in rules:
            if not holds:
                raise SettingsError(otherwise)
