"""One database, three dialects (SQLite, MySQL/MariaDB, PostgreSQL): transactions, its clock, its errors.

Blocking. Every transaction is a function of a connection, so that it can be run again after a deadlock.
"""

import functools
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Select,
    bindparam,
    cast,
    func,
    literal,
    literal_column,
    make_url,
    select,
    type_coerce,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from raingauge.clock import SystemClock
from raingauge.errors import DatabaseUnavailable, Overtaken, SettingsError
from raingauge.storage.engine import CONNECT_S, make_engine
from raingauge.storage.message import Answer, Statement, ask, send
from raingauge.storage.models import UtcDateTime

T = TypeVar("T")
DatabaseClock = Callable[[Connection], datetime]

STATEMENT_S: Final = 15
DEADLOCK_TRIES: Final = 6
DEADLOCKS: Final = frozenset[object]({1205, 1213, "40P01", "40001", "55P03"})
"""MySQL's lock wait timeout and deadlock; PostgreSQL's deadlock, serialization failure and lock timeout."""
DUPLICATES: Final = frozenset[object]({1062, "23505", sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY})
"""A key that stands already: MySQL, PostgreSQL, SQLite."""
NOT_THERE: Final = frozenset[object]({1146, 1054, "42P01", "42703"})
"""A table or a column that is not there: MySQL, PostgreSQL."""
NOT_THERE_IN_SQLITE: Final = ("no such table", "no such column", "has no column named")

_CLOCKS: Final = {
    # NOW() has whole seconds in MySQL, CURRENT_TIMESTAMP in SQLite; in PostgreSQL both are the transaction's start.
    # These stand still while a statement runs (SQLite's: while it comes to one row), and not from one to the next.
    "mysql": "UTC_TIMESTAMP(6)",
    "mariadb": "UTC_TIMESTAMP(6)",
    "postgresql": "(statement_timestamp() AT TIME ZONE 'UTC')",
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f000', 'now')",  # as long as what is stored: it compares as text
}


def moment_of(dialect: str, *, told: bool) -> ColumnElement[datetime]:
    """The time, for a statement that asks for it: the server's, or the one that it is told as `moment`."""
    if not told:
        return literal_column(_CLOCKS[dialect], UtcDateTime())
    given = bindparam("moment", type_=UtcDateTime)
    if dialect in {"mysql", "mariadb"}:  # the driver sends text
        return type_coerce(cast(given, mysql.DATETIME(fsp=6)), UtcDateTime)
    return given


def moment_beside(dialect: str, moment: ColumnElement[datetime], seconds: float) -> ColumnElement[datetime]:
    """So long after a moment, or before it; on SQLite to the millisecond."""
    if dialect == "sqlite":
        return func.strftime("%Y-%m-%d %H:%M:%f000", moment, f"{seconds:+.3f} seconds", type_=UtcDateTime)
    if dialect == "postgresql":
        return moment + literal(timedelta(seconds=seconds))
    return func.timestampadd(literal_column("MICROSECOND"), round(seconds * 1e6), moment, type_=UtcDateTime)


@functools.cache
def _ask_server(dialect: str) -> Select[datetime]:
    return select(moment_of(dialect, told=False))


def server_time(connection: Connection) -> datetime:
    """The database's clock now: aware, UTC; microseconds, on SQLite milliseconds."""
    [row] = ask(connection, _ask_server(connection.dialect.name), {})
    now: datetime = row[0]
    return now


class Database:
    """Runs transactions. One write at a time on SQLite, READ COMMITTED on the others.

    Raises (all methods): DatabaseUnavailable when it does not answer.
    """

    def __init__(self, engine: Engine, clock: DatabaseClock = server_time) -> None:
        self.engine = engine
        self._clock = clock
        self._stopwatch = SystemClock()
        self._writing = engine.execution_options(raingauge_begin="BEGIN IMMEDIATE")

    @property
    def dialect(self) -> str:
        """sqlite, mysql, mariadb or postgresql."""
        return self.engine.dialect.name

    def read(self, work: Callable[[Connection], T]) -> T:
        """The result of `work` in a transaction that changes nothing. It runs again when its connection was broken."""
        return self._run(self.engine, work)

    def write(self, work: Callable[[Connection], T]) -> T:
        """The result of `work` in a transaction that is committed. It may run several times (deadlocks, Overtaken)."""
        return self._run(self._writing, work)

    def now(self, connection: Connection) -> datetime:
        """The database's clock: the only one that promises rest on."""
        return self._clock(connection)

    def now_and(self, connection: Connection, statements: Sequence[Statement]) -> tuple[datetime, list[Answer]]:
        """The same, and what these statements bring, in one message."""
        if self.told:
            return self._clock(connection), send(connection, statements)
        clock, *answers = send(connection, [(_ask_server(self.dialect), {}), *statements])
        return clock.rows[0][0], answers

    @property
    def told(self) -> bool:
        """Whether statements are told the time, because its clock is not the server's."""
        return self._clock is not server_time

    def moment(self, connection: Connection) -> Mapping[str, datetime]:
        """What a statement that asks for the time is to be given for it: see `moment_of`."""
        return {"moment": self._clock(connection)} if self.told else {}

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()

    def _run(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        for tries in range(1, DEADLOCK_TRIES + 1):
            began = self._stopwatch.monotonic()
            try:
                with engine.begin() as connection:
                    return work(connection)
            except DBAPIError as error:
                if is_deadlock(error) and tries < DEADLOCK_TRIES:
                    continue
                at_once = self._stopwatch.monotonic() - began < CONNECT_S
                if error.connection_invalidated and at_once and engine is self.engine and tries == 1:
                    continue  # it may have broken long ago: not every connection is looked at before its use
                if lacks_schema(error):
                    hint = "it has no tables, or old ones: run `python -m alembic upgrade head`"
                    raise DatabaseUnavailable(hint) from error
                if is_outage(error):
                    raise DatabaseUnavailable(type(error.orig).__name__) from error
                raise
            except Overtaken as error:
                if tries == DEADLOCK_TRIES:
                    raise DatabaseUnavailable("others are always quicker") from error
            except PoolTimeout as error:
                raise DatabaseUnavailable("all connections are busy") from error
        raise AssertionError("unreachable")  # pragma: no cover


def is_deadlock(error: DBAPIError) -> bool:
    """Whether the database gave this transaction up in favour of another, so that it can simply run again."""
    return not DEADLOCKS.isdisjoint(_codes(error))


def is_duplicate(error: DBAPIError) -> bool:
    """Whether a row of the same key stands already."""
    return not DUPLICATES.isdisjoint(_codes(error))


def lacks_schema(error: DBAPIError) -> bool:
    """Whether the schema has not been brought up, or not as far as this program needs it."""
    if isinstance(error.orig, sqlite3.Error):
        return any(words in str(error.orig) for words in NOT_THERE_IN_SQLITE)
    return not NOT_THERE.isdisjoint(_codes(error))


def _codes(error: DBAPIError) -> set[object]:
    """What the driver says of the error: a number or five characters, or both."""
    first = error.orig.args[0] if error.orig is not None and error.orig.args else None
    own = (getattr(error.orig, name, None) for name in ("sqlstate", "sqlite_errorcode"))
    return {*own, first if isinstance(first, int) else None}


def is_outage(error: DBAPIError) -> bool:
    """Whether the database is away or too busy, as opposed to a mistake in a statement."""
    if getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
        return False  # what is wrong with a statement is an OperationalError there, too
    return error.connection_invalidated or isinstance(error, OperationalError) or is_deadlock(error)


def open_database(
    url: str, pool_size: int = 10, clock: DatabaseClock = server_time, statement_s: int = STATEMENT_S
) -> Database:
    """Prepare a database; nothing is connected yet. A statement, a lock or an answer is waited for up to `statement_s`.

    Raises:
        SettingsError: the URL names no database that is supported, or its driver is missing.
    """
    try:
        return Database(make_engine(make_url(url), pool_size, statement_s), clock)
    except (ArgumentError, ValueError):
        # Without the cause: it may quote the URL, and with it a password.
        raise SettingsError("database.url: expected dialect+driver://user:password@host:port/database") from None
    except (ImportError, OSError) as error:
        raise SettingsError(f"database.url: {error}") from error
