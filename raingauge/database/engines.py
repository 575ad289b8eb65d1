"""SQLAlchemy's engines for SQLite, MySQL/MariaDB and PostgreSQL: session settings, timeouts, pings.

Nothing is connected here.
"""

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DisconnectionError

from raingauge.clock import Clock, SystemClock
from raingauge.database.causes import place_of
from raingauge.database.galera import see_what_is_committed
from raingauge.errors import DatabaseRefused, SettingsError

CONNECT_S: Final = 3
STATEMENT_S: Final = 15
LOCK_WAIT_S: Final = 10
IDLE_TRANSACTION_S: Final = 8
"""The server ends a transaction whose process has frozen, so that its locks are released."""
PING_AFTER_S: Final = 1.0
"""A connection that was idle for longer is tested before its use."""

NO_PASSWORD: Final = "none"  # noqa: S105
"""Of a client's key without one: for an encrypted key OpenSSL would ask for the password on the terminal."""
TLS_FILES: Final = ("ssl_ca", "ssl_capath", "ssl_cert", "ssl_key")
"""Parameters of a MySQL URL. With `ssl_ca` PyMySQL checks the server's certificate and host name; without, neither."""

DRIVERS: Final = {"sqlite": "pysqlite", "mysql": "pymysql", "mariadb": "pymysql", "postgresql": "psycopg"}


def make_engine(url: str, pool_size: int, statement_s: int) -> Engine:
    """An engine; nothing is connected yet. A statement or an answer takes at most `statement_s`.

    Raises:
        SettingsError: the URL names no database that is supported, or its driver is missing.
    """
    try:
        return _make(make_url(url), pool_size, statement_s)
    except (ArgumentError, ValueError):
        # Without the cause: it may quote the URL, and with it a password.
        raise SettingsError("database.url: expected dialect+driver://user:password@host:port/database") from None
    except (ImportError, OSError) as error:
        raise SettingsError(f"database.url: {error}") from error


def _make(target: URL, pool_size: int, statement_s: int) -> Engine:
    backend = target.get_backend_name()
    if backend not in DRIVERS:
        supported = ", ".join(f"{name}+{driver}" for name, driver in DRIVERS.items())
        raise SettingsError(f"database.url: {backend} is not supported ({supported})")
    if target.get_driver_name() != DRIVERS[backend]:
        raise SettingsError(f"database.url: use {backend}+{DRIVERS[backend]}://")
    if backend == "sqlite":
        return _sqlite(target, pool_size, statement_s)
    if backend in {"mysql", "mariadb"}:
        arguments = _mysql_arguments(statement_s, target.password)
    else:
        arguments = _postgresql_arguments(statement_s, target.query)
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
        see_what_is_committed(engine)
    return engine


def _mysql_arguments(statement_s: int, password: str | None) -> dict[str, Any]:
    from pymysql.constants import FIELD_TYPE  # noqa: PLC0415  an extra
    from pymysql.converters import conversions  # noqa: PLC0415

    return {
        "password": (password or "").encode(),  # PyMySQL would send Latin-1, and fail with other characters
        # PyMySQL's own converter of times is twenty times slower: a third of what reading a page takes.
        "conv": {**conversions, FIELD_TYPE.DATETIME: datetime.fromisoformat},
        "connect_timeout": CONNECT_S,
        "read_timeout": statement_s,
        "write_timeout": statement_s,
        "charset": "utf8mb4",
        "init_command": f"SET time_zone = '+00:00', innodb_lock_wait_timeout = {LOCK_WAIT_S}",
    }


def _postgresql_arguments(statement_s: int, query: Mapping[str, str | tuple[str, ...]]) -> dict[str, Any]:
    limits = {
        "statement_timeout": f"{statement_s}s",
        "lock_timeout": f"{LOCK_WAIT_S}s",
        "idle_in_transaction_session_timeout": f"{IDLE_TRANSACTION_S}s",
    }
    options = query.get("options", "")
    given = options if isinstance(options, str) else " ".join(options)
    return {
        "connect_timeout": CONNECT_S,
        "options": " ".join([given, *(f"-c {name}={value}" for name, value in limits.items())]),
        "sslpassword": query.get("sslpassword", NO_PASSWORD),
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
    """Report what the driver does not take from the URL as a refusal: for the driver it is a mistake in a call.

    Also reported so: a file that PyMySQL cannot read before it connects, and a missing package for a login.
    """

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, _record: Any, arguments: Any, parameters: Any) -> Any:
        if isinstance(tls := parameters.get("ssl"), dict):
            tls["password"] = parameters.pop("ssl_key_password", NO_PASSWORD)  # SQLAlchemy leaves it beside the others
        try:
            return dialect.connect(*arguments, **parameters)
        except (TypeError, dialect.loaded_dbapi.ProgrammingError) as error:
            raise DatabaseRefused(f"{place_of(engine.url)}: {' '.join(str(error).split())}") from error
        except OSError as error:
            raise DatabaseRefused(f"{place_of(engine.url)}: {_unusable_file(engine.url)}") from error
        except RuntimeError as error:
            raise DatabaseRefused(f"{place_of(engine.url)}: {_lacking_package(error)}") from error


def _unusable_file(url: URL) -> str:
    """Which file for TLS cannot be used: the errors of `ssl` do not name it."""
    named = [(name, str(url.query[name])) for name in TLS_FILES if name in url.query]
    for name, file in named:
        if not os.access(file, os.R_OK):
            return f"{name}: cannot read {file}"
    names = ", ".join(name for name, _ in named)
    return f"{names}: no certificate or key in PEM, or not a pair, or ssl_key_password is wrong"


def _lacking_package(error: RuntimeError) -> str:
    """What PyMySQL says when it has to log in with a method whose package is not installed, and the remedy."""
    words = str(error)
    extra, otherwise = ("ed25519", "") if "ed25519" in words else ("rsa", ", or connect with TLS")
    return f"{words}: install pymysql[{extra}]{otherwise}"


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
