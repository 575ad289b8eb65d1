"""Transactions, and the database's clock.

Blocking. A transaction is a function of a connection, so that it can run again after a deadlock.
"""

import functools
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final, NoReturn, TypeVar

from sqlalchemy import Connection, Engine, Select, literal_column, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from raingauge.clock import SystemClock
from raingauge.database.causes import (
    cause,
    is_full,
    is_outage,
    is_read_only,
    is_refusal,
    lacks_schema,
    may_run_again,
    place_of,
)
from raingauge.database.engines import CONNECT_S, STATEMENT_S, make_engine
from raingauge.database.types import UtcDateTime
from raingauge.errors import DatabaseRefused, DatabaseUnavailable, Overtaken, SettingsError

log = logging.getLogger("raingauge.database")

T = TypeVar("T")
DatabaseClock = Callable[[Connection], datetime]

TRIES: Final = 6
NO_SCHEMA: Final = "it has no tables, or old ones: run `python -m alembic upgrade head`"
READ_ONLY: Final = "it is read-only"

_CLOCKS: Final = {
    # With fractions of a second, and read when the statement runs: NOW() has whole seconds in MySQL, CURRENT_TIMESTAMP
    # in SQLite; in PostgreSQL both are the time at which the transaction began.
    "mysql": "UTC_TIMESTAMP(6)",
    "mariadb": "UTC_TIMESTAMP(6)",
    "postgresql": "(clock_timestamp() AT TIME ZONE 'UTC')",
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f000', 'now')",
}


@functools.cache
def _clock_statement(dialect: str) -> Select[datetime]:
    return select(literal_column(_CLOCKS[dialect], UtcDateTime()))


def server_time(connection: Connection) -> datetime:
    """The database's clock: aware, UTC, in microseconds (SQLite: milliseconds)."""
    return connection.scalars(_clock_statement(connection.dialect.name)).one()


class Database:
    """Runs transactions. One writer at a time on SQLite, READ COMMITTED on the others.

    Raises (all methods): DatabaseUnavailable when it does not answer.
    """

    def __init__(self, engine: Engine, clock: DatabaseClock = server_time) -> None:
        self.engine = engine
        self._clock = clock
        self._place = place_of(engine.url)
        self._away = False
        self._stopwatch = SystemClock()
        self._writing = engine.execution_options(raingauge_begin="BEGIN IMMEDIATE")

    @property
    def dialect(self) -> str:
        """sqlite, mysql, mariadb or postgresql."""
        return self.engine.dialect.name

    def read(self, work: Callable[[Connection], T]) -> T:
        """The result of `work` in a transaction that changes nothing. It runs again when its connection was broken."""
        return self._run(work, writes=False)

    def write(self, work: Callable[[Connection], T]) -> T:
        """The result of `work` in a transaction that is committed. It may run several times (deadlocks, Overtaken)."""
        return self._run(work, writes=True)

    def now(self, connection: Connection) -> datetime:
        """The database's clock, the only one on which promises rest."""
        return self._clock(connection)

    def check_at_start(self) -> None:
        """Return when the database answers.

        Raises:
            SettingsError: it refuses this program, and waiting does not help.
        """
        try:
            self.write(lambda connection: connection.execute(select(1)))
        except DatabaseRefused as error:
            raise SettingsError(f"database.url: {error}") from error

    def close(self) -> None:
        """Close the idle connections."""
        self.engine.dispose()

    def _run(self, work: Callable[[Connection], T], *, writes: bool) -> T:
        # A reader's connection is rolled back when it is closed: a COMMIT would be one more round trip.
        begin = self._writing.begin if writes else self.engine.connect
        for attempt in range(1, TRIES + 1):
            began = self._stopwatch.monotonic()
            try:
                with begin() as connection:
                    result = work(connection)
            except DBAPIError as error:
                if may_run_again(error) and attempt < TRIES:
                    continue
                at_once = self._stopwatch.monotonic() - began < CONNECT_S
                if error.connection_invalidated and at_once and not writes and attempt == 1:
                    continue  # it may have broken long ago: only idle connections are tested before their use
                self._raise(error)
            except DatabaseRefused:
                self._away = True
                raise
            except Overtaken as error:
                if attempt == TRIES:
                    raise DatabaseUnavailable("other transactions are always faster") from error
            except PoolTimeout as error:
                raise DatabaseUnavailable("all connections are in use") from error
            else:
                self._note_answer()
                return result
        raise AssertionError("unreachable")  # pragma: no cover

    def _note_answer(self) -> None:
        if self._away:
            self._away = False
            log.info("database.available", extra={"database": self._place})

    def _raise(self, error: DBAPIError) -> NoReturn:
        """Raise what an error of the driver means to this program."""
        self._away = is_outage(error) or is_refusal(error) or lacks_schema(error)
        if lacks_schema(error):
            raise DatabaseUnavailable(f"{self._place}: {NO_SCHEMA}", NO_SCHEMA) from error
        words = f"{self._place}: {cause(error)}"
        if is_refusal(error):
            raise DatabaseRefused(words) from error
        if is_read_only(error):
            self.engine.dispose()  # the address may lead to another server by now
            raise DatabaseUnavailable(f"{self._place}: {READ_ONLY}: {cause(error)}", READ_ONLY) from error
        if is_full(error):
            raise DatabaseUnavailable(words, "its disk is full") from error
        if is_outage(error):
            raise DatabaseUnavailable(words) from error
        raise error


def open_database(
    url: str, pool_size: int = 10, clock: DatabaseClock = server_time, statement_s: int = STATEMENT_S
) -> Database:
    """Prepare a database; nothing is connected yet. A statement or an answer takes at most `statement_s`.

    Raises:
        SettingsError: the URL names no database that is supported, or its driver is missing.
    """
    return Database(make_engine(url, pool_size, statement_s), clock)
