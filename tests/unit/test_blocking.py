"""The seam to blocking work: threads, inline, and patience while the database is away."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from raingauge.blocking import RETRY_BASE_S, RETRY_CAP_S, RunBlocking, Threads, inline, until_available
from raingauge.clock import SystemClock
from raingauge.errors import DatabaseUnavailable

DEADLINE_S = 10.0


class FakeClock(SystemClock):
    """Remembers how long it was to sleep, and does not."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture
def threads() -> Iterator[Threads]:
    with closing(Threads(2, "tested")) as pool:
        yield pool


async def test_work_runs_in_a_thread_of_its_own_pool_or_inline(threads: Threads) -> None:
    assert (await threads(threading.current_thread)).name.startswith("tested")
    assert await inline(threading.current_thread) is threading.current_thread()


@pytest.mark.parametrize("in_threads", [True, False])
async def test_what_the_work_raises_is_raised(threads: Threads, in_threads: bool) -> None:
    run: RunBlocking = threads if in_threads else inline
    with pytest.raises(ZeroDivisionError):
        await run(lambda: 1 // 0)


async def test_the_loop_goes_on_while_a_bounded_number_of_threads_work(threads: Threads) -> None:
    release, begun = threading.Event(), threading.Semaphore(0)

    def work() -> bool:
        begun.release()
        return release.wait(DEADLINE_S)

    tasks = [asyncio.ensure_future(threads(work)) for _ in range(3)]
    both = await asyncio.to_thread(lambda: begun.acquire(timeout=DEADLINE_S) and begun.acquire(timeout=DEADLINE_S))
    assert both
    assert not begun.acquire(blocking=False), "a third one began, though there are two threads"
    assert not any(task.done() for task in tasks)
    release.set()
    assert await asyncio.gather(*tasks) == [True, True, True]


async def test_closing_drops_what_has_not_begun_and_waits_for_nothing() -> None:
    pool, release, begun = Threads(1, "closed"), threading.Event(), threading.Event()

    def work() -> bool:
        begun.set()
        return release.wait(DEADLINE_S)

    running, waiting = (asyncio.ensure_future(pool(work)) for _ in range(2))
    assert await asyncio.to_thread(lambda: begun.wait(DEADLINE_S))
    pool.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not running.done()
    release.set()
    assert await running
    with pytest.raises(RuntimeError):
        await pool(work)


async def test_a_call_whose_caller_gave_up_goes_on_in_its_thread(threads: Threads) -> None:
    release, ended = threading.Event(), threading.Event()

    def work() -> None:
        release.wait(DEADLINE_S)
        ended.set()

    task = asyncio.ensure_future(threads(work))
    asyncio.get_running_loop().call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()
    assert await asyncio.to_thread(lambda: ended.wait(DEADLINE_S))


async def test_work_is_tried_again_until_the_database_is_back(caplog: pytest.LogCaptureFixture) -> None:
    clock, tries = FakeClock(), 0

    def work() -> str:
        nonlocal tries
        tries += 1
        if tries <= 8:
            raise DatabaseUnavailable("away")
        return "stored"

    assert await until_available(inline, work, clock) == "stored"
    full = [min(RETRY_CAP_S, RETRY_BASE_S * 2**number) for number in range(8)]
    assert len(clock.slept) == 8
    assert all(most / 2 <= seconds <= most for seconds, most in zip(clock.slept, full, strict=True))
    assert sum(clock.slept) < sum(full), "jitter spreads those who wait together"
    assert caplog.messages == ["database.unavailable"] * 8
    assert [(vars(record)["error"], vars(record)["tries"]) for record in caplog.records][-1] == ("away", 8)


async def test_success_and_other_errors_are_not_waited_for() -> None:
    clock = FakeClock()
    assert await until_available(inline, lambda: 5, clock) == 5
    with pytest.raises(ZeroDivisionError):
        await until_available(inline, lambda: 1 // 0, clock)
    assert clock.slept == []
