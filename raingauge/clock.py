"""Time as a parameter. Only this module may read the system clock or sleep (ruff bans the calls elsewhere)."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """The port for everything that depends on time."""

    def now(self) -> datetime:
        """Wall-clock time, aware, in UTC. For display; no guarantee may depend on it."""

    def monotonic(self) -> float:
        """Seconds since a fixed moment; keeps counting while the machine is suspended."""

    async def sleep(self, seconds: float) -> None:
        """Sleep; zero or less yields to other tasks once."""


class SystemClock:
    """The system clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251

    def monotonic(self) -> float:
        # CLOCK_BOOTTIME includes suspended time, unlike CLOCK_MONOTONIC on Linux (clock_gettime(2)).
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)  # noqa: TID251


async def happens_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event with a timeout; return whether it was set."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
