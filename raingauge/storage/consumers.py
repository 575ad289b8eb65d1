"""Heartbeats: which consumers are alive."""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, String, bindparam, delete, exists, select

from raingauge.storage.database import upsert
from raingauge.storage.models import ConsumerBeat, UtcDateTime

BEAT_S: Final = 5.0
ALIVE_FOR: Final = timedelta(seconds=20)
FORGOTTEN_AFTER: Final = timedelta(days=1)

# Built once: it runs for every question that a client asks.
_HEARD_OF: Final = select(
    exists().where(
        ConsumerBeat.account == bindparam("account", type_=String),
        ConsumerBeat.seen_at >= bindparam("since", type_=UtcDateTime),
    )
)


def beat(connection: Connection, now: datetime, consumer: str, account: str) -> None:
    """Say that this consumer is alive, and forget those long dead."""
    columns, row = ("id", "account", "started_at", "seen_at"), (consumer, account, now, now)
    upsert(connection, ConsumerBeat, columns, [row], ("seen_at",))
    connection.execute(delete(ConsumerBeat).where(ConsumerBeat.seen_at < now - FORGOTTEN_AFTER))


def leave(connection: Connection, consumer: str) -> None:
    """Say that this consumer stops."""
    connection.execute(delete(ConsumerBeat).where(ConsumerBeat.id == consumer))


def any_alive(connection: Connection, now: datetime, account: str) -> bool:
    """Whether any consumer of that account has been heard of lately."""
    return bool(connection.scalar(_HEARD_OF, {"account": account, "since": now - ALIVE_FOR}))
