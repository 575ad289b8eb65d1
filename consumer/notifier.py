"""Notifies users of events: prints one line for each, and records that the event is processed.

A finished collection is exported first: if that fails, its event stays `NotProcessed` and is tried again.

An event is notified of at least once: a crash before it is recorded repeats it. The database has every event, so a
message that cannot be read is dropped: its event is published again.
"""

import json
import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Final

from sqlalchemy import Connection

from consumer.export import Export
from raingauge.database.transactions import Transactions
from raingauge.errors import DatabaseUnavailable
from raingauge.messaging.port import Delivery, Subscription
from raingauge.model import EventState
from raingauge.storage import events
from raingauge.storage.events import PROCESSED

log = logging.getLogger("raingauge.notifier")

EXPORTED: Final = frozenset({"collection.finished", "collection.finished_with_failures"})
EXPORT_AGAIN_AFTER: Final = timedelta(minutes=1)
"""Longer than the relay's lease, so that the relay finds the event postponed and leaves it so."""
UNREADABLE: Final = (ValueError, TypeError, KeyError, RecursionError)


def print_line(line: str) -> None:
    """The notification: one line on standard output."""
    print(line, flush=True)  # noqa: T201


class Notifier:
    """Receives the events of one subscription."""

    def __init__(
        self,
        subscription: Subscription,
        transactions: Transactions,
        notify: Callable[[str], None] = print_line,
        export: Export | None = None,
    ) -> None:
        self._subscription = subscription
        self._transactions = transactions
        self._notify = notify
        self._export = export

    async def run(self) -> None:
        """Notify until cancelled. What is not processed by then is delivered again."""
        while True:
            for delivery in await self._subscription.receive():
                try:
                    await self._take(delivery)
                except Exception:
                    log.exception("notifier.unexpected")  # its event is published again later
                self._subscription.acknowledge(delivery)

    async def _take(self, delivery: Delivery) -> None:
        try:
            event_id = str(json.loads(delivery.value or b"")["event_id"])
        except UNREADABLE as error:
            where = {"partition": delivery.partition, "offset": delivery.offset}
            log.warning("notifier.unreadable", extra={**where, "error": type(error).__name__})
            return
        event = await self._transactions.persist(partial(events.find, event_id=event_id))
        if event is None or event.status == PROCESSED:
            return
        if event.type in EXPORTED and self._export is not None and not await self._exported(self._export, event):
            return
        await self._send(event)

    async def _exported(self, export: Export, event: EventState) -> bool:
        """Write the file of the collection whose id the event's user is; otherwise have the event published again."""
        try:
            await self._transactions.run_blocking(partial(export.write, event.user_id))
        except (OSError, DatabaseUnavailable) as error:
            log.error("export.failed", extra={"collection_id": event.user_id, "error": str(error)})  # noqa: TRY400
            await self._transactions.persist(lambda connection: self._again_soon(connection, event))
            return False
        return True

    def _again_soon(self, connection: Connection, event: EventState) -> None:
        events.postpone(connection, event, self._transactions.now(connection) + EXPORT_AGAIN_AFTER)

    async def _send(self, event: EventState) -> None:
        """Notify first: a crash before the record repeats the notification, one after it would lose it."""
        line = f"Event {event.event_id} has been sent to {event.user_id}: {event.description}"
        shown = "".join(letter if letter.isprintable() else " " for letter in line)
        await self._transactions.run_blocking(lambda: self._notify(shown))  # whoever reads it may be slow
        await self._transactions.persist(partial(events.mark_processed, event=event))
