"""Time as a parameter. This is the only module that may ask the machine what time it is or sleep."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the code may know of time."""

    def now(self) -> datetime:
        """The wall clock: an aware datetime in UTC. For people; no promise rests on it."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment, running on while the machine is suspended."""

    async def sleep(self, seconds: float) -> None:
        """Wait; zero or less gives the others a turn."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251

    def monotonic(self) -> float:
        # CLOCK_BOOTTIME counts suspended time too, which CLOCK_MONOTONIC on Linux leaves out (clock_gettime(2)).
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)  # noqa: TID251


async def happens_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for the event, at most that long; answer whether it happened."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
