"""The database's clock steps back: nothing stands still for as long as the step."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import ColumnElement, Connection, update

from consumer.gate import Event
from consumer.ledger import NotNow
from raingauge.database import Database
from raingauge.model import BatchKey
from raingauge.storage import events, outbox, retention, streams
from raingauge.storage.models import Batch, Collection, WebhookDelivery
from raingauge.storage.outbox import Lease
from tests.contract.ledger_support import WORST_S, Account, Consumer, finish, milliseconds
from tests.contract.storage_support import NOW, SECOND, rows
from tests.contract.test_ledger import JANUARY, cost, monthly, spent
from tests.contract.test_storage_streams import collect
from tests.contract.test_storage_webhooks import A, subscribe

LEASED_FOR = 30 * SECOND
HOURS = timedelta(hours=3)
"""How far the clock steps back."""
REPUBLISHED_AFTER = timedelta(hours=1)


def taking(database: Database, cities: int = 400) -> tuple[Account, Consumer]:
    """An account for which cities wait, and a consumer that has taken some."""
    account = Account(database)
    consumer = account.consumer()
    account.want_new(cities)
    consumer.take()
    return account, consumer


def step_back(account: Account, consumer: Consumer, back: timedelta = HOURS) -> datetime:
    """The clock steps back, and the consumer notices it; the time then."""
    account.moment.now = NOW - back
    assert consumer.refused().reason == "database"
    return account.moment.now


def lease(database: Database, now: datetime, holder: str) -> set[BatchKey]:
    taken = database.write(lambda c: outbox.lease(c, now, Lease(holder, now + LEASED_FOR), 500))
    return {BatchKey(message.collection_id, message.batch) for message in taken.messages}


def change(database: Database, table: type[Batch | Collection], where: ColumnElement[bool], **values: object) -> None:
    database.write(lambda connection: connection.execute(update(table).where(where).values(values)))


def test_what_was_to_be_published_just_before_a_step_back_is_due_at_once(database: Database) -> None:
    subscribe(database, a=["message"])
    account, consumer = taking(database)
    collect(database, "streamed", 1, 2)
    (event_id,) = database.write(lambda c: events.record(c, NOW, [events.NewEvent("message", "u", "")]))
    now = step_back(account, consumer)

    def due(connection: Connection) -> tuple[set[str], int, int]:
        found = events.lease(connection, now, now + LEASED_FOR, 99)
        delivered = events.lease_deliveries(connection, A, now, now + LEASED_FOR, 99)
        read = streams.lease_readings(connection, now, now + LEASED_FOR, 99)
        return {event.event_id for event in found}, len(delivered), len(read)

    found, deliveries, readings = database.write(due)
    assert event_id in found
    assert (deliveries, readings) == (1, 2)


def test_a_processed_event_and_an_ended_delivery_stay_so(database: Database) -> None:
    subscribe(database, a=["message"])
    account, consumer = taking(database)
    (event_id,) = database.write(lambda c: events.record(c, NOW, [events.NewEvent("message", "u", "")]))
    database.write(lambda c: events.change(c, NOW, event_id, {"status": events.PROCESSED}))
    database.write(lambda c: c.execute(update(WebhookDelivery).values(status="delivered", due_at=None)))
    now = step_back(account, consumer)
    leased = database.write(lambda c: events.lease(c, now, now + LEASED_FOR, 99))
    assert event_id not in {event.event_id for event in leased}
    assert database.write(lambda c: events.lease_deliveries(c, A, now, now + LEASED_FOR, 99)) == []


def test_leases_from_before_a_step_back_end(database: Database) -> None:
    account, consumer = taking(database)
    keys = set(account.post("leased", range(1, 41)))
    assert lease(database, NOW, "gone") >= keys
    assert database.write(lambda c: retention.take_lease(c, NOW, "gone", NOW + LEASED_FOR))
    now = step_back(account, consumer)
    assert lease(database, now, "other") >= keys
    now += SECOND
    assert database.write(lambda c: retention.take_lease(c, now, "other", now + LEASED_FOR))


@pytest.mark.parametrize("progressed", [False, True])
def test_lost_messages_from_before_a_step_back_are_published_again(database: Database, progressed: bool) -> None:
    account, consumer = taking(database)
    keys = set(account.post("lost", range(1, 41)))
    lease(database, NOW, "relay")
    database.write(lambda c: outbox.mark_published(c, NOW, keys, "relay"))
    if progressed:
        change(database, Collection, Collection.id == "lost", last_progress_at=NOW)
    now = step_back(account, consumer)

    def again(now: datetime) -> int:
        return database.write(lambda c: outbox.republish_stalled(c, now, now - REPUBLISHED_AFTER))

    assert again(now + REPUBLISHED_AFTER) == 0
    assert again(now + REPUBLISHED_AFTER + SECOND) == len(keys)
    assert lease(database, now + REPUBLISHED_AFTER + SECOND, "relay") >= keys


def test_an_ended_collection_keeps_its_moments(database: Database) -> None:
    account, consumer = taking(database)
    account.post("ended", range(1, 41))
    account.cancel("ended")
    before = account.collection("ended")
    step_back(account, consumer)
    assert account.collection("ended") == before
    assert [row.last_progress_at for row in rows(database, Collection) if row.id != "ended"] == [NOW - HOURS]


def test_a_refusal_for_an_hour_outlasts_a_step_back_and_a_gate_that_is_shut(database: Database) -> None:
    account, consumer = taking(database)
    consumer.report(consumer.take(), Event.QUOTA, retry_after_s=3600.0)
    account.moment.now = NOW - HOURS
    assert consumer.refused() == NotNow(milliseconds(3600), "quota")
    account.moment.forward(600)
    assert finish(consumer.control.shut()) == NOW - HOURS + 3600 * SECOND
    assert consumer.refused() == NotNow(milliseconds(3000), "quota")
    account.moment.forward(3000)
    taken = consumer.take()
    assert taken.plan.probe
    consumer.report(taken, Event.QUOTA)
    assert consumer.refused() == NotNow(milliseconds(120), "quota"), "the second refusal in a row"


# -- the month ---------------------------------------------------------------------------------------------------------


def january(database: Database, back: timedelta) -> tuple[Account, Consumer]:
    """An account that spent 20 cities of January's 50 before the clock stepped back into December."""
    account, consumer = monthly(database, JANUARY, 50)
    assert cost(consumer) == 20
    account.moment.now = JANUARY - back
    assert consumer.refused().reason == "database"
    account.moment.forward(WORST_S)
    return account, consumer


@pytest.mark.parametrize("back", [timedelta(seconds=WORST_S + 10), timedelta(hours=1), timedelta(days=40)])
def test_a_month_that_has_begun_is_counted_on_when_the_clock_steps_back_behind_its_begin(
    database: Database, back: timedelta
) -> None:
    account, consumer = january(database, back)
    assert [cost(consumer), cost(consumer)] == [20, 10]
    assert consumer.refused().reason == "month"
    account.moment.now = JANUARY + SECOND
    assert consumer.refused().reason == "month"
    assert spent(account) == ("2027-01", 50, 0)


@pytest.mark.parametrize(("back", "carried"), [(timedelta(hours=1), 20), (timedelta(days=40), 0)])
def test_the_month_that_is_set_by_hand_is_the_present_one_whichever_is_counted(
    database: Database, back: timedelta, carried: int
) -> None:
    account, consumer = january(database, back)
    assert finish(consumer.control.set_month(35)) == (20, 35)
    assert spent(account) == (f"{account.moment.now:%Y-%m}", 35, carried)
    assert cost(consumer) == 15
    assert consumer.refused().reason == "month"
