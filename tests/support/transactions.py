"""Transactions that fail at first, as a database does that is away."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

from raingauge.blocking import inline
from raingauge.clock import SystemClock
from raingauge.database import Database
from raingauge.database.transactions import Transactions
from raingauge.errors import DatabaseUnavailable

T = TypeVar("T")


class FailingAtFirst(Transactions):
    """The first one that writes meets an outage, the second one a bug."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, inline, SystemClock())
        self._errors = [DatabaseUnavailable("away"), ZeroDivisionError()]

    async def write(self, work: Callable[[Connection], T], within_s: float | None = None) -> T:
        if self._errors:
            raise self._errors.pop(0)
        return await super().write(work, within_s)
