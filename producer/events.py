"""The use cases of events: reporting, finding, listing and changing them. It speaks no HTTP."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection

from raingauge.database.transactions import Transactions
from raingauge.model import DeliveryState, EventState
from raingauge.storage import events
from raingauge.storage.events import NewEvent

DEADLINE_S: Final = 0.7
PAGE: Final = 1000
"""Events of a page, if all are listed."""


class Events:
    """Events in the database; `on_due` is called when one is to be published.

    Raises (all methods): DatabaseUnavailable, in time.
    """

    def __init__(self, transactions: Transactions, on_due: Callable[[], None]) -> None:
        self._transactions = transactions
        self._on_due = on_due

    async def report(self, user_id: str, description: str) -> EventState:
        """Store a client's event."""

        def work(connection: Connection) -> EventState | None:
            now = self._transactions.now(connection)
            (event_id,) = events.record(connection, now, [NewEvent("message", user_id, description)])
            return events.find(connection, event_id)

        event = await self._transactions.write(work, DEADLINE_S)
        if event is None:
            raise LookupError("an event that was stored is gone")
        self._on_due()
        return event

    async def find(self, event_id: str) -> EventState | None:
        """The event, or None."""
        return await self._transactions.read(partial(events.find, event_id=event_id), DEADLINE_S)

    async def deliveries(self, event_id: str) -> list[DeliveryState] | None:
        """The event's deliveries to webhooks; None: there is no such event."""
        return await self._transactions.read(partial(events.deliveries, event_id=event_id), DEADLINE_S)

    async def page(self, after: int, limit: int) -> list[EventState]:
        """Up to `limit` events whose number is above `after`, in their order."""
        return await self._transactions.read(partial(events.page, after=after, limit=limit), DEADLINE_S)

    async def change(self, event_id: str, changes: Mapping[str, Any]) -> EventState | None:
        """Set these of `user_id`, `description` and `status`; return the event afterwards, or None if there is none."""
        event = await self._transactions.write(
            lambda c: events.change(c, self._transactions.now(c), event_id, dict(changes)), DEADLINE_S
        )
        self._on_due()
        return event
