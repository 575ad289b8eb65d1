"""Heartbeats: whether anybody works for an account."""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, bindparam, delete, exists

from raingauge.storage.gate import GATE, Gate
from raingauge.storage.message import Answer, Statement
from raingauge.storage.models import ConsumerBeat, QuotaGate, UtcDateTime
from raingauge.storage.rows import upsert

BEAT_S: Final = 5.0
ALIVE_FOR: Final = timedelta(seconds=20)
FORGOTTEN_AFTER: Final = timedelta(days=1)

_HEARD_OF: Final = exists().where(
    ConsumerBeat.account == QuotaGate.account, ConsumerBeat.seen_at >= bindparam("since", type_=UtcDateTime)
)
# Built once: it runs for every question that a client asks about an open collection.
_ATTENDED: Final = GATE.add_columns(_HEARD_OF)


def beat(connection: Connection, now: datetime, consumer: str, account: str) -> None:
    """Say that this consumer is alive, and forget those long dead."""
    columns, row = ("id", "account", "started_at", "seen_at"), (consumer, account, now, now)
    upsert(connection, ConsumerBeat, columns, [row], ("seen_at",))
    connection.execute(delete(ConsumerBeat).where(ConsumerBeat.seen_at < now - FORGOTTEN_AFTER))


def leave(connection: Connection, consumer: str) -> None:
    """Say that this consumer stops."""
    connection.execute(delete(ConsumerBeat).where(ConsumerBeat.id == consumer))


def attending(now: datetime, account: str) -> Statement:
    """The statement that asks for the gate of an account, and whether any consumer of it has been heard of lately."""
    return _ATTENDED, {"account": account, "since": now - ALIVE_FOR}


def attended(answer: Answer) -> tuple[Gate | None, bool]:
    """The gate and that, by the answer to that statement; before any consumer made it: None."""
    if not answer.rows:
        return None, False
    gate, heard_of = answer.rows[0]
    return Gate(*gate), bool(heard_of)
