"""Readings that wait for the streams: noted in the transaction that stores them, due until they are published."""

from datetime import datetime, timedelta

from sqlalchemy import Connection

from raingauge.database import Database
from raingauge.storage import settling, streams
from raingauge.storage.cities import remember
from raingauge.storage.enqueueing import enqueue
from raingauge.storage.models import OutgoingReading, Reading
from raingauge.storage.settling import Fetched
from raingauge.storage.streams import Outgoing
from tests.contract.storage_support import NOW, SECOND, accept, an_observation, at_once, rows

LEASE = timedelta(seconds=30)
LATER = NOW + LEASE


def observe(database: Database, city_id: int, at: datetime = NOW, temperature: float = 20.0) -> None:
    """A call fetched a city."""
    seen = {city_id: an_observation(city_id, temperature=temperature, name="Young")}
    database.write(lambda connection: remember(connection, seen, (), at))


def collect(
    database: Database, name: str, *city_ids: int, at: datetime = NOW, failing: str | None = None, streams: bool = True
) -> None:
    """A collection of cities that were just fetched, or fail."""
    keys = accept(database, name, city_ids, at)
    for city_id in city_ids if failing is None else ():
        observe(database, city_id, at)
    database.write(lambda c: enqueue(c, at, "test", 0, keys, failing, streams=streams))
    assert len([row for row in rows(database, Reading) if row.collection_id == name]) == len(city_ids)


def lease(database: Database, now: datetime = NOW, most: int = 100) -> list[Outgoing]:
    return database.write(lambda connection: streams.lease_readings(connection, now, now + LEASE, most))


def remove(
    database: Database, published: list[Outgoing], now: datetime = NOW, leased_at: datetime | None = None
) -> None:
    until = (leased_at or now) + LEASE
    database.write(lambda connection: streams.remove_published(connection, now, published, until))


def fetched_at(one: Outgoing) -> datetime:
    """When the latest weather that is published with a reading was fetched."""
    assert one.latest is not None
    return one.latest.fetched_at


def ids(leased: list[Outgoing]) -> list[str]:
    return [one.id for one in leased]


def test_nothing_is_noted_while_streams_are_off(database: Database) -> None:
    collect(database, "1", 1, 2, streams=False)
    assert lease(database) == []


def test_a_reading_is_leased_whole_with_the_latest_weather_of_its_city(database: Database) -> None:
    collect(database, "1", 7)
    observe(database, 7, NOW + SECOND, temperature=-1.5)
    (one,) = lease(database)
    assert one.reading is not None
    assert (one.reading.subject, one.reading.status, one.reading.reason) == ("1/7", "collected", None)
    assert (one.reading.name, one.reading.temperature, one.reading.fetched_at) == ("Young", 20.0, NOW)
    assert one.latest is not None
    assert (one.latest.temperature, one.latest.fetched_at) == (-1.5, NOW + SECOND)
    assert one.stored_at == NOW


def test_a_failed_reading_is_published_and_says_nothing_of_the_latest_weather(database: Database) -> None:
    observe(database, 7)
    collect(database, "1", 7, 8, failing="for the test")
    leased = lease(database)
    published = [(one.id, one.reading and one.reading.reason, one.latest) for one in leased]
    assert published == [(f"1/{city_id}", "for the test", None) for city_id in (7, 8)]


def test_whatever_settles_a_city_notes_its_reading(database: Database) -> None:
    keys = accept(database, "1", range(1, 5))

    def work(connection: Connection) -> None:
        enqueue(connection, NOW, "test", 0, keys, streams=True)
        fetched = Fetched(0, [1], NOW, {1: an_observation(1)})
        settling.settle(connection, NOW, fetched, lambda _: None, releases=False, streams=True)
        failing = Fetched(0, [2], NOW, failed=frozenset({2}), counts=True)
        settling.settle(connection, NOW, failing, lambda _: None, releases=False, streams=True)
        settling.fail_city(connection, NOW, 3, "for the test", streams=True)
        remember(connection, {4: an_observation(4)}, (), NOW)
        settling.settle_fresh(connection, NOW, [4], streams=True)

    database.write(work)
    assert ids(lease(database)) == ["1/1", "1/2", "1/3", "1/4"]


def test_what_is_leased_is_due_again_when_the_lease_expires_until_it_is_published(database: Database) -> None:
    collect(database, "1", 1, 2, 3)
    first = lease(database, most=2)
    assert ids(first) == ["1/1", "1/2"]
    assert ids(lease(database)) == ["1/3"]
    assert lease(database, LATER - SECOND) == []
    remove(database, first[:1])
    assert ids(lease(database, LATER)) == ["1/2", "1/3"]


def test_two_relays_lease_different_readings(database: Database) -> None:
    collect(database, "1", *range(1, 41))
    leased = at_once([lambda: lease(database, most=10)] * 4)
    numbers = [one.number for some in leased for one in some]
    assert len(numbers) == len(set(numbers))


def test_the_latest_weather_of_a_city_is_published_once_a_round_with_its_last_reading(database: Database) -> None:
    for number in range(3):
        collect(database, f"{number}", 7, at=NOW + number * SECOND)
    leased = lease(database, LATER)
    assert [one.latest is not None for one in leased] == [False, False, True]
    assert fetched_at(leased[-1]) == NOW + 2 * SECOND


def test_a_relay_that_publishes_old_weather_after_another_one_has_newer_weather_published_again(
    database: Database,
) -> None:
    collect(database, "old", 7)
    slow = lease(database)
    collect(database, "new", 7, at=NOW + SECOND)
    quick = lease(database, NOW + SECOND)
    remove(database, quick, NOW + SECOND)
    remove(database, slow, NOW + SECOND, leased_at=NOW)
    (again,) = lease(database, NOW + SECOND)
    assert (again.id, fetched_at(again)) == ("old/7", NOW + SECOND)
    remove(database, [again], NOW + SECOND)
    assert rows(database, OutgoingReading) == []


def test_a_relay_whose_lease_ran_out_overtakes_nobody_for_good(database: Database) -> None:
    collect(database, "old", 7)
    slow = lease(database)
    later = NOW + LEASE
    collect(database, "new", 7, at=later)
    quick = lease(database, later)
    assert ids(quick) == ["old/7", "new/7"]
    remove(database, quick, later)
    assert rows(database, OutgoingReading) == []
    remove(database, slow, later, leased_at=NOW)  # it has published old weather after the other one's new
    (again,) = lease(database, later)
    assert fetched_at(again) == later
    assert (again.id, again.stored_at) == ("old/7", NOW), "it has the same id on the stream"


def test_a_relay_whose_lease_ran_out_forgets_nothing_of_another_one(database: Database) -> None:
    collect(database, "1", 7)
    slow = lease(database)
    lease(database, NOW + LEASE)
    remove(database, slow, NOW + LEASE, leased_at=NOW)
    assert len(rows(database, OutgoingReading)) == 1


def test_the_lag_is_the_age_of_the_oldest_reading_that_waits(database: Database) -> None:
    def lag() -> float:
        return database.read(lambda connection: streams.stream_lag_s(connection, NOW + 5 * SECOND))

    assert lag() == 0.0
    collect(database, "old", 7)
    collect(database, "new", 8, at=NOW + SECOND)
    leased = lease(database)
    assert lag() == 5.0
    remove(database, leased)
    assert lag() == 4.0
