"""Connections: what each of the databases is told when one is opened, how long it may take, and when one is looked at.

Everything that is done on them is done by `raingauge.storage.database`.
"""

from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, PoolResetState, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DisconnectionError

from raingauge.clock import Clock, SystemClock
from raingauge.errors import SettingsError
from raingauge.storage.message import take_messages

CONNECT_S: Final = 3
IDLE_S: Final = 1.0
"""A connection that was used that lately is not looked at before it is used again."""

MYSQL_FLAGS: Final = 1 << 16 | 1 << 1
"""CLIENT_MULTI_STATEMENTS of MySQL's protocol; CLIENT_FOUND_ROWS, which SQLAlchemy counts on."""
IN_TRANSACTION: Final = 1
"""SERVER_STATUS_IN_TRANS of MySQL's protocol, which every answer of the server carries."""


def make_engine(target: URL, pool_size: int, statement_s: int) -> Engine:
    """An engine for one of the supported databases; nothing is connected yet.

    Raises:
        SettingsError: it is none of them.
    """
    backend = target.get_backend_name()
    if backend == "sqlite":
        return _sqlite(target, pool_size, statement_s)
    if backend in {"mysql", "mariadb"}:
        options = _mysql(statement_s)
    elif backend == "postgresql":
        options = _postgresql(statement_s)
    else:
        raise SettingsError(f"database.url: {backend} is not supported (sqlite, mysql+pymysql, postgresql+psycopg)")
    engine = create_engine(
        target,
        isolation_level="READ COMMITTED",
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=CONNECT_S,
        hide_parameters=True,
        paramstyle="format",  # by position: `rows.store` hands tuples to the driver
        pool_recycle=3600,
        **options,
    )
    _ping_the_idle(engine, SystemClock())
    if engine.dialect.name in {"mysql", "mariadb"}:
        _roll_back_what_is_open(engine)
        take_messages(engine)
    return engine


def _mysql(statement_s: int) -> dict[str, Any]:
    limits = {
        "connect_timeout": CONNECT_S,
        "read_timeout": statement_s,
        "write_timeout": statement_s,
        "init_command": "SET time_zone = '+00:00', innodb_lock_wait_timeout = 10",
    }
    # Several statements in one message: see `raingauge.storage.message`. The driver writes every value itself.
    limits["client_flag"] = MYSQL_FLAGS
    # The pool would send a ROLLBACK after every transaction.
    return {"connect_args": limits, "pool_reset_on_return": None}


def _postgresql(statement_s: int) -> dict[str, Any]:
    limits = {
        "connect_timeout": CONNECT_S,
        "options": f"-c statement_timeout={statement_s}s -c lock_timeout=10s",
        # The driver waits for an answer without end; these have TCP give up a peer that is gone.
        "tcp_user_timeout": statement_s * 1000,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 5,
    }
    return {"connect_args": limits}


def _roll_back_what_is_open(engine: Engine) -> None:
    """After a COMMIT that failed the transaction may still be open, and the next work would commit it."""

    @event.listens_for(engine, "reset")
    def roll_back(connection: Any, _record: Any, state: PoolResetState) -> None:
        if not state.terminate_only and connection.server_status & IN_TRANSACTION:
            connection.rollback()


def _ping_the_idle(engine: Engine, clock: Clock) -> None:
    """Look whether a connection still stands before it is used again, unless it was used a moment ago."""

    @event.listens_for(engine, "checkin")
    def note(_connection: Any, record: Any) -> None:
        record.info["idle_since"] = clock.monotonic()

    @event.listens_for(engine, "checkout")
    def look(connection: Any, record: Any, _proxy: Any) -> None:
        if clock.monotonic() - record.info.get("idle_since", clock.monotonic()) < IDLE_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error


def _sqlite(target: URL, pool_size: int, statement_s: int) -> Engine:
    if target.database in {None, "", ":memory:"}:
        raise SettingsError("database.url: SQLite needs a file, for example sqlite:///var/raingauge.db")
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
