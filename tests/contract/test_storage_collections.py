"""Accepting collections: whole or nothing, once, and what an id stands for; cancelling them; what they would cost."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from raingauge.database import Database
from raingauge.database.database import TRIES
from raingauge.errors import DatabaseUnavailable
from raingauge.model import BatchKey, CollectionRequest, CollectionState, OpenCollection
from raingauge.storage import cities, collections, outbox
from raingauge.storage.collections import OtherRequest
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

LARGEST_ID = 2**31 - 1
LONGEST_ID = "Az09._-:" * 8


def wanting(name: str, city_ids: Sequence[int] = (1, 2, 3), max_age_s: int = 600, **more: Any) -> CollectionRequest:
    return CollectionRequest(name, tuple(city_ids), max_age_s, **{"named": True} | more)


def ask(database: Database, request: CollectionRequest, after_s: float = 0) -> tuple[CollectionState, bool]:
    return database.write(lambda connection: accept_one(connection, NOW + after_s * SECOND, request))


def accept_all(database: Database, *requests: CollectionRequest, blind: int = 0) -> list[tuple[str, int, bool] | str]:
    """What became of each: its id, size and whether it is new, or "other".

    `blind`: how many times it does not see what exists, as if that had been stored after it looked.
    """
    blindly = iter(range(blind))

    def work(connection: Connection) -> list[tuple[CollectionState, bool] | OtherRequest]:
        ids = [request.id for request in requests]
        seen = collections.find_all(connection, ids) if next(blindly, None) is None else {}
        return collections.accept_all(connection, NOW, requests, seen, 10)

    answers = database.write(work)
    return ["other" if isinstance(one, OtherRequest) else (one[0].id, one[0].total, one[1]) for one in answers]


def batch_rows(database: Database) -> list[tuple[str, int, list[int]]]:
    return [(row.collection_id, row.batch, json.loads(row.city_ids)) for row in rows(database, Batch)]


# -- accepting ---------------------------------------------------------------------------------------------------------


def test_a_collection_is_stored_with_all_its_batches(database: Database) -> None:
    cities = list(range(1000, 955, -1))
    state, created = ask(database, wanting("trip-7", cities))
    assert created
    assert state == found(database, "trip-7")
    assert (state.requested_at, state.max_age_s, state.total, state.settled) == (NOW, 600, 45, 0)
    assert (state.last_progress_at, state.finished_at, state.cancelled_at) == (None, None, None)
    assert batch_rows(database) == [("trip-7", n, cities[20 * n : 20 * n + 20]) for n in range(3)]
    stored = [(row.size, row.settled, row.attempts, row.published_at) for row in rows(database, Batch)]
    assert stored == [(20, 0, 0, None), (20, 0, 0, None), (5, 0, 0, None)]


def test_several_are_stored_with_batches_of_their_own_in_one_transaction(database: Database) -> None:
    alike = [wanting(name, range(1, 30)) for name in ("a", "b", "c")]
    answers = accept_all(database, *alike, wanting("reversed", range(29, 0, -1)), wanting("9", [9]))
    assert answers == [*((name, 29, True) for name in ("a", "b", "c", "reversed")), ("9", 1, True)]
    stored = {(name, batch): city_ids for name, batch, city_ids in batch_rows(database)}
    halves = {name: [[*range(1, 21)], [*range(21, 30)]] for name in ("a", "b", "c")}
    halves |= {"reversed": [[*range(29, 9, -1)], [*range(9, 0, -1)]], "9": [[9]]}
    assert stored == {(name, n): city_ids for name, batches in halves.items() for n, city_ids in enumerate(batches)}
    kept = [(row.size, row.attempts, row.publish_order) for row in rows(database, Batch)]
    assert kept == [(1, 0, 0), *[(20, 0, 0), (9, 0, 1)] * 4]
    assert accept_all(database) == []


@pytest.mark.parametrize(
    ("first", "again"),
    [
        pytest.param(wanting("1"), wanting("1", (3, 1, 2)), id="another order"),
        pytest.param(wanting("1", named=False), wanting("1", (1, 2, 3, 4), named=False), id="new default cities"),
        pytest.param(wanting("1", max_age_s=5), wanting("1", any_age=True), id="no age"),
    ],
)
def test_the_same_request_finds_the_collection_as_it_stands(
    database: Database, first: CollectionRequest, again: CollectionRequest
) -> None:
    ask(database, first)
    settle_batches(database, [BatchKey("1", 0)])
    state, created = ask(database, again, after_s=60)
    assert not created
    assert (state.requested_at, state.max_age_s, state.settled) == (NOW, first.max_age_s, 3)
    assert len(batch_rows(database)) == 1


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(wanting("Mine", (1, 2, 4)), id="other cities"),
        pytest.param(wanting("Mine", (1, 2)), id="fewer cities"),
        pytest.param(wanting("Mine", (3,), any_age=True), id="other cities of any age"),
        pytest.param(wanting("Mine", max_age_s=601), id="another age"),
        pytest.param(wanting("Mine", named=False), id="cities left out"),
    ],
)
def test_another_request_of_the_same_id_is_refused_and_changes_nothing(
    database: Database, other: CollectionRequest
) -> None:
    ask(database, wanting("Mine"))
    before = (rows(database, Collection), batch_rows(database))
    with pytest.raises(OtherRequest, match="Mine"):
        ask(database, other)
    assert (rows(database, Collection), batch_rows(database)) == before


def test_of_several_requests_each_is_compared_with_what_exists_and_with_those_before_it(database: Database) -> None:
    twice = [wanting("a"), wanting("a"), wanting("a", [3, 2, 1]), wanting("a", [7]), wanting("b")]
    assert accept_all(database, *twice) == [("a", 3, True), ("a", 3, False), ("a", 3, False), "other", ("b", 3, True)]
    answers = accept_all(database, wanting("b", max_age_s=1), wanting("c"), wanting("a"))
    assert answers == ["other", ("c", 3, True), ("a", 3, False)]
    assert [name for name, _, _ in batch_rows(database)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("one", "other"), [("a", "A"), ("Trip-7", "trip-7"), ("1", "01"), (LONGEST_ID, LONGEST_ID[:-1])]
)
def test_ids_are_compared_letter_by_letter(database: Database, one: str, other: str) -> None:
    accept(database, one, [1])
    assert database.read(lambda connection: collections.find(connection, other)) is None
    assert accept_all(database, wanting(other)) == [(other, 3, True)]
    assert [(found(database, name).id, found(database, name).total) for name in (one, other)] == [(one, 1), (other, 3)]
    assert sorted(batch_rows(database)) == sorted([(one, 0, [1]), (other, 0, [1, 2, 3])])


def test_of_clients_that_send_requests_of_one_id_at_once_one_wins_and_the_same_request_finds_it(
    database: Database,
) -> None:
    answers = at_once([partial(accept_all, database, wanting("rush", range(city, 60))) for city in range(1, 9)] * 2)
    (winner,) = [answer for (answer,) in answers if answer != "other" and answer[2]]
    assert sorted(map(str, answers)) == sorted(map(str, [[winner], [("rush", winner[1], False)], *[["other"]] * 14]))
    assert [len(city_ids) for _, _, city_ids in batch_rows(database)] == [20, 20, int(winner[1]) - 40]


def test_collections_of_different_ids_do_not_hinder_each_other(database: Database) -> None:
    answers = at_once([partial(ask, database, wanting(f"c{number}", range(1, 42))) for number in range(12)])
    assert all(created for _, created in answers)
    assert len(batch_rows(database)) == 12 * 3


def test_requests_that_another_producer_overtook_are_accepted_or_compared_after_all(database: Database) -> None:
    accept_all(database, wanting("b"), wanting("d", [8]))
    answers = accept_all(database, wanting("a"), wanting("b"), wanting("c"), wanting("d"), blind=1)
    assert answers == [("a", 3, True), ("b", 3, False), ("c", 3, True), "other"]
    ageless: Any = None
    with pytest.raises(IntegrityError):  # not because of its key
        accept_all(database, wanting("e", max_age_s=ageless))
    with pytest.raises(DatabaseUnavailable, match="other transactions are always faster"):
        accept_all(database, wanting("f"), wanting("b"), blind=TRIES)
    assert sorted(row.id for row in rows(database, Collection)) == ["a", "b", "c", "d"]


def test_two_hundred_thousand_cities_up_to_the_largest_id_are_accepted(database: Database) -> None:
    wanted = [*range(1, 200_000), LARGEST_ID]
    state, created = ask(database, wanting("all", wanted))
    assert created
    assert state.total == 200_000
    stored = batch_rows(database)
    assert len(stored) == 10_000
    assert [city for _, _, cities in stored for city in cities] == wanted


# -- cancelling --------------------------------------------------------------------------------------------------------


def end(database: Database, collection_id: str, after_s: float = 0) -> CollectionState | None:
    now = NOW + after_s * SECOND
    return database.write(lambda c: collections.cancel_all(c, now, [collection_id])).get(collection_id)


def test_an_open_collection_is_cancelled_once_and_no_other_one(database: Database) -> None:
    settle_batches(database, accept(database, "Mine", range(1, 31))[:1])
    settle_batches(database, accept(database, "done", [1]))
    accept(database, "other", [1])
    before = [found(database, name) for name in ("done", "other")]
    state = end(database, "Mine", 5)
    assert state == found(database, "Mine")
    assert (state.cancelled_at, state.finished_at) == (NOW + 5 * SECOND, NOW + 5 * SECOND)
    assert (state.total, state.settled) == (30, 20)
    assert [end(database, name, 6) for name in ("mine", "done", "Mine")] == [None, before[0], state]
    assert [found(database, name) for name in ("done", "other")] == before


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
    for failing in (None, "for the test"):
        after = database.write(lambda c, why=failing: enqueue(c, NOW, "test", 0, keys, why))  # type: ignore[misc]
        assert after.batches.keys() == set(keys)
    assert [row.collection_id for row in rows(database, QueuedCity)] == ["other"]
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


# -- forecasts ---------------------------------------------------------------------------------------------------------


def test_open_collections_are_listed_with_what_a_forecast_needs(database: Database) -> None:
    settle_batches(database, accept(database, "done", range(1, 31)))
    settle_batches(database, accept(database, "begun", range(1, 31))[:1], NOW + SECOND)
    accept(database, "new", range(1, 31))
    hashed = found(database, "new").cities_hash
    begun, new = OpenCollection("begun", hashed, 10, 20, 20, 20), OpenCollection("new", hashed, 30, 0, 0, 0)
    assert sorted(database.read(collections.open_collections)) == [begun, new]


def test_a_collection_is_foreseen_as_it_would_be_accepted(database: Database) -> None:
    request = wanting("mine", range(1, 31))
    foreseen = database.read(lambda connection: collections.foresee(connection, NOW, request))
    assert not rows(database, Collection)
    assert foreseen == ask(database, request)
    settle_batches(database, [BatchKey("mine", 0)])
    later = database.read(lambda connection: collections.foresee(connection, NOW + SECOND, request))
    assert later == (found(database, "mine"), False)
    with pytest.raises(OtherRequest, match="mine"):
        database.read(lambda connection: collections.foresee(connection, NOW, wanting("mine", [1])))


def test_cities_that_need_no_call_are_counted(database: Database) -> None:
    observed = {city_id: an_observation(city_id) for city_id in (1, 2, 3)}
    for fetched_at in (NOW - cities.UNKNOWN_TWICE_IN, NOW):
        database.write(partial(cities.remember, observed=observed, unknown=[4], fetched_at=fetched_at))
    settle_batches(database, accept(database, "mine", [1, 5]))

    def count(collection_id: str, after_s: float, age_s: int, city_ids: Sequence[int] = (1, 2, 4, 5)) -> int:
        state = replace(found(database, "mine"), id=collection_id, requested_at=NOW + after_s * SECOND, max_age_s=age_s)
        return database.read(lambda connection: cities.count_fresh(connection, state, city_ids))

    ages = [(0, 1), (0, 0), (10, 10), (10, 9), (10, 0), (86_401, 9)]
    assert [count("new", *age) for age in ages] == [3, 3, 3, 1, 0, 0]
    assert count("mine", 0, 1) == 2
    assert count("new", 0, 1, range(1, 3001)) == 4


# -- counting ----------------------------------------------------------------------------------------------------------


def test_collections_are_counted_by_state_and_ended_ones_for_an_hour(database: Database) -> None:
    def states(after_s: float, most: int = 100) -> dict[str, int]:
        return database.read(lambda c: collections.count_states(c, NOW + after_s * SECOND, most))

    for name in ("one", "two", "three", "some", "all", "cancelled"):
        accept(database, name, range(1, 41))
    settle_batches(database, [BatchKey("some", 0), BatchKey("all", 0), BatchKey("all", 1)])
    database.write(lambda c: collections.cancel_all(c, NOW, ["cancelled"]))
    assert states(60) == {"queued": 3, "collecting": 1, "done": 1, "cancelled": 1}
    assert states(4000) == {"queued": 3, "collecting": 1}
    assert sum(states(60, most=2).values()) == 4
