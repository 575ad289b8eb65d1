"""Which server a transaction runs on: an SQL expression for each dialect, read beside other columns.

A promoted standby, another node or a restored copy gives another identity. It is not cached per connection: behind a
pooler the server changes and the connection stays. Whoever compares identities decides what a change means.
"""

import functools
import logging
from collections.abc import Callable
from typing import Final

from sqlalchemy import ColumnElement, Connection, String, literal_column, select
from sqlalchemy.exc import DBAPIError

from raingauge.database.causes import cause, is_unsupported

log = logging.getLogger("raingauge.database")

Identity = ColumnElement[str | None]
FindIdentity = Callable[[Connection], Identity]

UNKNOWN: Final[Identity] = literal_column("NULL", String())

_EXPRESSIONS: Final = {
    # The cluster, and its timeline: a promoted standby keeps the one and raises the other. The timeline in
    # pg_control_checkpoint() is that of the last checkpoint, which a promotion writes only some time later.
    "postgresql": "(SELECT system_identifier FROM pg_control_system())"
    " || '/' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)",
    # MySQL makes it up for each data folder; MariaDB has nothing like it.
    "mysql": "@@server_uuid",
    "mariadb": "CONCAT(@@server_id, '@', @@hostname, ':', @@port)",
}
"""SQLite has none: a file that is copied back is the same file."""


@functools.cache
def _expression(kind: str) -> Identity:
    return literal_column(_EXPRESSIONS[kind], String()) if kind in _EXPRESSIONS else UNKNOWN


def server_identity(connection: Connection) -> Identity:
    """The expression for this kind of server; NULL where there is none, or where the server refuses to say.

    Raises:
        DBAPIError: the server is away.
    """
    # SQLAlchemy calls MariaDB "mysql" when the URL does.
    is_mariadb = getattr(connection.dialect, "is_mariadb", False)
    expression = _expression("mariadb" if is_mariadb else connection.dialect.name)
    if expression is UNKNOWN:
        return UNKNOWN
    try:
        with connection.begin_nested():
            connection.scalar(select(expression))
    except DBAPIError as error:
        if not is_unsupported(error):
            raise
        log.warning("database.identity_unknown", extra={"error": cause(error)})
        return UNKNOWN
    return expression
