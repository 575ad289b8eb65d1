"""The machine's clock, and waiting for an event with a deadline."""

import asyncio
import time
from datetime import UTC, timedelta

import pytest

from raingauge.clock import Clock, SystemClock, happens_within


def test_the_wall_clock_is_aware_and_in_utc() -> None:
    clock: Clock = SystemClock()
    now = clock.now()
    assert now.tzinfo is UTC
    assert abs(now.timestamp() - time.clock_gettime(time.CLOCK_REALTIME)) < 60
    assert timedelta(0) <= clock.now() - now < timedelta(minutes=1)


def test_monotonic_time_counts_what_the_machine_sleeps() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    told = SystemClock().monotonic()
    assert before <= told <= time.clock_gettime(time.CLOCK_BOOTTIME)


async def test_sleeping_takes_as_long_as_it_says() -> None:
    clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(0.01)
    assert clock.monotonic() - before >= 0.01


@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_sleeping_for_no_time_gives_the_others_a_turn(seconds: float) -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_soon(event.set)
    await SystemClock().sleep(seconds)
    assert event.is_set()


async def test_an_event_that_happened_is_not_waited_for() -> None:
    event = asyncio.Event()
    event.set()
    assert await happens_within(event, 0)
    assert await happens_within(event, -1)


async def test_an_event_that_happens_in_time_is_told() -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_soon(event.set)
    assert await happens_within(event, 60)


async def test_an_event_that_does_not_happen_is_told() -> None:
    assert not await happens_within(asyncio.Event(), 0)
    assert not await happens_within(asyncio.Event(), 0.001)


async def test_waiting_can_be_cancelled() -> None:
    waiting = asyncio.create_task(happens_within(asyncio.Event(), 60))
    asyncio.get_running_loop().call_soon(waiting.cancel)
    with pytest.raises(asyncio.CancelledError):
        await waiting
