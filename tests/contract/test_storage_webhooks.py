"""Deliveries of events to webhooks in the database: stored with their event, leased, and ended once."""

from datetime import timedelta

from sqlalchemy import update

from raingauge.database import Database
from raingauge.model import DeliveryState, EventType
from raingauge.storage import events
from raingauge.storage.events import DueDelivery, NewEvent, Outcome, Subscription
from raingauge.storage.models import Event, Webhook
from tests.contract.storage_support import NOW, SECOND, accept, at_once, cancel, rows

LEASE = timedelta(seconds=60)
A, B = "a" * 64, "b" * 64
OTHER_ID = "6f9d5b0e-2d0b-4f4e-9d53-0d4a7c1c2b11"
DELIVERED = Outcome("delivered", 204, None, None)


def subscribe(database: Database, **webhooks: list[EventType]) -> None:
    """Webhooks by a letter, with their types."""
    wanted = [Subscription(name * 64, f"https://{name}.example.org/é", types) for name, types in webhooks.items()]
    database.write(lambda connection: events.subscribe(connection, wanted))


def record(database: Database, *descriptions: str) -> list[str]:
    new = [NewEvent("message", "1234", description) for description in descriptions]
    return database.write(lambda connection: events.record(connection, NOW, new))


def lease(database: Database, webhook: str = A, after: timedelta = SECOND, most: int = 10) -> list[DueDelivery]:
    now = NOW + after
    return database.write(lambda connection: events.lease_deliveries(connection, webhook, now, now + LEASE, most))


def end(database: Database, due: DueDelivery, outcome: Outcome = DELIVERED, webhook: str = A) -> None:
    database.write(lambda connection: events.end_attempt(connection, webhook, due, outcome))


def deliveries(database: Database, event_id: str) -> list[DeliveryState]:
    return database.read(lambda connection: events.deliveries(connection, event_id)) or []


def test_an_event_is_due_at_each_webhook_that_wants_its_type_and_others_know_nothing_of_it(database: Database) -> None:
    subscribe(database, a=["message", "dead_letter"], b=["message"], c=["collection.cancelled"])
    ids = record(database, "rain", "sun")
    for webhook in (A, B):
        assert [due.event.event_id for due in lease(database, webhook)] == ids
    assert lease(database, "c" * 64) == []
    assert [one.webhook for one in deliveries(database, ids[0])] == [f"https://{x}.example.org/é" for x in "ab"]
    accept(database, "1", [1, 2, 3])
    cancel(database, "1")
    (due,) = lease(database, "c" * 64)
    assert due.event.type == "collection.cancelled"


def test_an_outcome_ends_no_delivery_of_another_event_that_a_replica_has_given_the_number(database: Database) -> None:
    subscribe(database, a=["message"])
    record(database, "rain")
    (due,) = lease(database)
    database.write(lambda connection: connection.execute(update(Event).values(event_id=OTHER_ID)))
    end(database, due)
    assert [one.status for one in deliveries(database, OTHER_ID)] == ["waiting"]


def test_a_removed_webhook_keeps_what_waits_and_gets_nothing_of_the_time_until_it_is_back(database: Database) -> None:
    subscribe(database, a=["message"], b=["message"])
    waiting = record(database, "waiting")
    subscribe(database, b=["message"])
    subscribe(database, b=["message"])
    (between,) = record(database, "between")
    assert len(deliveries(database, waiting[0])) == 2
    assert [one.webhook[8] for one in deliveries(database, between)] == ["b"]
    subscribe(database)
    assert {row.types for row in rows(database, Webhook)} == {"[]"}
    subscribe(database, a=["message"])
    waiting += record(database, "back")
    assert [due.event.event_id for due in lease(database)] == waiting


def test_what_is_leased_is_due_again_when_its_holder_was_killed(database: Database) -> None:
    subscribe(database, a=["message"])
    (event_id,) = record(database, "rain")
    assert len(lease(database)) == 1
    assert lease(database, after=LEASE) == []
    (again,) = lease(database, after=SECOND + LEASE)
    assert (again.event.event_id, again.attempts) == (event_id, 0)


def test_several_consumers_lease_different_deliveries_and_all_of_them(database: Database) -> None:
    subscribe(database, a=["message"])
    ids = record(database, *map(str, range(40)))
    leased = [due.event.event_id for one in at_once([lambda: lease(database)] * 4) for due in one]
    assert len(leased) == len(set(leased))
    leased += [due.event.event_id for due in lease(database, most=40)]
    assert sorted(leased) == sorted(ids)


def test_consumers_that_start_at_once_subscribe_once(database: Database) -> None:
    at_once([lambda: subscribe(database, a=["message"], b=["message"], c=["dead_letter"])] * 4)
    assert [row.id[0] for row in rows(database, Webhook)] == ["a", "b", "c"]


def test_an_attempt_that_failed_is_due_when_its_pause_is_over_and_an_end_is_final(database: Database) -> None:
    subscribe(database, a=["message"])
    (event_id,) = record(database, "rain")
    (due,) = lease(database)
    end(database, due, Outcome("waiting", 503, "it answered 503", NOW + 5 * LEASE))
    waiting = DeliveryState("https://a.example.org/é", "waiting", 1, 503, "it answered 503", NOW + 5 * LEASE)
    assert deliveries(database, event_id) == [waiting]
    assert lease(database, after=5 * LEASE - SECOND) == []
    (again,) = lease(database, after=5 * LEASE)
    assert again.attempts == 1
    end(database, again)
    assert deliveries(database, event_id) == [DeliveryState("https://a.example.org/é", "delivered", 2, 204, None, None)]
    assert lease(database, after=100 * LEASE) == []


def test_the_outcome_of_an_attempt_that_was_overtaken_changes_nothing(database: Database) -> None:
    subscribe(database, a=["message"])
    (event_id,) = record(database, "rain")
    (late,) = lease(database)
    (quick,) = lease(database, after=SECOND + LEASE)
    end(database, quick)
    end(database, late, Outcome("waiting", None, "no connection", NOW))
    assert [one.status for one in deliveries(database, event_id)] == ["delivered"]


def test_the_end_at_one_webhook_leaves_the_others_alone(database: Database) -> None:
    subscribe(database, a=["message"], b=["message"])
    (event_id,) = record(database, "rain")
    (due,) = lease(database)
    end(database, due, Outcome("gone", 410, "the receiver answered 410", None))
    assert [one.status for one in deliveries(database, event_id)] == ["gone", "waiting"]
    assert len(lease(database, B)) == 1
