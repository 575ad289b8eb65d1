"""Transactions of the producer: they run in threads, under a deadline that lies outside them.

A database that hangs is reported in time; what its thread still does is whole or nothing.
"""

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from sqlalchemy import Connection

from raingauge.blocking import RunBlocking
from raingauge.errors import DatabaseUnavailable
from raingauge.storage.database import Database

T = TypeVar("T")

DEADLINE_S: Final = 0.7
"""Every request is answered within a second; the rest is for a machine that is busy."""


class Transactions:
    """A database, the threads that wait for it, and the deadline.

    Raises (`read` and `write`): DatabaseUnavailable, in time.
    """

    def __init__(self, database: Database, run_blocking: RunBlocking, deadline_s: float = DEADLINE_S) -> None:
        self.database = database
        self.run_blocking = run_blocking
        self.deadline_s = deadline_s

    def deadline(self) -> float:
        """The deadline of a request that arrives now, on the event loop's clock."""
        return asyncio.get_running_loop().time() + self.deadline_s

    async def read(self, work: Callable[[Connection], T], more_s: float = 0.0) -> T:
        """The result of `work`, which changes nothing. `more_s`: seconds that it may take beyond the deadline."""
        return await self._in_time(lambda: self.database.read(work), more_s)

    async def write(self, work: Callable[[Connection], T], more_s: float = 0.0) -> T:
        """The result of `work`, committed. `more_s`: seconds that it may take beyond the deadline."""
        return await self._in_time(lambda: self.database.write(work), more_s)

    async def _in_time(self, work: Callable[[], T], more_s: float) -> T:
        seconds = self.deadline_s + more_s
        try:
            async with asyncio.timeout(seconds):
                return await self.run_blocking(work)
        except TimeoutError:
            raise DatabaseUnavailable(f"no answer within {seconds:.1f} s") from None
