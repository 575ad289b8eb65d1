"""Settling: each city of a collection once, and counters that are exact, however often and by whomever it is done."""

import random
from contextlib import closing
from functools import partial

import pytest
from sqlalchemy import update

from raingauge.database import Database, open_database
from raingauge.storage import settling
from raingauge.storage.cities import UNKNOWN_TWICE_IN
from raingauge.storage.models import Batch, City, Collection, QueuedCity, Reading
from raingauge.storage.settling import GIVEN_UP, Fetched, Settled
from tests.contract.ledger_support import Account, Consumer, assert_exact
from tests.contract.storage_support import LONGEST, NOW, SECOND, an_observation, at_once, rows


@pytest.fixture
def account(database: Database) -> Account:
    return Account(database, cities_per_window=100_000)


@pytest.fixture
def consumer(account: Account) -> Consumer:
    return account.consumer()


def weather(*city_ids: int, charge_id: int = 0) -> Fetched:
    """An answer about these cities."""
    return Fetched(charge_id, city_ids, NOW, {city_id: an_observation(city_id) for city_id in city_ids})


def test_settled_cities_are_counted_and_the_last_one_finishes_batch_and_collection(
    account: Account, consumer: Consumer
) -> None:
    account.want("one", range(1, 23))
    account.remember(unknown=range(3, 23, 3), at=NOW - UNKNOWN_TWICE_IN)
    for number in range(1, 23):
        assert account.collection("one").finished_at is None
        account.moment.forward(1)
        answer = weather(number) if number % 3 else Fetched(0, [number], NOW, unknown=frozenset({number}))
        settled = consumer.settle_fetched(answer)
        state = account.collection("one")
        assert (state.collected + state.failed, state.last_progress_at) == (number, account.moment.now)
        assert_exact(account.database)
    (finished,) = settled.collections
    assert (finished.collection_id, finished.collected, finished.failed, finished.seconds) == ("one", 15, 7, 22.0)
    batches = [(row.settled, row.settled_at) for row in rows(account.database, Batch)]
    assert batches == [(20, NOW + 20 * SECOND), (2, NOW + 22 * SECOND)]
    assert not rows(account.database, QueuedCity)


def test_settling_twice_changes_nothing_but_the_latest_weather(account: Account, consumer: Consumer) -> None:
    account.want("one", range(1, 31))
    consumer.settle_fetched(weather(*range(1, 26)))
    before = [rows(account.database, table) for table in (Collection, Batch, Reading)]
    account.moment.forward(1)
    again = Fetched(0, [1, 2], NOW, {1: an_observation(1, temperature=-5.0)}, frozenset({2}))
    assert consumer.settle_fetched(again) == Settled()
    assert [rows(account.database, table) for table in (Collection, Batch, Reading)] == before
    assert rows(account.database, City)[0].temperature == -5.0


def test_a_city_that_is_wanted_from_a_future_is_settled_by_the_next_answer(
    account: Account, consumer: Consumer
) -> None:
    account.moment.forward(1800)
    account.want("one", [1], max_age_s=0)
    account.moment.forward(-1799)  # the database's clock steps back, and no charge has seen the time between
    assert [done.collection_id for done in consumer.settle(consumer.take()).collections] == ["one"]


def test_a_row_of_a_collection_that_ended_leaves_the_queue_when_it_got_a_turn_meanwhile(
    account: Account, consumer: Consumer
) -> None:
    account.want("over", [1, 2])
    account.want("going", [1])
    consumer.take()
    account.cancel("over")
    ready = {"charge_id": None, "ready_at": None, "turn": 1, "newcomer": False}
    this = (QueuedCity.collection_id == "over", QueuedCity.city_id == 1)
    account.database.write(lambda connection: connection.execute(update(QueuedCity).where(*this).values(ready)))
    account.remember(1)
    now = account.database.now
    account.database.write(lambda connection: settling.settle_fresh(connection, now(connection), [1]))
    assert {(row.collection_id, row.city_id) for row in rows(account.database, QueuedCity)} == {("over", 2)}


def test_a_city_that_fails_again_and_again_is_given_up_for_all_who_want_it(
    account: Account, consumer: Consumer
) -> None:
    account.want("one", [1, 2])
    for _ in range(2):
        taken = consumer.take()
        assert consumer.settle(taken, failed=[1]).collections == []
        account.moment.forward(2)
    account.want("two", [1])
    settled = consumer.settle(consumer.take(), failed=[1])
    ended = {(done.collection_id, done.collected, done.failed) for done in settled.collections}
    assert ended == {("one", 1, 1), ("two", 0, 1)}
    assert [row.reason for row in rows(account.database, Reading) if row.status == "failed"] == [GIVEN_UP] * 2


def test_a_failure_of_the_provider_counts_against_no_city(account: Account, consumer: Consumer) -> None:
    account.want("one", [1, 2])
    for _ in range(5):
        taken = consumer.take()
        consumer.settle_fetched(Fetched(taken.charge_id or 0, taken.city_ids, NOW, failed=frozenset({1, 2})))
        account.moment.forward(2)
    assert [row.attempts for row in rows(account.database, QueuedCity)] == [0, 0]


def test_what_a_call_did_not_settle_is_released_and_what_others_claimed_is_not(
    account: Account, consumer: Consumer
) -> None:
    account.want("one", range(1, 41))
    first, second = consumer.take(), consumer.take()
    consumer.settle(first, lost=first.city_ids)
    queued = rows(account.database, QueuedCity)
    assert {row.city_id for row in queued if row.charge_id is not None} == set(second.city_ids)
    assert {row.ready_at for row in queued if row.charge_id is None} == {NOW}
    assert sorted(consumer.take().city_ids) == sorted(first.city_ids)


def test_a_city_can_be_failed_for_every_collection_that_wants_it(account: Account, consumer: Consumer) -> None:
    batches = account.post("one", range(1, 31))
    account.enqueue(batches)
    account.want("two", [1])
    consumer.settle_fetched(weather(2))
    now = account.database.now
    failed = account.database.write(lambda c: settling.fail_city(c, now(c), 1, LONGEST + "🌧️ and more"))
    assert [done.collection_id for done in failed.collections] == ["two"]
    assert {row.reason for row in rows(account.database, Reading) if row.status == "failed"} == {LONGEST}
    assert (account.collection("one").collected, account.collection("one").failed) == (1, 1)
    assert_exact(account.database)


def test_a_city_that_another_call_fetched_is_settled_from_its_latest_weather(
    account: Account, consumer: Consumer
) -> None:
    account.want("one", [1, 2, 3])
    account.want("two", [1], max_age_s=0)
    account.moment.forward(1)
    for before in (UNKNOWN_TWICE_IN + SECOND, SECOND):
        account.remember(1, unknown=[2], at=NOW - before)
    settled = account.database.write(lambda c: settling.settle_fresh(c, account.moment.now, [1, 2, 3]))
    assert settled == Settled()
    assert {(row.city_id, row.status) for row in rows(account.database, Reading)} == {(1, "collected"), (2, "failed")}
    assert [(row.collection_id, row.city_id) for row in rows(account.database, QueuedCity)] == [("one", 3), ("two", 1)]
    assert_exact(account.database)


def test_a_city_that_the_provider_does_not_know_rests_once_before_it_fails(
    account: Account, consumer: Consumer
) -> None:
    account.want("one", [1, 2])
    consumer.settle(consumer.take(), unknown=[1])
    assert account.collection("one").failed == 0
    account.moment.forward(59)
    assert consumer.refused().reason is None
    account.moment.forward(1)
    taken = consumer.take()
    assert taken.city_ids == [1]
    consumer.settle(taken, unknown=[1])
    assert (account.collection("one").collected, account.collection("one").failed) == (1, 1)
    assert_exact(account.database)


def test_calls_that_are_settled_at_once_in_any_order_count_each_city_once(account: Account, consumer: Consumer) -> None:
    """Each thread has all cities, in its own order and grouping; each also enqueues the batches again."""
    batches = {name: account.post(name, range(1, 41)) for name in ("a", "b", "c")}
    account.enqueue([key for keys in batches.values() for key in keys])

    def work(number: int) -> list[str]:
        chance = random.Random(number)
        url = account.database.engine.url
        with closing(open_database(url.render_as_string(hide_password=False), 1, account.moment)) as own:
            mine = Consumer(own, account.name, account.terms, "group", f"{number}")
            cities = list(range(1, 41))
            chance.shuffle(cities)
            done = []
            for start in range(0, 40, 8):
                some = cities[start : start + 8]
                bad = frozenset(city for city in some if city % 7 == 0)
                seen = {city: an_observation(city) for city in some if city not in bad}
                settled = mine.settle_fetched(Fetched(0, some, NOW, seen, bad))
                done += [finished.collection_id for finished in settled.collections]
                account.enqueue(chance.choice(list(batches.values())))
            return done

    account.remember(unknown=range(7, 41, 7), at=NOW - UNKNOWN_TWICE_IN)
    finished = at_once([partial(work, number) for number in range(6)])
    assert sorted(name for names in finished for name in names) == ["a", "b", "c"]
    assert {(row.collected, row.failed) for row in rows(account.database, Collection)} == {(35, 5)}
    assert not rows(account.database, QueuedCity)
    assert_exact(account.database)
