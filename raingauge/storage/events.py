"""Events: what users are notified of. Each is stored in the transaction that causes it, and published from here.

An event is due while it has a `publish_at` that has passed; so a round of the relay reads what is due by an index. It
is published again from time to time until it is processed. This module knows neither Kafka nor who is notified.
"""

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, bindparam, insert, select, update

from raingauge.model import EventState, EventType
from raingauge.storage.models import Event

NOT_PROCESSED: Final = "NotProcessed"
PROCESSED: Final = "Processed"
USER_LENGTH: Final = 200
DESCRIPTION_LENGTH: Final = 2000

_STATE: Final = select(*(getattr(Event, field.name) for field in fields(EventState)))
_ONE: Final = _STATE.where(Event.event_id == bindparam("id"))
_PAGE: Final = _STATE.where(Event.number > bindparam("after")).order_by(Event.number).limit(bindparam("most"))
_DUE: Final = (
    _STATE.where(Event.publish_at <= bindparam("now"))
    .order_by(Event.publish_at)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_PUBLISH_AT: Final = (
    update(Event)
    .where(Event.number.in_(bindparam("numbers", expanding=True)), Event.publish_at.is_not(None))
    .values(publish_at=bindparam("moment"))
)


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event that is to be stored."""

    type: EventType
    user_id: str
    description: str
    event_id: str | None = None
    """Only for what may happen again in a retry: a second one with this id is not stored. None: a random one."""


def record(connection: Connection, now: datetime, events: Sequence[NewEvent]) -> list[str]:
    """Store events, due at once; their ids."""
    rows = [_row(now, event) for event in events]
    given = [event.event_id for event in events if event.event_id is not None]
    known = set(connection.scalars(select(Event.event_id).where(Event.event_id.in_(given)))) if given else set()
    if new := [row for row in rows if row["event_id"] not in known]:
        connection.execute(insert(Event), new)
    return [row["event_id"] for row in rows]


def _row(now: datetime, event: NewEvent) -> dict[str, Any]:
    return asdict(event) | {
        "event_id": event.event_id or str(uuid.uuid4()),
        "user_id": event.user_id[:USER_LENGTH],
        "description": event.description[:DESCRIPTION_LENGTH],
        "status": NOT_PROCESSED,
        "created_at": now,
        "publish_at": now,
    }


def find(connection: Connection, event_id: str) -> EventState | None:
    """The event, or None."""
    row = connection.execute(_ONE, {"id": event_id}).one_or_none()
    return None if row is None else EventState(*row)


def page(connection: Connection, after: int, limit: int) -> list[EventState]:
    """Up to `limit` events whose number is above `after`, in their order."""
    return [EventState(*row) for row in connection.execute(_PAGE, {"after": after, "most": limit})]


def change(connection: Connection, now: datetime, event_id: str, changes: dict[str, Any]) -> EventState | None:
    """Set these of `user_id`, `description` and `status`; the event afterwards, or None if there is none.

    One that is not processed any more is published no more; one that is to be processed again is due.
    """
    values = dict(changes)
    if "status" in changes:
        values["publish_at"] = None if changes["status"] == PROCESSED else now
    if values:
        connection.execute(update(Event).where(Event.event_id == event_id).values(values))
    return find(connection, event_id)


def lease(connection: Connection, now: datetime, until: datetime, most: int) -> list[EventState]:
    """Up to `most` events that are due; no other relay finds them due before `until`."""
    due = [EventState(*row) for row in connection.execute(_DUE, {"now": now, "most": most})]
    publish_again(connection, due, until)
    return due


def publish_again(connection: Connection, events: Sequence[EventState], moment: datetime) -> None:
    """Have those of these events that are still not processed published again at that moment."""
    if events:
        connection.execute(_PUBLISH_AT, {"numbers": [event.number for event in events], "moment": moment})
