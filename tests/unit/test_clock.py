"""The machine's clock, and waiting for an event with a deadline."""

import asyncio
import time
from datetime import UTC

import pytest

from raingauge.clock import Clock, SystemClock, happens_within


def test_the_wall_clock_is_in_utc_and_monotonic_time_counts_what_the_machine_sleeps() -> None:
    clock: Clock = SystemClock()
    assert clock.now().tzinfo is UTC
    assert abs(clock.now().timestamp() - time.clock_gettime(time.CLOCK_REALTIME)) < 60
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= clock.monotonic() <= time.clock_gettime(time.CLOCK_BOOTTIME)


@pytest.mark.parametrize("seconds", [0.01, 0.0, -1.0])
async def test_sleeping_takes_as_long_as_it_says_and_gives_the_others_a_turn(seconds: float) -> None:
    clock, event = SystemClock(), asyncio.Event()
    before = clock.monotonic()
    asyncio.get_running_loop().call_soon(event.set)
    await clock.sleep(seconds)
    assert event.is_set()
    assert clock.monotonic() - before >= seconds


@pytest.mark.parametrize("seconds", [60, 0, -1])
async def test_an_event_that_has_happened_is_not_waited_for(seconds: float) -> None:
    event = asyncio.Event()
    event.set()
    assert await happens_within(event, seconds)


async def test_waiting_ends_with_the_event_the_deadline_or_a_cancellation() -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_soon(event.set)
    assert await happens_within(event, 60)
    assert not await happens_within(asyncio.Event(), 0)
    assert not await happens_within(asyncio.Event(), 0.001)
    waiting = asyncio.create_task(happens_within(asyncio.Event(), 60))
    asyncio.get_running_loop().call_soon(waiting.cancel)
    with pytest.raises(asyncio.CancelledError):
        await waiting
