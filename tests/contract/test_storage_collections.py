"""Accepting collections: whole or nothing, once, and what an id stands for."""

import json
from dataclasses import replace
from functools import partial
from threading import Thread

import pytest
from sqlalchemy import Connection

from raingauge.model import BatchKey, CollectionRequest, CollectionState, OpenCollection
from raingauge.storage import cities, collections, freshness, outbox
from raingauge.storage.collections import OtherRequest
from raingauge.storage.database import Database
from raingauge.storage.enqueueing import enqueue
from raingauge.storage.models import Batch, Collection, QueuedCity, Reading
from raingauge.storage.outbox import Lease
from tests.contract.storage_support import (
    NOW,
    ON_SERVERS,
    SECOND,
    accept,
    an_observation,
    at_once,
    found,
    rows,
    settle_batches,
)
from tests.support.accepting import accept as accept_one


def ask(database: Database, request: CollectionRequest, after_s: float = 0) -> tuple[CollectionState, bool]:
    return database.write(lambda connection: accept_one(connection, NOW + after_s * SECOND, request))


def named(collection_id: str, *city_ids: int, max_age_s: int = 600) -> CollectionRequest:
    return CollectionRequest(collection_id, city_ids, max_age_s, named=True)


def batch_rows(database: Database) -> list[tuple[str, int, list[int]]]:
    return [(row.collection_id, row.batch, json.loads(row.city_ids)) for row in rows(database, Batch)]


def test_a_collection_is_stored_with_all_its_batches(database: Database) -> None:
    cities = list(range(1000, 955, -1))
    state, created = ask(database, named("trip-7", *cities))
    assert created
    assert state == found(database, "trip-7")
    assert (state.requested_at, state.max_age_s, state.total) == (NOW, 600, 45)
    assert (state.collected, state.failed, state.settled) == (0, 0, 0)
    assert (state.last_progress_at, state.finished_at, state.cancelled_at) == (None, None, None)
    assert batch_rows(database) == [
        ("trip-7", 0, cities[:20]),
        ("trip-7", 1, cities[20:40]),
        ("trip-7", 2, cities[40:]),
    ]
    assert [(row.size, row.settled, row.attempts, row.published_at) for row in rows(database, Batch)] == [
        (20, 0, 0, None),
        (20, 0, 0, None),
        (5, 0, 0, None),
    ]


def test_a_transaction_that_fails_leaves_nothing_of_a_collection(database: Database) -> None:
    def work(connection: Connection) -> None:
        accept_one(connection, NOW, named("half", *range(1, 100)))
        raise InterruptedError

    with pytest.raises(InterruptedError):
        database.write(work)
    assert database.read(lambda connection: collections.find(connection, "half")) is None
    assert not batch_rows(database)


def test_an_unknown_id_is_not_found(database: Database) -> None:
    accept(database, "known", [1])
    assert database.read(lambda connection: collections.find(connection, "unknown")) is None


def test_the_same_request_finds_the_collection_as_it_stands(database: Database) -> None:
    first, _ = ask(database, named("1", *range(1, 31)))
    settle_batches(database, accept(database, "1", range(1, 31))[:1])
    again, created = ask(database, named("1", *range(30, 0, -1)), after_s=60)
    assert not created
    assert (again.requested_at, again.settled) == (first.requested_at, 20)
    assert len(batch_rows(database)) == 2


def test_requests_that_leave_the_cities_out_are_the_same_whatever_the_default_is_by_now(database: Database) -> None:
    ask(database, CollectionRequest("1", [1, 2, 3], 600, named=False))
    state, created = ask(database, CollectionRequest("1", [1, 2, 3, 4], 600, named=False))
    assert not created
    assert state.total == 3


def test_a_request_that_leaves_its_age_out_is_the_same_whatever_the_age_is(database: Database) -> None:
    ask(database, named("1", 1, 2, max_age_s=5))
    state, created = ask(database, CollectionRequest("1", [2, 1], 600, named=True, any_age=True))
    assert (created, state.max_age_s) == (False, 5)
    with pytest.raises(OtherRequest):
        ask(database, CollectionRequest("1", [3], 600, named=True, any_age=True))


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(named("Mine", 1, 2, 4), id="other cities"),
        pytest.param(named("Mine", 1, 2), id="fewer cities"),
        pytest.param(named("Mine", 1, 2, 3, max_age_s=601), id="another age"),
        pytest.param(CollectionRequest("Mine", [1, 2, 3], 600, named=False), id="cities left out"),
    ],
)
def test_another_request_of_the_same_id_is_refused_and_changes_nothing(
    database: Database, other: CollectionRequest
) -> None:
    ask(database, named("Mine", 1, 2, 3))
    before = (rows(database, Collection), batch_rows(database))
    with pytest.raises(OtherRequest, match="Mine"):
        ask(database, other)
    assert (rows(database, Collection), batch_rows(database)) == before


@pytest.mark.parametrize(("one", "other"), [("a", "A"), ("Trip-7", "trip-7"), ("1", "01")])
def test_ids_are_compared_letter_by_letter(database: Database, one: str, other: str) -> None:
    accept(database, one, [1])
    state, created = ask(database, named(other, 2, 3))
    assert created
    assert (state.id, state.total) == (other, 2)
    assert (found(database, one).id, found(database, one).total) == (one, 1)
    assert sorted(batch_rows(database)) == sorted([(one, 0, [1]), (other, 0, [2, 3])])


def test_the_longest_id_keeps_every_character(database: Database) -> None:
    longest = "Az09._-:" * 8
    accept(database, longest, [1])
    accept(database, longest[:-1], [2])
    assert found(database, longest).id == longest
    assert [row.collection_id for row in rows(database, Batch)] == [longest[:-1], longest]


def test_twenty_clients_that_send_the_same_request_at_once_make_one_collection(database: Database) -> None:
    request = named("rush", *range(1, 168))
    answers = at_once([partial(ask, database, request)] * 20)
    assert sorted(created for _, created in answers) == [False] * 19 + [True]
    assert len({state for state, _ in answers}) == 1
    assert len(batch_rows(database)) == 9


def test_of_different_requests_that_take_the_same_id_at_once_one_wins(database: Database) -> None:
    def outcome(city_id: int) -> int | None:
        try:
            ask(database, named("rush", city_id))
        except OtherRequest:
            return None
        return city_id

    winners = [city for city in at_once([partial(outcome, city) for city in range(1, 9)]) if city is not None]
    assert batch_rows(database) == [("rush", 0, winners)]
    assert len(winners) == 1


def test_collections_of_different_ids_do_not_hinder_each_other(database: Database) -> None:
    answers = at_once([partial(ask, database, named(f"c{number}", *range(1, 42))) for number in range(12)])
    assert all(created for _, created in answers)
    assert len(batch_rows(database)) == 12 * 3


def test_two_hundred_thousand_cities_are_accepted(database: Database) -> None:
    state, created = ask(database, named("all", *range(1, 200_001)))
    assert created
    assert state.total == 200_000
    stored = batch_rows(database)
    assert len(stored) == 10_000
    assert [city for _, _, cities in stored for city in cities] == list(range(1, 200_001))


def test_the_largest_city_id_is_kept(database: Database) -> None:
    accept(database, "edge", [1, 2**31 - 1])
    assert batch_rows(database) == [("edge", 0, [1, 2**31 - 1])]


def test_what_open_collections_need_is_told_with_what_they_want(database: Database) -> None:
    settle_batches(database, accept(database, "done", range(1, 31)))
    settle_batches(database, accept(database, "begun", range(1, 31))[:1], NOW + SECOND)
    accept(database, "new", range(1, 31))
    hashed = found(database, "new").cities_hash
    assert sorted(database.read(collections.open_collections)) == [
        OpenCollection("begun", hashed, 10, 20, 20, 20),
        OpenCollection("new", hashed, 30, 0, 0, 0),
    ]


def end(database: Database, collection_id: str, after_s: float = 0) -> CollectionState | None:
    now = NOW + after_s * SECOND
    return database.write(lambda c: collections.cancel_all(c, now, [collection_id])).get(collection_id)


def test_a_collection_that_is_cancelled_is_over_then(database: Database) -> None:
    settle_batches(database, accept(database, "mine", range(1, 31))[:1])
    accept(database, "other", range(1, 31))
    state = end(database, "mine", 5)
    assert state == found(database, "mine")
    assert (state.cancelled_at, state.finished_at) == (NOW + 5 * SECOND, NOW + 5 * SECOND)
    assert (state.total, state.settled) == (30, 20)
    assert (found(database, "other").cancelled_at, found(database, "other").finished_at) == (None, None)


def test_what_is_over_is_not_cancelled(database: Database) -> None:
    settle_batches(database, accept(database, "done", [1]))
    accept(database, "cancelled", [1])
    end(database, "cancelled")
    before = rows(database, Collection)
    assert end(database, "done", 5) == found(database, "done")
    assert end(database, "cancelled", 5) == found(database, "cancelled")
    assert rows(database, Collection) == before


def test_what_there_is_not_cannot_be_cancelled(database: Database) -> None:
    accept(database, "Mine", [1])
    assert end(database, "mine") is None
    assert found(database, "Mine").cancelled_at is None


def test_nothing_of_a_cancelled_collection_is_leased_queued_or_settled(database: Database) -> None:
    keys = accept(database, "mine", range(1, 31))
    others = accept(database, "other", [1])
    database.write(lambda connection: enqueue(connection, NOW, "test", 0, [keys[0], *others]))
    assert len(rows(database, QueuedCity)) == 21
    end(database, "mine")
    assert [(row.collection_id, row.city_id) for row in rows(database, QueuedCity)] == [("other", 1)]
    taken = Lease("relay", NOW + 30 * SECOND)
    leased = database.write(lambda connection: outbox.lease(connection, NOW, taken, 100))
    assert [message.collection_id for message in leased.messages] == ["other"]
    settle_batches(database, keys)
    assert (rows(database, Reading), found(database, "mine").settled) == ([], 0)


@ON_SERVERS
def test_cancelling_waits_for_whoever_holds_the_collection(database: Database) -> None:
    keys = accept(database, "mine", range(1, 31))
    cancelling = Thread(target=end, args=(database, "mine"))

    def work(connection: Connection) -> None:
        enqueue(connection, NOW, "test", 0, keys)
        cancelling.start()
        cancelling.join(0.3)
        assert cancelling.is_alive()

    database.write(work)
    cancelling.join(20)
    assert rows(database, QueuedCity) == []


def test_a_collection_is_foreseen_as_it_would_be_accepted(database: Database) -> None:
    request = named("mine", *range(1, 31))
    foreseen = database.read(lambda connection: collections.foresee(connection, NOW, request))
    assert not rows(database, Collection)
    assert (foreseen, True) == ask(database, request)
    settle_batches(database, [BatchKey("mine", 0)])
    later = database.read(lambda connection: collections.foresee(connection, NOW + SECOND, request))
    assert later == found(database, "mine")
    with pytest.raises(OtherRequest, match="mine"):
        database.read(lambda connection: collections.foresee(connection, NOW, named("mine", 1)))


def test_cities_that_need_no_call_are_counted(database: Database) -> None:
    observed = {city_id: an_observation(city_id) for city_id in (1, 2, 3)}
    for fetched_at in (NOW - cities.UNKNOWN_TWICE_IN, NOW):
        database.write(partial(cities.remember, observed=observed, unknown=[4], fetched_at=fetched_at))
    refs = accept(database, "mine", [1, 5])
    settle_batches(database, refs)

    def count(collection_id: str, after_s: float, age_s: int, *city_ids: int) -> int:
        state = replace(found(database, "mine"), id=collection_id, requested_at=NOW + after_s * SECOND, max_age_s=age_s)
        return database.read(lambda connection: freshness.count_fresh(connection, state, city_ids))

    assert count("new", 0, 1, 1, 2, 4, 5) == 3
    assert count("new", 0, 0, 1, 2, 4, 5) == 3
    assert count("new", 10, 10, 1, 2, 4, 5) == 3
    assert count("new", 10, 9, 1, 2, 4, 5) == 1
    assert count("new", 10, 0, 1, 2, 4, 5) == 0
    assert count("new", 86_401, 9, 1, 2, 4, 5) == 0
    assert count("mine", 0, 1, 1, 2, 4, 5) == 2
    assert count("new", 0, 1, *range(1, 3001)) == 4
