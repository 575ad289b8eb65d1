"""Transactions off the event loop: within a deadline, or for as long as the database is away.

The seam between asyncio and a blocking database. A transaction that overruns its deadline is still whole or nothing.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Connection

from raingauge.blocking import RunBlocking, until_available
from raingauge.clock import Clock
from raingauge.database.database import Database
from raingauge.errors import DatabaseUnavailable

T = TypeVar("T")


class Transactions:
    """A database, and the threads that wait for it."""

    def __init__(self, database: Database, run_blocking: RunBlocking, clock: Clock) -> None:
        self.run_blocking = run_blocking
        self._database = database
        self.clock = clock

    def now(self, connection: Connection) -> datetime:
        """The database's clock, within a transaction."""
        return self._database.now(connection)

    async def read(self, work: Callable[[Connection], T], within_s: float | None = None) -> T:
        """The result of `work`, which changes nothing.

        Raises:
            DatabaseUnavailable: it does not answer, or not within `within_s`.
        """
        return await self._in_time(lambda: self._database.read(work), within_s)

    async def write(self, work: Callable[[Connection], T], within_s: float | None = None) -> T:
        """The result of `work`, committed. It may run several times.

        Raises:
            DatabaseUnavailable: it does not answer, or not within `within_s`; the work may be committed.
        """
        return await self._in_time(lambda: self._database.write(work), within_s)

    async def persist(self, work: Callable[[Connection], T]) -> T:
        """The result of `work`, committed; tried again for as long as the database is away."""
        return await until_available(self.run_blocking, lambda: self._database.write(work), self.clock)

    async def _in_time(self, work: Callable[[], T], within_s: float | None) -> T:
        if within_s is None:
            return await self.run_blocking(work)
        try:
            async with asyncio.timeout(within_s):
                return await self.run_blocking(work)
        except TimeoutError:
            raise DatabaseUnavailable(f"no answer within {within_s:.1f} s") from None
