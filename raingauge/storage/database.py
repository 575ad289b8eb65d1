"""One database, three dialects (SQLite, MySQL/MariaDB, PostgreSQL): connections, transactions, the clock, the errors.

Blocking. A transaction is a function of a connection, so that it can run again after a deadlock.
"""

import functools
import logging
import re
import sqlite3
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from sqlalchemy import Connection, Engine, Select, create_engine, event, literal_column, make_url, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from raingauge.clock import Clock, SystemClock
from raingauge.errors import DatabaseRefused, DatabaseUnavailable, Overtaken, SettingsError
from raingauge.storage.models import UtcDateTime

log = logging.getLogger("raingauge.database")

T = TypeVar("T")
DatabaseClock = Callable[[Connection], datetime]

CONNECT_S: Final = 3
STATEMENT_S: Final = 15
LOCK_WAIT_S: Final = 10
IDLE_TRANSACTION_S: Final = 8
"""The server ends a transaction whose process has frozen, so that its locks are released."""
PING_AFTER_S: Final = 1.0
"""A connection that was idle for longer is tested before its use."""
TRIES: Final = 6

DRIVERS: Final = {"sqlite": "pysqlite", "mysql": "pymysql", "mariadb": "pymysql", "postgresql": "psycopg"}
DEADLOCKS: Final = frozenset[object]({1205, 1213, "40P01", "40001", "55P03"})
"""MySQL: lock wait timeout, deadlock. PostgreSQL: deadlock, serialization failure, lock timeout."""
DUPLICATES: Final = frozenset[object]({1062, "23505", sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY})
READ_ONLY: Final = frozenset[object]({1290, 1792, 1836, "25006"})
"""A primary that became a replica."""
REFUSED: Final = frozenset[object]({1044, 1045, 1049, 1130, 1142, 1698, "28000", "28P01", "3D000", "42501"})
"""No access for this user, password or host, or no such database."""
REFUSED_BY_SQLITE: Final = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)
REFUSED_BY_POSTGRESQL: Final = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf|(role|database) .* does not exist|no such database"
)
"""While connecting the driver has no code, only the server's words."""
NOT_THERE: Final = frozenset[object]({1146, 1054, "42P01", "42703"})
"""A missing table or column."""
NOT_THERE_IN_SQLITE: Final = ("no such table", "no such column", "has no column named")

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
        self._place = _place(engine.url)
        self._away = False
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

    def _run(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        # A reader's connection is rolled back when it is closed: a COMMIT would be one more round trip.
        begin = engine.connect if engine is self.engine else engine.begin
        for attempt in range(1, TRIES + 1):
            began = self._stopwatch.monotonic()
            try:
                with begin() as connection:
                    result = work(connection)
            except DBAPIError as error:
                if is_deadlock(error) and attempt < TRIES:
                    continue
                at_once = self._stopwatch.monotonic() - began < CONNECT_S
                if error.connection_invalidated and at_once and engine is self.engine and attempt == 1:
                    continue  # it may have broken long ago: only idle connections are tested before their use
                self._raise(error)
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
            hint = "it has no tables, or old ones: run `python -m alembic upgrade head`"
            raise DatabaseUnavailable(f"{self._place}: {hint}") from error
        if is_refusal(error):
            raise DatabaseRefused(f"{self._place}: {cause(error)}") from error
        if is_read_only(error):
            self.engine.dispose()  # the address may lead to another server by now
            raise DatabaseUnavailable(f"{self._place}: it is read-only: {cause(error)}") from error
        if is_outage(error):
            raise DatabaseUnavailable(f"{self._place}: {cause(error)}") from error
        raise error


def _place(url: URL) -> str:
    """Where a database is: a file, or host, port and name. Nothing else of its URL, which may contain secrets."""
    port = f":{url.port}" if url.port else ""
    return f"{url.host}{port}/{url.database}" if url.host else str(url.database)


def cause(error: DBAPIError) -> str:
    """What the driver says, on one line. Drivers name user, host and database, never the password."""
    return " ".join(str(error.orig).split())[:300]


def is_refusal(error: DBAPIError) -> bool:
    """Whether the database does not let this program in, or is none: waiting does not help."""
    if isinstance(error.orig, sqlite3.Error):
        return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in REFUSED_BY_SQLITE
    codes = _codes(error) - {None}
    return not REFUSED.isdisjoint(codes) or (not codes and REFUSED_BY_POSTGRESQL.search(str(error.orig)) is not None)


def is_deadlock(error: DBAPIError) -> bool:
    """Whether the database gave this transaction up in favour of another, so that it can simply run again."""
    return not DEADLOCKS.isdisjoint(_codes(error))


def is_duplicate(error: DBAPIError) -> bool:
    """Whether a row with this key exists."""
    return not DUPLICATES.isdisjoint(_codes(error))


def is_read_only(error: DBAPIError) -> bool:
    """Whether the server refuses every write."""
    return not READ_ONLY.isdisjoint(_codes(error))


def lacks_schema(error: DBAPIError) -> bool:
    """Whether the schema was never created, or is older than this program."""
    if isinstance(error.orig, sqlite3.Error):
        return any(words in str(error.orig) for words in NOT_THERE_IN_SQLITE)
    return not NOT_THERE.isdisjoint(_codes(error))


def is_outage(error: DBAPIError) -> bool:
    """Whether the database is away or too busy, as opposed to a mistake in a statement."""
    if getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
        return False  # SQLite reports a mistake in a statement as an OperationalError, too
    return error.connection_invalidated or isinstance(error, OperationalError) or is_deadlock(error)


def _codes(error: DBAPIError) -> set[object]:
    """The driver's codes of the error: a number, five characters, or both."""
    first = error.orig.args[0] if error.orig is not None and error.orig.args else None
    own = (getattr(error.orig, name, None) for name in ("sqlstate", "sqlite_errorcode"))
    return {*own, first if isinstance(first, int) else None}


def open_database(
    url: str, pool_size: int = 10, clock: DatabaseClock = server_time, statement_s: int = STATEMENT_S
) -> Database:
    """Prepare a database; nothing is connected yet. A statement or an answer takes at most `statement_s`.

    Raises:
        SettingsError: the URL names no database that is supported, or its driver is missing.
    """
    try:
        return Database(_make_engine(make_url(url), pool_size, statement_s), clock)
    except (ArgumentError, ValueError):
        # Without the cause: it may quote the URL, and with it a password.
        raise SettingsError("database.url: expected dialect+driver://user:password@host:port/database") from None
    except (ImportError, OSError) as error:
        raise SettingsError(f"database.url: {error}") from error


def _make_engine(target: URL, pool_size: int, statement_s: int) -> Engine:
    backend = target.get_backend_name()
    if backend not in DRIVERS:
        supported = ", ".join(f"{name}+{driver}" for name, driver in DRIVERS.items())
        raise SettingsError(f"database.url: {backend} is not supported ({supported})")
    if target.get_driver_name() != DRIVERS[backend]:
        raise SettingsError(f"database.url: use {backend}+{DRIVERS[backend]}://")
    if backend == "sqlite":
        return _sqlite(target, pool_size, statement_s)
    if backend in {"mysql", "mariadb"}:
        arguments = _mysql_arguments(statement_s)
    else:
        arguments = _postgresql_arguments(statement_s, target.query.get("options", ""))
    engine = create_engine(
        target,
        isolation_level="READ COMMITTED",
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=CONNECT_S,
        pool_recycle=3600,
        hide_parameters=True,
        connect_args=arguments,
    )
    _refuse_unknown_parameters(engine)
    _ping_idle_connections(engine, SystemClock())
    if backend in {"mysql", "mariadb"}:
        _limit_idle_transactions(engine)
    return engine


def _mysql_arguments(statement_s: int) -> dict[str, Any]:
    from pymysql.constants import FIELD_TYPE  # noqa: PLC0415  an extra
    from pymysql.converters import conversions  # noqa: PLC0415

    return {
        # PyMySQL's own converter of times is twenty times slower: a third of what reading a page takes.
        "conv": {**conversions, FIELD_TYPE.DATETIME: datetime.fromisoformat},
        "connect_timeout": CONNECT_S,
        "read_timeout": statement_s,
        "write_timeout": statement_s,
        "charset": "utf8mb4",
        "init_command": f"SET time_zone = '+00:00', innodb_lock_wait_timeout = {LOCK_WAIT_S}",
    }


def _postgresql_arguments(statement_s: int, options: str | tuple[str, ...]) -> dict[str, Any]:
    limits = {
        "statement_timeout": f"{statement_s}s",
        "lock_timeout": f"{LOCK_WAIT_S}s",
        "idle_in_transaction_session_timeout": f"{IDLE_TRANSACTION_S}s",
    }
    given = options if isinstance(options, str) else " ".join(options)
    return {
        "connect_timeout": CONNECT_S,
        "options": " ".join([given, *(f"-c {name}={value}" for name, value in limits.items())]),
        "prepare_threshold": None,  # a pooler in transaction mode knows no prepared statements of others
        # The driver waits for an answer without end; these make TCP give up a peer that is gone.
        "tcp_user_timeout": statement_s * 1000,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 5,
    }


def _limit_idle_transactions(engine: Engine) -> None:
    """Have the server end a transaction whose client is silent.

    MariaDB has a limit for that alone; MySQL has only one for all idle sessions, so its idle connections end, too.
    """

    @event.listens_for(engine, "connect")
    def limit(connection: Any, _record: Any) -> None:
        name = "idle_transaction_timeout" if "MariaDB" in connection.get_server_info() else "wait_timeout"
        with connection.cursor() as cursor:
            cursor.execute(f"SET SESSION {name} = {IDLE_TRANSACTION_S}")


def _refuse_unknown_parameters(engine: Engine) -> None:
    """Report what the driver does not take from the URL as a refusal: for the driver it is a mistake in a call."""

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, _record: Any, arguments: Any, parameters: Any) -> Any:
        try:
            return dialect.connect(*arguments, **parameters)
        except (TypeError, dialect.loaded_dbapi.ProgrammingError) as error:
            raise DatabaseRefused(f"{_place(engine.url)}: {' '.join(str(error).split())}") from error


def _ping_idle_connections(engine: Engine, clock: Clock) -> None:
    """Test a connection before its use, unless it was used a moment ago."""

    @event.listens_for(engine, "checkin")
    def note(_connection: Any, record: Any) -> None:
        record.info["idle_since"] = clock.monotonic()

    @event.listens_for(engine, "checkout")
    def ping(connection: Any, record: Any, _proxy: Any) -> None:
        if clock.monotonic() - record.info.get("idle_since", clock.monotonic()) < PING_AFTER_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error


def _sqlite(target: URL, pool_size: int, statement_s: int) -> Engine:
    if target.database in {None, "", ":memory:"}:
        raise SettingsError("database.url: SQLite needs a file, for example sqlite:///var/raingauge.db")
    if target.query:
        raise SettingsError(f"database.url: SQLite takes no parameters, remove ?{'&'.join(target.query)}")
    Path(str(target.database)).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        target,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=CONNECT_S,
        hide_parameters=True,
        connect_args={"timeout": statement_s, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        # The driver must not begin transactions by itself: readers begin plainly, writers with the lock in hand.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("raingauge_begin", "BEGIN"))

    return engine
