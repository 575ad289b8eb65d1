"""What is left of batches, what is fresh already, and what is kept of a failure."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from threading import Thread

import pytest
from sqlalchemy import Connection

from raingauge.observation import Observation
from raingauge.storage import cities, readings, wanted
from raingauge.storage.batches import BatchRef
from raingauge.storage.database import Database
from raingauge.storage.models import WEATHER_COLUMNS, Reading
from raingauge.storage.wanted import OpenBatch, Outcome, Want
from tests.contract.storage_support import (
    MICROSECOND,
    NOW,
    SECOND,
    accept,
    an_observation,
    cancel,
    rows,
    settle_batches,
    wants_of,
)

DAY = timedelta(days=1)
LONGEST = "🌦️雨ñ" * 50
"""200 characters, of which some take four bytes."""


def left(database: Database, refs: Sequence[BatchRef]) -> dict[BatchRef, OpenBatch]:
    return database.read(lambda connection: wanted.open_batches(connection, refs))


def settle(database: Database, outcomes: Mapping[Want, Outcome]) -> None:
    database.write(lambda connection: readings.settle(connection, NOW, outcomes))


def remember(
    database: Database, observations: Sequence[Observation], unknown: Sequence[int] = (), at: datetime = NOW
) -> None:
    seen = {observation.city_id: (at, observation) for observation in observations}
    database.write(lambda connection: cities.remember(connection, seen, dict.fromkeys(unknown, at)))


def fresh(database: Database, wants: Sequence[Want], now: datetime = NOW) -> dict[Want, Outcome]:
    return database.read(lambda connection: wanted.fresh(connection, now, wants))


def wants(city_id: int, *since: datetime) -> list[Want]:
    return [Want(BatchRef("1", number), city_id, moment) for number, moment in enumerate(since)]


def test_a_new_batch_is_left_whole(database: Database) -> None:
    refs = accept(database, "1", range(1, 31), max_age_s=90)
    since = NOW - 90 * SECOND
    assert left(database, refs) == {
        refs[0]: OpenBatch(refs[0], since, tuple(range(1, 21))),
        refs[1]: OpenBatch(refs[1], since, tuple(range(21, 31))),
    }
    assert left(database, refs)[refs[1]].wants == [Want(refs[1], city, since) for city in range(21, 31)]


def test_a_batch_that_the_database_does_not_know_is_left_out(database: Database) -> None:
    refs = accept(database, "one", range(1, 21))
    assert list(left(database, [BatchRef("one", 1), *refs, BatchRef("ONE", 0)])) == refs
    assert left(database, []) == {}


def test_of_several_collections_only_the_batches_asked_for_are_told(database: Database) -> None:
    (first, _), (_, second) = (accept(database, name, range(1, 41)) for name in ("one", "two"))
    assert left(database, [first, second]).keys() == {first, second}


def test_settled_cities_are_not_left(database: Database) -> None:
    refs = accept(database, "1", range(1, 41))
    settle(database, dict.fromkeys(wants_of(database, refs)[:5], "x"))
    assert left(database, refs)[refs[0]].city_ids == tuple(range(6, 21))
    assert left(database, refs)[refs[1]].city_ids == tuple(range(21, 41))


def test_a_city_settled_for_one_collection_is_left_for_another(database: Database) -> None:
    one, other = accept(database, "a", [1, 2, 3]), accept(database, "A", [1, 2, 3])
    settle(database, {want: "x" for want in wants_of(database, one) if want.city_id == 1})
    settle(database, {want: "x" for want in wants_of(database, other) if want.city_id == 2})
    both = left(database, [*one, *other])
    assert [both[ref].city_ids for ref in (*one, *other)] == [(2, 3), (1, 3)]


@pytest.mark.parametrize("how", ["settled", "cancelled"])
def test_nothing_is_left_of_what_is_over(database: Database, how: str) -> None:
    refs = accept(database, "1", range(1, 31))
    if how == "settled":
        settle_batches(database, refs)
    else:
        cancel(database, "1")
    assert [batch.city_ids for batch in left(database, refs).values()] == [(), ()]


def test_hundreds_of_batches_are_looked_up_together(database: Database) -> None:
    refs = accept(database, "1", range(1, 6001))
    assert sum(len(batch.city_ids) for batch in left(database, refs).values()) == 6000


def test_an_observation_is_fresh_for_those_who_want_none_later(database: Database) -> None:
    remember(database, [an_observation(5)])
    early, exact, late = wants(5, NOW - DAY, NOW, NOW + MICROSECOND)
    assert fresh(database, [early, exact, late, *wants(6, NOW - DAY)]) == {early: None, exact: None}


def test_what_was_found_fresh_is_what_is_copied_whoever_stores_an_older_one_meanwhile(database: Database) -> None:
    remember(database, [an_observation(5, temperature=21.0)])
    copied = wants_of(database, accept(database, "1", [5], max_age_s=0))
    older = Thread(target=remember, args=(database, [an_observation(5, temperature=9.0)]), kwargs={"at": NOW - SECOND})

    def work(connection: Connection) -> None:
        outcomes = wanted.fresh(connection, NOW, copied, lock=True)
        older.start()
        older.join(0.3)
        assert older.is_alive(), "it waits for this transaction"
        readings.settle(connection, NOW, outcomes)

    database.write(work)
    older.join(20)
    (read,) = rows(database, Reading)
    assert (read.fetched_at, read.temperature) == (NOW, 21.0)


def test_an_unknown_city_stays_unknown_for_a_day(database: Database) -> None:
    remember(database, [], unknown=[5])
    (want,) = wants(5, NOW)
    assert fresh(database, [want], NOW + DAY) == {want: "unknown city"}
    assert fresh(database, [want], NOW + DAY + MICROSECOND) == {}


def test_a_fresh_observation_beats_an_unknown_city(database: Database) -> None:
    remember(database, [an_observation(5)])
    remember(database, [], unknown=[5], at=NOW + SECOND)
    old, new = wants(5, NOW, NOW + SECOND)
    assert fresh(database, [old, new]) == {old: None, new: "unknown city"}


def test_nothing_is_fresh_for_nobody(database: Database) -> None:
    assert fresh(database, []) == {}


def test_every_reason_of_a_failure_fits(database: Database) -> None:
    accept(database, "1", [1])
    settle_wants = wants_of(database, [BatchRef("1", 0)])
    settle(database, dict.fromkeys(settle_wants, LONGEST + "🌧️ and more"))
    (read,) = rows(database, Reading)
    assert read.reason == LONGEST
    assert {getattr(read, name) for name in WEATHER_COLUMNS} == {None}


def test_unexpected_errors_are_counted_by_batch(database: Database) -> None:
    ref, other = accept(database, "1", range(1, 31))
    count = [database.write(lambda connection: readings.count_attempt(connection, ref)) for _ in range(3)]
    assert count == [1, 2, 3]
    assert database.write(lambda connection: readings.count_attempt(connection, other)) == 1
    assert database.write(lambda connection: readings.count_attempt(connection, BatchRef("1", 2))) == 0
