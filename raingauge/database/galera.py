"""Sessions on a node of a Galera cluster: each transaction begins with all that was committed anywhere before.

A node that takes over from the writer may not have applied yet what it received. Nothing is set on other servers.
"""

from typing import Any

from sqlalchemy import Engine, event

EVERY_STATEMENT = 7
"""Reads, updates and inserts wait; within a transaction only its first statement does."""


def see_what_is_committed(engine: Engine) -> None:
    """Have every connection to a Galera node wait for what the cluster has committed."""

    @event.listens_for(engine, "connect")
    def wait(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SHOW VARIABLES LIKE 'wsrep_on'")
            if ("wsrep_on", "ON") in cursor.fetchall():
                cursor.execute(f"SET SESSION wsrep_sync_wait = {EVERY_STATEMENT}")
