"""Events in the database: stored with their cause, due until they are processed."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import update

from raingauge.database import Database
from raingauge.model import EventState
from raingauge.storage import events
from raingauge.storage.events import NewEvent
from raingauge.storage.models import Event, WebhookDelivery
from tests.contract.storage_support import NOW, SECOND, at_once, rows
from tests.contract.test_storage_webhooks import subscribe

LEASE = timedelta(seconds=30)
OTHER_ID = "6f9d5b0e-2d0b-4f4e-9d53-0d4a7c1c2b11"


def record(database: Database, *new: NewEvent, now: datetime = NOW) -> list[str]:
    return database.write(lambda connection: events.record(connection, now, new))


def message(text: str = "hello", event_id: str | None = None) -> NewEvent:
    return NewEvent("message", "1234", text, event_id)


def lease(database: Database, now: datetime, most: int = 10) -> list[EventState]:
    return database.write(lambda connection: events.lease(connection, now, now + LEASE, most))


def change(database: Database, event_id: str, **changes: str) -> EventState | None:
    return database.write(lambda connection: events.change(connection, NOW, event_id, changes))


def listed(database: Database, after: int = 0, limit: int = 10) -> list[EventState]:
    return database.read(lambda connection: events.page(connection, after, limit))


def test_an_event_with_an_id_of_its_own_is_stored_once_and_so_is_its_delivery(database: Database) -> None:
    subscribe(database, a=["message"])
    first, second = (record(database, message(event_id=OTHER_ID)) for _ in range(2))
    assert first == second
    assert (len(listed(database)), len(rows(database, WebhookDelivery))) == (1, 1)


def test_pages_follow_the_order_of_events(database: Database) -> None:
    ids = record(database, *(message(str(number)) for number in range(5)))
    first = listed(database, limit=3)
    rest = listed(database, after=first[-1].number, limit=3)
    assert [event.event_id for event in first + rest] == ids


def test_what_is_leased_is_due_again_when_the_lease_expires(database: Database) -> None:
    (event_id,) = record(database, message())
    assert [event.event_id for event in lease(database, NOW)] == [event_id]
    assert lease(database, NOW + LEASE - SECOND) == []
    assert [event.event_id for event in lease(database, NOW + LEASE)] == [event_id]


def test_two_relays_lease_different_events(database: Database) -> None:
    record(database, *(message(str(number)) for number in range(40)))
    leased = at_once([lambda: lease(database, NOW, most=10)] * 4)
    numbers = [event.number for one in leased for event in one]
    assert len(numbers) == len(set(numbers))


def test_a_processed_event_is_due_no_more_until_it_is_to_be_processed_again(database: Database) -> None:
    (event_id,) = record(database, message())
    leased = lease(database, NOW)
    change(database, event_id, status="Processed")
    database.write(lambda connection: events.reschedule(connection, leased, NOW + LEASE, NOW))
    assert lease(database, NOW + LEASE) == []
    changed = change(database, event_id, status="NotProcessed", description="once more")
    assert changed is not None
    assert changed.description == "once more"
    assert [event.event_id for event in lease(database, NOW)] == [event_id]


@pytest.mark.parametrize("step", ["publication", "processing"])
def test_an_event_that_is_to_be_processed_again_stays_due_whatever_is_under_way(database: Database, step: str) -> None:
    (event_id,) = record(database, message())
    (leased,) = lease(database, NOW)
    change(database, event_id, status="NotProcessed")
    if step == "publication":
        database.write(lambda connection: events.reschedule(connection, [leased], NOW + LEASE, NOW + 100 * LEASE))
    else:
        database.write(lambda connection: events.mark_processed(connection, leased))
    assert [event.event_id for event in lease(database, NOW)] == [event_id]


def test_what_is_read_of_an_event_changes_no_other_that_a_replica_has_given_its_number(database: Database) -> None:
    record(database, message())
    (as_read,) = lease(database, NOW)
    database.write(lambda connection: connection.execute(update(Event).values(event_id=OTHER_ID)))
    database.write(lambda connection: events.mark_processed(connection, as_read))
    database.write(lambda connection: events.postpone(connection, as_read, NOW + 100 * LEASE))
    assert [event.event_id for event in lease(database, NOW + LEASE)] == [OTHER_ID]


def test_a_published_event_is_due_again_when_it_was_rescheduled_to(database: Database) -> None:
    record(database, message())
    leased = lease(database, NOW)
    database.write(lambda connection: events.reschedule(connection, leased, NOW + LEASE, NOW + 100 * LEASE))
    assert database.read(lambda connection: events.count_due(connection, NOW + 99 * LEASE, 10)) == 0
    assert database.read(lambda connection: events.count_due(connection, NOW + 100 * LEASE, 10)) == 1


def test_what_is_not_processed_is_published_again_by_a_new_hand_off(database: Database) -> None:
    first, second = record(database, message(), message())
    lease(database, NOW)
    change(database, first, status="Processed")
    database.write(lambda connection: events.forget_publications(connection, NOW))
    assert [event.event_id for event in lease(database, NOW)] == [second]
