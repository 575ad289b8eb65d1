"""What an error of a driver means: a refusal, an outage, a deadlock, a missing schema, and its cause in words.

It must not run statements.
"""

import re
import sqlite3
import ssl
from typing import Final

from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, OperationalError

DEADLOCKS: Final = frozenset[object]({1205, 1213, "40P01", "40001", "55P03"})
"""MySQL: lock wait timeout, deadlock. PostgreSQL: deadlock, serialization failure, lock timeout."""
DUPLICATES: Final = frozenset[object]({1062, "23505", sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY})
READ_ONLY: Final = frozenset[object]({1290, 1792, 1836, "25006"})
"""A primary that became a replica."""
REFUSED: Final = frozenset[object](
    {
        *(1044, 1045, 1049, 1130, 1142, 1524, 1698, 1862, 2026, 3118, 3159, 4151),
        *("28000", "28P01", "3D000", "42501"),
    }
)
"""No access for this user, password or host, no such database, no TLS, or none without TLS; MySQL: also a locked user
(3118; MariaDB 4151), an expired password, and a user of a login method that the server has no longer."""
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
    r"|certificate verify failed|does not match host name|does not support SSL|invalid sslmode|valid client certificate"
    r"|(root certificate|certificate|private key) file |SSL error: .* alert (?!close)"
)
"""While connecting the driver has no code, only the server's words."""
FULL: Final = frozenset[object]({1021, 1114, "53100", sqlite3.SQLITE_FULL})
"""No room on the disk."""
UNSUPPORTED: Final = frozenset[object]({1193, 1227, 1305, "0A000", "42501", "42883"})
"""MySQL: unknown variable, no privilege, unknown function. PostgreSQL: feature switched off, no privilege, unknown."""
NOT_THERE: Final = frozenset[object]({1146, 1054, "42P01", "42703"})
"""A missing table or column."""
NOT_THERE_IN_SQLITE: Final = ("no such table", "no such column", "has no column named")


def place_of(url: URL) -> str:
    """Where a database is: a file, or host, port and name. Nothing else of its URL, which may contain secrets."""
    port = f":{url.port}" if url.port else ""
    return f"{url.host}{port}/{url.database}" if url.host else str(url.database)


def cause(error: DBAPIError) -> str:
    """What the driver says, on one line. Drivers name user, host and database, never the password."""
    words = " ".join(str(error.orig).split())[:300]
    unexplained = words.endswith("SSL error: certificate verify failed")  # as libpq says it
    return f"{words} (it has expired, or sslrootcert does not vouch for it)" if unexplained else words


def is_refusal(error: DBAPIError) -> bool:
    """Whether the database does not let this program in, or is none: waiting does not help."""
    if isinstance(error.orig, sqlite3.Error):
        return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in REFUSED_BY_SQLITE
    if _fails_tls(getattr(error.orig, "original_exception", None)):
        return True
    codes = _codes(error) - {None}
    return not REFUSED.isdisjoint(codes) or (not codes and REFUSED_BY_POSTGRESQL.search(str(error.orig)) is not None)


def _fails_tls(error: Exception | None) -> bool:
    """Whether one side does not accept the other's certificate. PyMySQL has what went wrong below its own error."""
    alert = isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or "")
    return alert or isinstance(error, ssl.SSLCertVerificationError)


def may_run_again(error: DBAPIError) -> bool:
    """Whether a deadlock, a conflict or a lock timeout ended this transaction, so that it can run again."""
    return not DEADLOCKS.isdisjoint(_codes(error))


def is_duplicate(error: DBAPIError) -> bool:
    """Whether a row with this key exists."""
    return not DUPLICATES.isdisjoint(_codes(error))


def is_read_only(error: DBAPIError) -> bool:
    """Whether the server refuses every write."""
    return not READ_ONLY.isdisjoint(_codes(error))


def is_full(error: DBAPIError) -> bool:
    """Whether the database's disk is full."""
    return not FULL.isdisjoint(_codes(error))


def is_unsupported(error: DBAPIError) -> bool:
    """Whether this kind of server has no such variable or function, or does not show it to this user."""
    return not UNSUPPORTED.isdisjoint(_codes(error))


def lacks_schema(error: DBAPIError) -> bool:
    """Whether the schema was never created, or is older than this program."""
    if isinstance(error.orig, sqlite3.Error):
        return any(words in str(error.orig) for words in NOT_THERE_IN_SQLITE)
    return not NOT_THERE.isdisjoint(_codes(error))


def is_outage(error: DBAPIError) -> bool:
    """Whether the database is away or too busy, as opposed to a mistake in a statement."""
    if getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
        return False  # SQLite reports a mistake in a statement as an OperationalError, too
    return error.connection_invalidated or isinstance(error, OperationalError) or may_run_again(error)


def _codes(error: DBAPIError) -> set[object]:
    """The driver's codes of the error: a number, five characters, or both."""
    first = error.orig.args[0] if error.orig is not None and error.orig.args else None
    own = (getattr(error.orig, name, None) for name in ("sqlstate", "sqlite_errorcode"))
    return {*own, first if isinstance(first, int) else None}
