"""A process of the simulated system: it can be killed, at any statement too, and its database can be away."""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from sqlalchemy import ColumnElement, Connection, Engine, String, bindparam, event

from raingauge.database import Database
from raingauge.database.transactions import Transactions
from raingauge.errors import DatabaseUnavailable
from tests.simulation.plan import Plan
from tests.simulation.virtual import VirtualClock

T = TypeVar("T")


class Killed(BaseException):
    """The process ends here, without a word."""


class Process:
    """One process and its fate. Its blocking work runs inline, with small delays before and after."""

    def __init__(self, name: str, plan: Plan, clock: VirtualClock, machine: "Machine") -> None:
        self.name = name
        self.alive = True
        self.statements_left: int | None = None
        self.task: asyncio.Task[None] | None = None
        self.statement_s = plan.statement_s()
        self.transactions = Transactions(_Database(machine.engine, clock, self, plan), self.run, clock)
        self._plan = plan
        self._clock = clock
        self._machine = machine

    def start(self, program: Coroutine[Any, Any, None]) -> None:
        """Run a program as this process."""
        self.task = asyncio.create_task(self._run(program))

    async def _run(self, program: Coroutine[Any, Any, None]) -> None:
        try:
            await program
        except BaseException as error:
            if self.alive and not isinstance(error, asyncio.CancelledError):
                raise
        finally:
            self.alive = False

    def kill(self) -> None:
        """SIGKILL."""
        self.alive = False
        if self.task is not None:
            self.task.cancel()

    async def run(self, work: Callable[[], T], /) -> T:
        """The seam for database work. Each statement takes its way to the database and back."""
        await self._clock.sleep(self._plan.database_delay() + self.statement_s)
        before = self._machine.statements
        with self._machine.running(self):
            result = work()
        statements = self._machine.statements - before
        await self._clock.sleep(self._plan.database_delay() + statements * self.statement_s)
        return result

    def check(self) -> None:
        """A dead process does nothing."""
        if not self.alive:
            raise Killed


class Machine:
    """The database server that all processes share."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.statements = 0
        self.gate = asyncio.Lock()
        """The lock of the gate's row, held as long as a reservation takes."""
        self.commits = 0
        self.server = "first"
        self._current: Process | None = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Statements within the block are counted, and fatal to a process that has none left."""
        event.listen(self.engine, "before_cursor_execute", self._statement)
        event.listen(self.engine, "commit", self._commit)
        try:
            yield
        finally:
            event.remove(self.engine, "before_cursor_execute", self._statement)
            event.remove(self.engine, "commit", self._commit)

    def identity(self, _connection: Connection) -> ColumnElement[str | None]:
        """Which server it is, read with each statement."""
        return bindparam("server", callable_=lambda: self.server, type_=String())

    def replica(self) -> sqlite3.Connection:
        """A copy as it is now; what is committed from now on never reaches it."""
        copy = sqlite3.connect(":memory:")
        with self.engine.connect() as connection:
            cast("sqlite3.Connection", connection.connection.driver_connection).backup(copy)
        return copy

    def promote(self, replica: sqlite3.Connection) -> None:
        """The server is gone; the replica takes its place, with what it has."""
        with self.engine.connect() as connection:
            replica.backup(cast("sqlite3.Connection", connection.connection.driver_connection))
        self.server = "second"

    def _commit(self, _connection: Connection) -> None:
        self.commits += 1

    @contextmanager
    def running(self, process: Process) -> Iterator[None]:
        """Statements within the block are this process's."""
        process.check()
        self._current = process
        try:
            yield
        finally:
            self._current = None

    def _statement(self, *_: Any) -> None:
        self.statements += 1
        process = self._current
        if process is None or process.statements_left is None:
            return
        process.statements_left -= 1
        if process.statements_left < 0:
            process.alive = False
            raise Killed


class _Database(Database):
    """The shared database as one process sees it: away at times, its answers lost at times."""

    def __init__(self, engine: Engine, clock: VirtualClock, process: Process, plan: Plan) -> None:
        super().__init__(engine, clock.of_database)
        self._process = process
        self._plan = plan

    def _run(self, work: Callable[[Connection], T], *, writes: bool) -> T:
        self._process.check()
        if self._plan.database_away():
            raise DatabaseUnavailable("simulated outage")
        result = super()._run(work, writes=writes)
        if self._plan.answer_lost():
            raise DatabaseUnavailable("simulated: committed, but the answer was lost")
        return result
