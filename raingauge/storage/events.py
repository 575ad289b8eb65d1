"""Events: what users are notified of. Each is stored in the transaction that causes it; the relay publishes it.

An event is due while it has a `publish_at` that has passed; so a round of the relay reads what is due by an index. It
is published again from time to time until it is processed. Its deliveries to webhooks are rows of their own, stored
with it: one for each webhook that has subscribed to its type by then. This module knows neither Kafka nor HTTP.

An event that was read in an earlier transaction is found by its id. Its number may be another event's by now: a
database that fails over to a replica without the last transactions gives their numbers again.
"""

import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, insert, select, true, update

from raingauge.database.upsert import upsert
from raingauge.model import DeliveryState, DeliveryStatus, EventState, EventType
from raingauge.storage.models import Event, Webhook, WebhookDelivery

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
_LEASE: Final = (
    update(Event).where(Event.number.in_(bindparam("numbers", expanding=True))).values(publish_at=bindparam("moment"))
)
_RESCHEDULE: Final = (
    update(Event)
    .where(Event.number.in_(bindparam("numbers", expanding=True)), Event.publish_at == bindparam("leased_until"))
    .values(publish_at=bindparam("moment"))
)
_NUMBERED: Final = _STATE.where(Event.number.in_(bindparam("numbers", expanding=True)))
_NUMBER_AND_TYPE: Final = select(Event.number, Event.type).where(Event.event_id.in_(bindparam("ids", expanding=True)))
_SUBSCRIPTIONS: Final = select(Webhook.id, Webhook.types)
_DUE_DELIVERIES: Final = (
    select(WebhookDelivery.event_number, WebhookDelivery.attempts)
    .where(WebhookDelivery.webhook_id == bindparam("webhook_id"), WebhookDelivery.due_at <= bindparam("now"))
    .order_by(WebhookDelivery.due_at, WebhookDelivery.event_number)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_SHOWN: Final = ("status", "attempts", "last_status", "last_error", "due_at")
_DELIVERIES: Final = (
    select(Webhook.url, *(getattr(WebhookDelivery, name) for name in _SHOWN))
    .join(Webhook, Webhook.id == WebhookDelivery.webhook_id)
    .where(WebhookDelivery.event_number == bindparam("number"))
    .order_by(Webhook.url, Webhook.id)
)


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event that is to be stored."""

    type: EventType
    user_id: str
    description: str
    event_id: str | None = None
    """Only for what may happen again in a retry: a second one with this id is not stored. None: a random one."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A webhook and what it receives."""

    webhook_id: str
    url: str
    """To be shown: without user, password and query."""
    types: Sequence[EventType]


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """An event that is to be delivered to a webhook now."""

    event: EventState
    attempts: int
    """Those before this one whose outcome is known."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt to deliver makes of a delivery."""

    status: DeliveryStatus
    last_status: int | None
    last_error: str | None
    due_at: datetime | None


def record(connection: Connection, now: datetime, events: Sequence[NewEvent]) -> list[str]:
    """Store events, due at once, and their deliveries to webhooks; return the events' ids."""
    rows = [_row(now, event) for event in events]
    given = [event.event_id for event in events if event.event_id is not None]
    known = set(connection.scalars(select(Event.event_id).where(Event.event_id.in_(given)))) if given else set()
    if new := [row for row in rows if row["event_id"] not in known]:
        connection.execute(insert(Event), new)
        _add_deliveries(connection, now, [row["event_id"] for row in new])
    return [row["event_id"] for row in rows]


def _row(now: datetime, event: NewEvent) -> dict[str, Any]:
    return asdict(event) | {
        "event_id": event.event_id or str(uuid.uuid4()),
        "user_id": event.user_id[:USER_LENGTH],
        "description": event.description[:DESCRIPTION_LENGTH],
        "status": NOT_PROCESSED,
        "revision": 0,
        "created_at": now,
        "publish_at": now,
    }


def _add_deliveries(connection: Connection, now: datetime, event_ids: Sequence[str]) -> None:
    """Store a delivery of each of these new events to each webhook that has subscribed to its type."""
    subscribed = [(webhook_id, set(json.loads(types))) for webhook_id, types in connection.execute(_SUBSCRIPTIONS)]
    if not any(types for _, types in subscribed):
        return
    new = [
        {"event_number": number, "webhook_id": webhook_id, "status": "waiting", "due_at": now}
        for number, event_type in connection.execute(_NUMBER_AND_TYPE, {"ids": event_ids})
        for webhook_id, types in subscribed
        if event_type in types
    ]
    if new:
        connection.execute(insert(WebhookDelivery), new)


def find(connection: Connection, event_id: str) -> EventState | None:
    """The event, or None."""
    row = connection.execute(_ONE, {"id": event_id}).one_or_none()
    return None if row is None else EventState(*row)


def page(connection: Connection, after: int, limit: int) -> list[EventState]:
    """Up to `limit` events whose number is above `after`, in their order."""
    return [EventState(*row) for row in connection.execute(_PAGE, {"after": after, "most": limit})]


def change(connection: Connection, now: datetime, event_id: str, changes: dict[str, Any]) -> EventState | None:
    """Set these of `user_id`, `description` and `status`; return the event afterwards, or None if there is none.

    Setting `Processed` ends its publication; setting `NotProcessed` makes it due now.
    """
    values = dict(changes)
    if "status" in changes:
        values["publish_at"] = None if changes["status"] == PROCESSED else now
    if values:
        values["revision"] = Event.revision + 1
        connection.execute(update(Event).where(Event.event_id == event_id).values(values))
    return find(connection, event_id)


def mark_processed(connection: Connection, event: EventState) -> None:
    """Set `Processed`, unless the event was changed since it was read: then it is notified of once more."""
    as_read = (Event.event_id == event.event_id, Event.revision == event.revision)
    connection.execute(update(Event).where(*as_read).values(status=PROCESSED, publish_at=None))


def lease(connection: Connection, now: datetime, until: datetime, most: int) -> list[EventState]:
    """Up to `most` events that are due; no other relay finds them due before `until`."""
    due = [EventState(*row) for row in connection.execute(_DUE, {"now": now, "most": most})]
    if due:
        connection.execute(_LEASE, {"numbers": [event.number for event in due], "moment": until})
    return due


def reschedule(connection: Connection, events: Sequence[EventState], leased_until: datetime, moment: datetime) -> None:
    """Set when leased events are published next, unless they were processed or made due since."""
    numbers = [event.number for event in events]
    connection.execute(_RESCHEDULE, {"numbers": numbers, "leased_until": leased_until, "moment": moment})


def postpone(connection: Connection, event: EventState, moment: datetime) -> None:
    """Have an event that cannot be processed yet published again at that moment."""
    this = (Event.event_id == event.event_id, Event.publish_at.is_not(None))
    connection.execute(update(Event).where(*this).values(publish_at=moment))


def forget_publications(connection: Connection, now: datetime) -> None:
    """Have every event that is not processed published again: the in-process hand-off starts empty."""
    connection.execute(update(Event).where(Event.publish_at.is_not(None)).values(publish_at=now))


def count_due(connection: Connection, now: datetime, most: int) -> int:
    """Events that are due; `most` if there are more."""
    due = select(Event.number).where(Event.publish_at <= now).order_by(Event.publish_at).limit(most).subquery()
    return connection.scalar(select(func.count()).select_from(due)) or 0


def subscribe(connection: Connection, subscriptions: Sequence[Subscription]) -> None:
    """Have events that are stored from now on delivered to these webhooks, and to no others.

    Deliveries that are waiting stay, also those to a webhook that is not among them.
    """
    rows = [{"id": one.webhook_id, "url": one.url, "types": json.dumps(one.types)} for one in subscriptions]
    if rows:
        upsert(connection, Webhook, sorted(rows, key=lambda row: row["id"]), changed=("url", "types"))
    others = Webhook.id.not_in([row["id"] for row in rows])
    connection.execute(update(Webhook).where(others).values(types="[]"))


def lease_deliveries(
    connection: Connection, webhook_id: str, now: datetime, until: datetime, most: int
) -> list[DueDelivery]:
    """Up to `most` deliveries to this webhook that are due; nobody else finds them due before `until`."""
    due = connection.execute(_DUE_DELIVERIES, {"webhook_id": webhook_id, "now": now, "most": most}).all()
    if not due:
        return []
    numbers = [number for number, _ in due]
    connection.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.webhook_id == webhook_id, WebhookDelivery.event_number.in_(numbers))
        .values(due_at=until)
    )
    found = {row.number: EventState(*row) for row in connection.execute(_NUMBERED, {"numbers": numbers})}
    return [DueDelivery(found[number], attempts) for number, attempts in due]


def end_attempt(connection: Connection, webhook_id: str, due: DueDelivery, outcome: Outcome) -> None:
    """Store the outcome of an attempt, unless another one has ended since the lease; a delivery counts all the same."""
    number = select(Event.number).where(Event.event_id == due.event.event_id).scalar_subquery()
    connection.execute(
        update(WebhookDelivery)
        .where(
            WebhookDelivery.webhook_id == webhook_id,
            WebhookDelivery.event_number == number,
            WebhookDelivery.status == "waiting",
            true() if outcome.status == "delivered" else WebhookDelivery.attempts == due.attempts,
        )
        .values(attempts=WebhookDelivery.attempts + 1, **asdict(outcome))
    )


def deliveries(connection: Connection, event_id: str) -> list[DeliveryState] | None:
    """The deliveries of an event to webhooks, in the order of their URLs; None: there is no such event."""
    event = find(connection, event_id)
    if event is None:
        return None
    return [DeliveryState(*row) for row in connection.execute(_DELIVERIES, {"number": event.number})]
