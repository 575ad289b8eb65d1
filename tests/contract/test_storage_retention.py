"""Deletion and pruning: marked at once, removed in bounded steps, and nothing else is touched; on every database."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import event, func, insert, select, update

from raingauge.database import Database
from raingauge.model import BatchKey
from raingauge.storage import collections, events, retention
from raingauge.storage.collections import BeingDeleted
from raingauge.storage.enqueueing import enqueue, settled_batches
from raingauge.storage.models import (
    Batch,
    City,
    Collection,
    Deletion,
    Event,
    OutgoingReading,
    QueuedCity,
    QuotaCharge,
    Reading,
    Schema,
    WebhookDelivery,
)
from raingauge.storage.retention import Cursor, StillOpen
from tests.contract.storage_support import (
    MICROSECOND,
    NOW,
    ON_SERVERS,
    SECOND,
    accept,
    cancel,
    found,
    rows,
    settle_batches,
)
from tests.contract.test_storage_outbox import fill, rows_read
from tests.contract.test_storage_streams import collect, fetched_at, lease, observe, remove
from tests.contract.test_storage_webhooks import lease as lease_deliveries
from tests.contract.test_storage_webhooks import subscribe

DAY = timedelta(days=1)


def delete(database: Database, name: str, now: datetime = NOW) -> retention.Removed | None:
    return database.write(lambda connection: retention.delete_collection(connection, now, name))


def remove_all(database: Database) -> tuple[int, Counter[str]]:
    """Steps until nothing is marked: their number, and the most rows of a table that one removed."""
    steps, most, after = 0, Counter[str](), None
    while True:
        step = database.write(lambda c, after=after: retention.remove_some(c, after))  # type: ignore[misc]
        if not step.has_more:
            return steps, most
        steps, most, after = steps + 1, most | step.rows, step.after


def process_events(database: Database) -> None:
    """A consumer has notified of everything."""
    database.write(lambda c: c.execute(update(Event).values(status="Processed", publish_at=None)))


def ended(database: Database, name: str, at: datetime, cities: int = 3) -> None:
    """A collection that finished then, and of which no event is due."""
    settle_batches(database, accept(database, name, range(1, cities + 1), at), at)
    process_events(database)


def mark(database: Database, before: datetime, *, all_rows: bool) -> int:
    work = retention.mark_collections if all_rows else retention.mark_readings
    return database.write(lambda connection: work(connection, NOW, before))


def left(database: Database, *tables: type[Schema]) -> list[set[str]]:
    return [{row.collection_id for row in rows(database, table)} for table in tables]


def test_a_small_collection_is_removed_at_once_and_nothing_of_others_nor_of_cities_and_charges(
    database: Database,
) -> None:
    collect(database, "mine", 1, 2)
    collect(database, "other", 1, 2)
    charge = {"account": "a", "consumer": "c", "cost": 2, "reserved_at": NOW, "ends_at": NOW}
    database.write(lambda c: c.execute(insert(QuotaCharge).values(charge)))
    removed = delete(database, "mine")
    assert removed is not None
    assert +removed.rows == Counter(readings=2, batches=1, collections=1)
    assert left(database, Reading, Batch) == [{"other"}, {"other"}]
    assert (len(rows(database, City)), len(rows(database, QuotaCharge))) == (2, 1)
    assert delete(database, "mine") is None


def test_of_a_deleted_collection_only_the_latest_weather_of_its_cities_is_published(database: Database) -> None:
    collect(database, "mine", 1, 2)
    collect(database, "other", 3)
    delete(database, "mine")
    leased = lease(database)
    published = [(one.id, one.reading is None, one.latest and one.latest.city_id) for one in leased]
    assert published == [("mine/1", True, 1), ("mine/2", True, 2), ("other/3", False, 3)]


def test_a_deleted_reading_that_newer_weather_has_overtaken_is_published_again(database: Database) -> None:
    collect(database, "mine", 1)
    delete(database, "mine")
    leased = lease(database)
    observe(database, 1, NOW + SECOND)
    remove(database, leased)
    (again,) = lease(database)
    assert fetched_at(again) == NOW + SECOND


def test_of_a_deleted_reading_whose_city_has_no_weather_nothing_is_published(database: Database) -> None:
    collect(database, "mine", 1, failing="for the test")
    delete(database, "mine")
    (leased,) = lease(database)
    assert (leased.reading, leased.latest) == (None, None)
    remove(database, [leased])
    assert left(database, OutgoingReading) == [set()]


def test_an_open_collection_is_not_deleted(database: Database) -> None:
    accept(database, "open", range(1, 4))
    with pytest.raises(StillOpen, match="cancel it first"):
        delete(database, "open")
    assert found(database, "open").total == 3
    cancel(database, "open")
    assert delete(database, "open") is not None


def test_a_large_one_is_gone_at_once_and_its_rows_go_in_steps_until_its_id_is_free(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "STEP_ROWS", 20)
    ended(database, "large", NOW, 450)
    ended(database, "other", NOW, 30)
    delete(database, "large")
    assert len(rows(database, Reading)) == 460
    assert database.read(lambda c: collections.find(c, "large")) is None
    assert [state.id for state in database.read(lambda c: collections.newest(c, (1,), None, 9))] == ["other"]
    assert [state.id for state in database.read(lambda c: collections.finished_since(c, NOW - DAY, 9))] == ["other"]
    with pytest.raises(BeingDeleted, match="try again"):
        accept(database, "large", range(1, 451))
    steps, most = remove_all(database)
    assert steps >= 22
    assert max(most.values()) == 20
    assert left(database, Reading, Batch) == [{"other"}, {"other"}]
    accept(database, "large", range(1, 3), NOW + SECOND)


def test_messages_of_a_deleted_collection_are_outdated_and_a_later_one_with_its_id_is_not_touched(
    database: Database,
) -> None:
    [key] = accept(database, "1", [1, 2])
    cancel(database, "1")
    delete(database, "1")

    def deliver(requested_at: datetime, key: BatchKey = key) -> tuple[set[BatchKey], set[BatchKey]]:
        work = {key: requested_at}
        result = database.write(lambda c: enqueue(c, NOW, "test", 0, work, requested_at=work))
        return result.outdated, result.unknown

    def is_over(requested_at: datetime) -> bool:
        return bool(database.read(lambda c: settled_batches(c, {key: requested_at})))

    assert (deliver(NOW), is_over(NOW)) == (({key}, set()), True)
    assert deliver(NOW + MICROSECOND) == (set(), {key})  # of another database
    assert deliver(NOW, BatchKey("2", 0)) == (set(), {BatchKey("2", 0)})
    accept(database, "1", [1, 2], NOW + SECOND)
    assert deliver(NOW) == ({key}, set())
    assert not rows(database, QueuedCity)
    assert not is_over(NOW)  # acknowledged with the later one's batch
    assert deliver(NOW + SECOND) == (set(), set())
    assert len(rows(database, QueuedCity)) == 2


@pytest.mark.parametrize("all_rows", [False, True])
def test_only_what_ended_long_enough_ago_is_pruned_and_only_when_its_event_is_processed(
    database: Database, all_rows: bool
) -> None:
    for name, at in (("old", NOW - 3 * DAY), ("late", NOW - DAY), ("told", NOW - 3 * DAY)):
        ended(database, name, at)
    unprocessed = {"status": "NotProcessed", "publish_at": NOW}
    database.write(lambda c: c.execute(update(Event).where(Event.user_id == "told").values(unprocessed)))
    accept(database, "open", [1], NOW - 9 * DAY)
    assert mark(database, NOW - DAY, all_rows=all_rows) == 1
    assert mark(database, NOW - DAY, all_rows=all_rows) == 0
    remove_all(database)
    assert left(database, Reading) == [{"late", "told"}]
    kept = {"late", "told", "open"} | ({"old"} - ({"old"} if all_rows else set()))
    assert {row.id for row in rows(database, Collection)} == kept
    assert left(database, Batch) == [kept]


@contextmanager
def meanwhile(database: Database, work: Callable[[], object]) -> Iterator[None]:
    """Once the next statement has read collections, do this in another transaction."""
    works = [work]

    def interrupt(_connection: object, _cursor: object, statement: str, *_others: object) -> None:
        if "FROM collections" in statement and works:
            works.pop()()

    event.listen(database.engine, "after_cursor_execute", interrupt)
    try:
        yield
    finally:
        event.remove(database.engine, "after_cursor_execute", interrupt)
    assert not works


@ON_SERVERS
@pytest.mark.parametrize("all_rows", [False, True])
def test_a_new_collection_with_the_id_of_one_that_was_just_found_is_not_marked(
    database: Database, all_rows: bool
) -> None:
    def replace() -> None:
        delete(database, "1")
        accept(database, "1", [1, 2], NOW + SECOND)

    ended(database, "1", NOW - 3 * DAY)
    with meanwhile(database, replace):
        assert mark(database, NOW - DAY, all_rows=all_rows) == 0
    (row,) = rows(database, Collection)
    assert (row.requested_at, row.removing, row.readings_pruned_at) == (NOW + SECOND, None, None)


@ON_SERVERS
@pytest.mark.parametrize("all_rows", [False, True])
def test_the_readings_of_a_new_collection_with_the_id_of_one_that_is_being_removed_stay(
    database: Database, all_rows: bool
) -> None:
    def replace() -> None:
        delete(database, "1")
        remove_all(database)
        collect(database, "1", 7)

    ended(database, "1", NOW - 3 * DAY)
    assert mark(database, NOW - DAY, all_rows=all_rows) == 1
    with meanwhile(database, replace):
        step = database.write(lambda c: retention.remove_some(c, None))
    assert (+step.rows, step.has_more) == (Counter(), True)
    assert [(row.city_id, row.status) for row in rows(database, Reading)] == [(7, "collected")]
    assert [row.removing for row in rows(database, Collection)] == [None]


def test_a_collection_without_its_readings_keeps_its_counts_and_can_be_deleted(database: Database) -> None:
    ended(database, "old", NOW - 3 * DAY)
    mark(database, NOW, all_rows=False)
    state = found(database, "old")  # before the first reading is removed
    assert (state.failed, state.readings_pruned_at) == (3, NOW)
    remove_all(database)
    assert found(database, "old").removing is None
    assert mark(database, NOW, all_rows=True) == 1
    remove_all(database)
    assert not rows(database, Collection)


def test_a_step_goes_on_behind_what_was_removed(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "STEP_ROWS", 2)
    ended(database, "c", NOW - DAY, 5)
    mark(database, NOW, all_rows=False)
    step = database.write(lambda c: retention.remove_some(c, None))
    assert step.after == Cursor("c", 2)
    remove_all(database)
    assert not rows(database, Reading)


def test_one_process_at_a_time_removes_and_another_takes_over_when_it_is_gone(database: Database) -> None:
    def hold(holder: str, now: datetime) -> bool:
        return database.write(lambda c: retention.take_lease(c, now, holder, now + 60 * SECOND))

    assert [hold(name, NOW) for name in ("one", "two", "one")] == [True, False, True]
    assert [hold(name, NOW + 61 * SECOND) for name in ("two", "one")] == [True, False]


def test_old_events_go_when_they_are_processed_and_no_webhook_waits_for_them(database: Database) -> None:
    subscribe(database, a=["dead_letter"])
    for number in range(6):
        new = [events.NewEvent("dead_letter" if number == 1 else "message", "u", str(number))]
        at = NOW - (3 - number // 2) * DAY
        database.write(lambda c, new=new, at=at: events.record(c, at, new))  # type: ignore[misc]
    process_events(database)
    database.write(lambda c: c.execute(update(Event).where(Event.description == "2").values(publish_at=NOW)))

    def prune() -> list[str]:
        removed, _ = database.write(lambda c: retention.remove_events(c, NOW - DAY, 0))
        assert not removed.has_more
        return [row.description for row in rows(database, Event)]

    assert prune() == ["1", "2", "4", "5"]
    database.write(lambda c: c.execute(update(WebhookDelivery).values(status="delivered", due_at=None)))
    assert prune() == ["2", "4", "5"]
    assert (rows(database, WebhookDelivery), lease_deliveries(database)) == ([], [])


def test_events_are_looked_through_in_steps(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "STEP_ROWS", 2)
    database.write(lambda c: events.record(c, NOW - DAY, [events.NewEvent("message", "u", "")] * 3))
    process_events(database)
    last = max(row.number for row in rows(database, Event))
    first, after = database.write(lambda c: retention.remove_events(c, NOW, 0))
    assert first.has_more
    second, _ = database.write(lambda c: retention.remove_events(c, NOW, after))
    assert (second.has_more, [row.number for row in rows(database, Event)]) == (False, [last])


def test_no_number_of_an_event_is_given_again_after_all_of_them_are_removed(database: Database) -> None:
    record = partial(events.record, now=NOW - DAY, events=[events.NewEvent("message", "u", "")] * 3)
    database.write(record)
    last = max(row.number for row in rows(database, Event))
    process_events(database)
    for _ in range(2):
        database.write(lambda c: retention.remove_events(c, NOW, 0))
    database.write(record)
    assert [event.number > last for event in database.read(lambda c: events.page(c, last, 9))] == [True] * 3


def test_old_records_of_deletions_go(database: Database) -> None:
    for name, at in (("old", NOW - 3 * DAY), ("new", NOW)):
        ended(database, name, at)
        delete(database, name, at)
    assert database.write(lambda c: retention.remove_deletions(c, NOW - DAY)).rows == Counter(deletions=1)
    assert [row.id for row in rows(database, Deletion)] == ["new"]


def test_what_was_deleted_since_a_moment_is_found_the_last_first(database: Database) -> None:
    for second, name in enumerate(("a", "b", "c")):
        ended(database, name, NOW - DAY)
        delete(database, name, NOW + second * SECOND)
    last = [("c", NOW - DAY), ("b", NOW - DAY)]
    assert database.read(lambda c: retention.deleted_since(c, NOW, 9)) == last
    assert database.read(lambda c: retention.deleted_since(c, NOW, 1)) == last[:1]


def test_a_look_reads_next_to_nothing_however_many_collections_there_are(database: Database) -> None:
    fill(database, 0, 1_500, ended=True)
    fill(database, 1_500, 2_000)

    def look(connection: object) -> None:
        for work in (retention.mark_collections, retention.mark_readings):
            assert work(connection, NOW, NOW - DAY) == 0  # type: ignore[arg-type]
        assert not retention.remove_some(connection, None).has_more  # type: ignore[arg-type]

    assert rows_read(database, look) < 60
    assert database.read(lambda c: c.scalar(select(func.count()).select_from(Collection))) == 2_000
