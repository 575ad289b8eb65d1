"""The one seam through which blocking work (requests, database drivers) is reached from the event loop.

Outside tests the work runs in threads; a simulation runs it inline, so that a seed decides every interleaving.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Final, Protocol, TypeVar

from raingauge.backoff import backoff_s
from raingauge.clock import Clock
from raingauge.errors import DatabaseUnavailable

log = logging.getLogger("raingauge.blocking")
RETRY_BASE_S: Final = 0.25
RETRY_CAP_S: Final = 4.0
T = TypeVar("T")


class RunBlocking(Protocol):
    """Runs a blocking call and awaits its result."""

    async def __call__(self, work: Callable[[], T], /) -> T:
        """The result of `work()`, or whatever it raises."""


class Threads:
    """Runs blocking work in a bounded pool of threads of its own.

    A call whose caller gave up goes on in its thread; the pool's size bounds how many can hang.
    """

    def __init__(self, size: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix=name)

    async def __call__(self, work: Callable[[], T], /) -> T:
        # Within the caller's context, so that a trace goes on in the thread.
        return await asyncio.get_running_loop().run_in_executor(self._pool, copy_context().run, work)

    def close(self) -> None:
        """Take no more work; what has not begun is dropped, what runs is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)


async def inline(work: Callable[[], T], /) -> T:
    """Run the work where it stands, on the event loop: in simulations, and in commands that do nothing else."""
    return work()


async def until_available(run: RunBlocking, work: Callable[[], T], clock: Clock) -> T:
    """The result of database work, tried again, with backoff and jitter, for as long as the database is away."""
    tries = 0
    while True:
        try:
            return await run(work)
        except DatabaseUnavailable as error:
            tries += 1
            log.warning("database.unavailable", extra={"error": str(error), "tries": tries})
            await clock.sleep(backoff_s(tries, RETRY_BASE_S, RETRY_CAP_S) * random.uniform(0.5, 1.0))
