"""Settling: each city of a collection once, and counters that are exact, however often and by whomever it is done."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import datetime
from functools import partial

import pytest
from sqlalchemy import Connection

from raingauge.storage import cities, readings
from raingauge.storage.batches import BatchRef
from raingauge.storage.database import Database, open_database
from raingauge.storage.models import Batch, Collection, Reading
from raingauge.storage.wanted import Outcome, Want
from tests.contract.storage_support import (
    NOW,
    ON_SERVERS,
    SECOND,
    accept,
    an_observation,
    at_once,
    cancel,
    found,
    rows,
    wants_of,
)


def settle(database: Database, outcomes: Mapping[Want, Outcome], now: datetime = NOW) -> None:
    """With weather for what is collected."""
    observed = {want.city_id: (NOW, an_observation(want.city_id)) for want in outcomes if outcomes[want] is None}

    def work(connection: Connection) -> None:
        cities.remember(connection, observed, {})
        readings.settle(connection, now, outcomes)

    database.write(work)


def mixed(wants: Sequence[Want]) -> dict[Want, Outcome]:
    """Every third city failed, the others collected."""
    return {want: None if want.city_id % 3 else "out of order" for want in wants}


def batch_states(database: Database) -> list[tuple[int, datetime | None]]:
    return [(row.settled, row.settled_at) for row in rows(database, Batch)]


def assert_exact(database: Database) -> None:
    """The counters of collections and batches are what the readings say."""
    status = Counter((row.collection_id, row.status) for row in rows(database, Reading))
    for row in rows(database, Collection):
        assert (row.collected, row.failed) == (status[row.id, "collected"], status[row.id, "failed"])
        assert (row.finished_at is not None) == (row.collected + row.failed == row.total)
    settled = Counter(row.collection_id for row in rows(database, Reading))
    for row in rows(database, Batch):
        settled[row.collection_id] -= row.settled
        assert (row.settled_at is not None) == (row.settled == row.size)
    assert not any(settled.values())


def test_settled_cities_are_counted(database: Database) -> None:
    refs = accept(database, "1", range(1, 31))
    settle(database, mixed(wants_of(database, refs)[:25]))
    state = found(database, "1")
    assert (state.collected, state.failed, state.last_progress_at, state.finished_at) == (17, 8, NOW, None)
    assert batch_states(database) == [(20, NOW), (5, None)]
    assert_exact(database)


def test_settling_twice_changes_nothing(database: Database) -> None:
    refs = accept(database, "1", range(1, 31))
    outcomes = mixed(wants_of(database, refs)[:25])
    settle(database, outcomes)
    before = [rows(database, table) for table in (Collection, Batch, Reading)]
    settle(database, outcomes, NOW + SECOND)
    assert [rows(database, table) for table in (Collection, Batch, Reading)] == before


def test_a_settled_city_keeps_its_first_outcome(database: Database) -> None:
    (ref,) = accept(database, "1", [1, 2, 3])
    one, two, three = wants_of(database, [ref])
    settle(database, {one: "first", two: None})
    before = rows(database, Reading)
    settle(database, {one: None, two: "second", three: "third"})
    assert rows(database, Reading)[:2] == before
    assert (found(database, "1").collected, found(database, "1").failed) == (1, 2)
    assert_exact(database)


def test_a_collection_is_finished_by_its_last_city_and_not_before(database: Database) -> None:
    wants = wants_of(database, accept(database, "1", range(1, 23)))
    for number, (want, outcome) in enumerate(mixed(wants).items(), start=1):
        assert found(database, "1").finished_at is None
        settle(database, {want: outcome}, NOW + number * SECOND)
        assert found(database, "1").settled == number
        assert found(database, "1").last_progress_at == NOW + number * SECOND
    assert found(database, "1").finished_at == NOW + 22 * SECOND
    assert batch_states(database) == [(20, NOW + 20 * SECOND), (2, NOW + 22 * SECOND)]


def test_one_call_settles_cities_of_many_collections(database: Database) -> None:
    refs = [ref for name in ("b", "B", "a") for ref in accept(database, name, range(1, 26))]
    settle(database, mixed(wants_of(database, refs)))
    assert [found(database, name).settled for name in ("a", "b", "B")] == [25, 25, 25]
    assert_exact(database)


@pytest.mark.parametrize("how", ["settled", "cancelled"])
def test_a_collection_that_is_over_gets_nothing_more(database: Database, how: str) -> None:
    wants = wants_of(database, accept(database, "over", [1, 2, 3]))
    going = wants_of(database, accept(database, "going", [1, 2, 3]))
    if how == "settled":
        settle(database, mixed(wants))
    else:
        cancel(database, "over")
    before = found(database, "over"), [row for row in rows(database, Reading) if row.collection_id == "over"]
    beyond = Want(BatchRef("over", 0), 4, NOW)
    settle(database, mixed([*wants, beyond, *going]), NOW + SECOND)
    after = found(database, "over"), [row for row in rows(database, Reading) if row.collection_id == "over"]
    assert after == before
    assert found(database, "going").finished_at == NOW + SECOND


def test_a_collection_that_does_not_exist_is_passed_over(database: Database) -> None:
    wants = wants_of(database, accept(database, "1", [1, 2]))
    settle(database, mixed([Want(BatchRef("gone", 0), 1, NOW), *wants]))
    assert [row.collection_id for row in rows(database, Reading)] == ["1", "1"]
    assert_exact(database)


def test_a_city_without_weather_cannot_be_collected(database: Database) -> None:
    wants = wants_of(database, accept(database, "1", [1, 2]))
    with pytest.raises(LookupError, match=r"\[1, 2\]"):
        database.write(lambda connection: readings.settle(connection, NOW, dict.fromkeys(wants)))
    assert found(database, "1").settled == 0


def test_nothing_to_settle_changes_nothing(database: Database) -> None:
    accept(database, "1", [1])
    settle(database, {})
    assert found(database, "1").last_progress_at is None


@pytest.mark.parametrize("seed", [1, 2])
def test_settling_at_once_in_any_order_counts_every_city_once(database: Database, seed: int) -> None:
    names = ["a", "b", "c"]
    wants = wants_of(database, [ref for name in names for ref in accept(database, name, range(1, 46))])
    settle(database, mixed(wants[40:50]))

    def work(number: int) -> None:
        chance = random.Random(100 * seed + number)
        mine = chance.sample(wants, len(wants))
        mine.sort(key=lambda want: want.ref.collection_id, reverse=number % 2 == 1)
        while mine:
            size = chance.randint(1, 40)
            some, mine = mine[:size], mine[size:]
            settle(database, mixed(some), NOW + number * SECOND)

    at_once([partial(work, number) for number in range(6)])
    assert_exact(database)
    assert [found(database, name).settled for name in names] == [45, 45, 45]
    assert {(found(database, name).collected, found(database, name).failed) for name in names} == {(30, 15)}


def test_workers_that_share_a_collection_settle_its_parts_at_once(database: Database) -> None:
    refs = accept(database, "1", range(1, 401))
    parts = [mixed(wants_of(database, [ref])) for ref in refs]
    at_once([partial(settle, database, part) for part in parts])
    assert found(database, "1").settled == 400
    assert found(database, "1").finished_at == NOW
    assert_exact(database)


@ON_SERVERS
@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/St_Johns"])
def test_times_are_utc_whatever_zone_the_session_has(
    database: Database, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    monkeypatch.setenv("PGTZ", zone)  # what libpq gives every session; MySQL's is set by the program itself
    with closing(open_database(database.engine.url.render_as_string(hide_password=False))) as elsewhere:
        settle(elsewhere, mixed(wants_of(elsewhere, accept(elsewhere, "1", [1]))))
        state = found(elsewhere, "1")
        assert (state.requested_at, state.last_progress_at, state.finished_at) == (NOW, NOW, NOW)
        assert batch_states(elsewhere) == [(1, NOW)]
        ours, theirs = elsewhere.read(elsewhere.now), database.read(database.now)
    assert abs(ours - theirs) < SECOND
