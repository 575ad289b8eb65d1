"""From an event's row to the notification: relay, hand-off and notifier on a database."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from consumer.notifier import Notifier
from producer.relays.events import MAX_AT_ONCE, EventRelay
from raingauge.blocking import inline
from raingauge.database import Database
from raingauge.database.transactions import Transactions
from raingauge.errors import HandoffUnavailable
from raingauge.messaging.inprocess import InProcessBroker
from raingauge.messaging.port import Delivery, Headers, Publisher
from raingauge.model import EventState
from raingauge.settings import RelaySettings
from raingauge.storage import events
from raingauge.storage.events import NewEvent
from tests.contract.messaging_helpers import CLOCK, eventually
from tests.support.handoff import FakeHandoff
from tests.support.transactions import FailingAtFirst

QUICK = RelaySettings(every_s=0.01, republish_after_s=3600)


def transactions_of(database: Database) -> Transactions:
    return Transactions(database, inline, CLOCK)


def record(database: Database, *descriptions: str) -> list[str]:
    new = [NewEvent("message", "1234", description) for description in descriptions]
    return database.write(lambda connection: events.record(connection, database.now(connection), new))


def listed(database: Database) -> list[EventState]:
    return database.read(lambda connection: events.page(connection, 0, 1000))


def all_processed(database: Database) -> bool:
    return all(event.status == "Processed" for event in listed(database))


async def run_until(
    condition: Callable[[], bool], database: Database, publisher: Publisher, transactions: Transactions | None = None
) -> None:
    """The event relay at work until the condition holds."""
    transactions = transactions or transactions_of(database)
    relay = asyncio.create_task(EventRelay(transactions, publisher, QUICK, "events").run())
    try:
        await eventually(condition)
    finally:
        relay.cancel()


async def notify_all(database: Database) -> list[str]:
    """What is printed until all events are processed."""
    lines: list[str] = []
    broker = InProcessBroker("events", 10)
    async with broker.subscription() as subscription:
        notifier = asyncio.create_task(Notifier(subscription, transactions_of(database), lines.append).run())
        await run_until(lambda: all_processed(database), database, broker)
        notifier.cancel()
    return lines


async def test_each_event_is_notified_of_and_then_processed(sqlite: Database) -> None:
    ids = record(sqlite, *(f"event {number}" for number in range(MAX_AT_ONCE + 5)))
    lines = await notify_all(sqlite)
    assert lines == [f"Event {one} has been sent to 1234: event {number}" for number, one in enumerate(ids)]


async def test_a_notification_is_one_line(sqlite: Database) -> None:
    record(sqlite, "rain\nEvent 1 has been sent to root: all\x1b[2J")
    (line,) = await notify_all(sqlite)
    assert line.endswith("rain Event 1 has been sent to root: all [2J")


async def test_what_could_not_be_published_is_due_again_after_its_lease(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.relays.events.LEASE", timedelta(milliseconds=20))

    class Fails:
        tries = 0

        async def publish(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
            self.tries += 1
            raise HandoffUnavailable("for the test")

    record(sqlite, "rain")
    fails = Fails()
    await run_until(lambda: fails.tries > 1, sqlite, fails)
    assert not all_processed(sqlite)


async def test_the_relay_goes_on_after_errors(sqlite: Database) -> None:
    record(sqlite, "rain")
    handoff = FakeHandoff()
    await run_until(lambda: len(handoff.buried) == 1, sqlite, handoff, FailingAtFirst(sqlite))


async def notified_by(database: Database, value: bytes | None) -> list[str]:
    """What is printed for one message, which is acknowledged."""
    lines: list[str] = []
    handoff = FakeHandoff([Delivery("events", 0, 7, b"key", value)])
    task = asyncio.create_task(Notifier(handoff, transactions_of(database), lines.append).run())
    await eventually(lambda: handoff.done == [("acknowledged", 7)])
    task.cancel()
    return lines


@pytest.mark.parametrize("value", [None, b"{", b"[]", b'{"event_id":"not here"}', b"[" * 100_000])
async def test_a_message_that_names_no_event_is_dropped(sqlite: Database, value: bytes | None) -> None:
    assert await notified_by(sqlite, value) == []


async def test_an_event_that_is_processed_is_not_notified_of_again(sqlite: Database) -> None:
    record(sqlite, "rain")
    assert len(await notify_all(sqlite)) == 1
    (event,) = listed(sqlite)
    assert await notified_by(sqlite, f'{{"event_id":"{event.event_id}"}}'.encode()) == []
