"""The queue: which cities join it, whose turn is next, and that a city is fetched once whoever wants it."""

from collections import Counter
from collections.abc import Iterable, Sequence

import pytest
from sqlalchemy import update

from consumer.gate import Event
from consumer.ledger import Reservation
from raingauge.database import Database
from raingauge.model import BatchKey, CollectionRequest
from raingauge.storage import enqueueing
from raingauge.storage.collections import accept_all
from raingauge.storage.models import QueuedCity, Reading
from raingauge.storage.queue import DELETED
from raingauge.storage.retention import delete_collection
from tests.contract.ledger_support import CLAIM_S, Account, Consumer, assert_exact
from tests.contract.storage_support import NOW, SECOND, rows


def rich(database: Database, name: str = "account") -> tuple[Account, Consumer]:
    """An account whose quota is never what holds its consumer back."""
    account = Account(database, name=name, cities_per_window=100_000)
    return account, account.consumer()


def fetch(account: Account, consumer: Consumer, name: str, city_ids: Sequence[int], **kinds: Iterable[int]) -> None:
    """Have a collection of these cities, and fetch all of them; unknown ones twice."""
    account.want(name, city_ids)
    for wait_s in (0, 60):
        account.moment.forward(wait_s if "unknown" in kinds else 0)
        while isinstance(taken := consumer.reserve(), Reservation):
            consumer.settle(taken, **kinds)


# -- enqueueing --------------------------------------------------------------------------------------------------------


def test_enqueueing_is_complete_and_doing_it_twice_does_no_harm(database: Database) -> None:
    account, consumer = rich(database)
    batches = account.post("one", range(1, 51))
    account.enqueue(batches[:1])
    before = rows(database, QueuedCity)
    account.enqueue([batches[0], *batches])
    after = rows(database, QueuedCity)
    assert after[:20] == before
    assert [(row.city_id, row.batch, row.since) for row in after] == [
        (city_id, (city_id - 1) // 20, NOW - 600 * SECOND) for city_id in range(1, 51)
    ]
    consumer.settle(consumer.take())
    settled = account.enqueue(batches)
    assert settled.batches.keys() == set(batches[:1])
    assert len(rows(database, QueuedCity)) == 30
    assert account.collection("one").last_turn == 50


def test_a_batch_that_the_database_does_not_know_is_named(database: Database) -> None:
    account, _ = rich(database)
    (known,) = account.post("one", [1, 2])
    unknown = {BatchKey("one", 1), BatchKey("ONE", 0), BatchKey("gone", 0)}
    assert account.enqueue([known, *unknown]).unknown == unknown
    assert len(rows(database, QueuedCity)) == 2


def test_fresh_and_unknown_cities_are_settled_at_once_and_requested_again_when_that_was_too_long_ago(
    database: Database,
) -> None:
    account, consumer = rich(database)
    fetch(account, consumer, "first", range(1, 6), unknown=[5])
    settled = account.want("second", range(1, 6))
    assert [(done.collection_id, done.collected, done.failed) for done in settled.collections] == [("second", 4, 1)]
    assert settled.batches.keys() == {BatchKey("second", 0)}
    assert {row.reason for row in rows(database, Reading) if row.status == "failed"} == {"unknown city"}
    assert_exact(database)
    for after_s, max_age_s, requested in ((601, 600, [1, 2, 3, 4]), (86_400, 600, [1, 2, 3, 4, 5]), (1, 0, [1, 5])):
        assert not rows(database, QueuedCity)
        account.moment.forward(after_s)
        account.want(f"after {after_s} s", requested + ([5] if after_s == 601 else []), max_age_s)
        taken = consumer.take()
        assert sorted(taken.city_ids) == requested
        assert len(consumer.settle(taken).collections) == 1


def test_a_batch_can_be_failed_instead_but_not_what_is_settled_of_it(database: Database) -> None:
    account, consumer = rich(database)
    fetch(account, consumer, "first", [1])
    batches = account.post("one", [1, 2, 3])
    settled = account.enqueue(batches, failing="internal error")
    assert settled.batches.keys() == set(batches)
    assert [row.reason for row in rows(database, Reading) if row.collection_id == "one"] == ["internal error"] * 3
    assert account.enqueue(batches).batches.keys() == set(batches)
    assert account.collection("one").failed == 3
    assert_exact(database)


def test_cities_of_a_cancelled_collection_are_not_fetched_again_while_a_call_fetches_them_for_others(
    database: Database,
) -> None:
    account, consumer = rich(database)
    account.want("mine", range(1, 31))
    taken = consumer.take()
    account.cancel("mine")
    cancelled = account.collection("mine")
    account.moment.forward(1)
    account.want("other", range(11, 31))
    account.want("small", range(1, 4))
    assert sorted(consumer.take().city_ids) == [*range(21, 31)]
    assert [done.collection_id for done in consumer.settle(taken).collections] == ["small"]
    assert (account.collection("mine"), account.collection("other").collected) == (cancelled, 10)
    assert {row.collection_id for row in rows(database, QueuedCity)} == {"mine", "other"}
    account.want_new(1)
    consumer.take()
    assert "mine" not in {row.collection_id for row in rows(database, QueuedCity)}


def test_nor_while_the_collection_is_deleted_and_another_has_its_id(database: Database) -> None:
    account, consumer = rich(database)
    account.want("mine", range(1, 31))
    account.want("yours", range(1, 31))
    taken = consumer.take()
    for name in ("mine", "yours"):
        account.cancel(name)
        database.write(lambda c, name=name: delete_collection(c, NOW, name))  # type: ignore[misc]
    account.want("mine", range(11, 31))
    assert sorted(consumer.take().city_ids) == [*range(21, 31)]
    consumer.settle(taken)
    assert account.collection("mine").collected == 10
    account.want_new(1)
    consumer.take()
    assert DELETED not in {row.collection_id for row in rows(database, QueuedCity)}


def test_it_says_which_batches_need_no_further_work_and_counts_attempts_at_the_others(database: Database) -> None:
    account, consumer = rich(database)
    half, over, gone = account.post("half", range(1, 31)), account.post("over", range(100, 103)), BatchKey("gone", 0)
    account.enqueue(half[:1])
    consumer.settle(consumer.take())
    account.cancel("over")
    keys = dict.fromkeys([*half, *over, gone], NOW)
    assert database.read(lambda c: enqueueing.settled_batches(c, keys)) == {half[0], over[0]}
    attempts = [database.write(lambda c, key=key: enqueueing.count_attempt(c, key)) for key in (half[1], half[1], gone)]  # type: ignore[misc]
    assert attempts == [1, 2, 0]


# -- turns -------------------------------------------------------------------------------------------------------------


def test_open_collections_share_equally_whatever_their_size(database: Database) -> None:
    account, consumer = rich(database)
    account.want("small", range(1, 41))
    account.want("large", range(1000, 1400))
    account.want("huge", range(10_000, 12_000))
    for _ in range(5):
        consumer.settle(consumer.take())
    collected = [account.collection(name).collected for name in ("small", "large", "huge")]
    assert sum(collected) == 100
    assert max(collected) - min(collected) <= 5, collected


def test_the_first_few_of_a_new_collection_ride_in_the_next_call(database: Database) -> None:
    account, consumer = rich(database)
    account.want("large", range(1, 1001))
    for _ in range(10):
        consumer.settle(consumer.take())
    account.want("small", range(5001, 5006))
    taken = consumer.take()
    assert set(range(5001, 5006)) <= set(taken.city_ids)
    assert len(taken.city_ids) == 20
    assert [done.collection_id for done in consumer.settle(taken).collections] == ["small"]


def test_newcomers_get_at_most_half_of_a_call_while_others_wait(database: Database) -> None:
    account, consumer = rich(database)
    account.want("large", range(1, 101))
    consumer.settle(consumer.take())
    for number in range(10):
        account.want(f"new-{number}", range(1000 + 5 * number, 1005 + 5 * number))
    taken = consumer.take()
    assert Counter(city_id < 1000 for city_id in taken.city_ids) == {True: 10, False: 10}
    account.cancel("large")
    assert len(consumer.take().city_ids) == 20


def test_an_idle_collection_saves_nothing_up(database: Database) -> None:
    account, consumer = rich(database)
    batches = account.post("late", range(5001, 5101))
    account.enqueue(batches[:1])
    account.want("large", range(1, 1001))
    for _ in range(10):
        consumer.settle(consumer.take())
    account.enqueue(batches[1:])
    late = sum(city_id > 5000 for _ in range(4) for city_id in consumer.take().city_ids)
    assert 36 <= late <= 44


# -- one fetch for all -------------------------------------------------------------------------------------------------


def test_a_city_that_several_collections_want_is_fetched_once_and_settles_them_all(database: Database) -> None:
    account, consumer = rich(database)
    for name in ("a", "A", "b"):
        account.want(name, [1, 2, 3])
    taken = consumer.take()
    assert sorted(taken.city_ids) == [1, 2, 3]
    assert {row.charge_id for row in rows(database, QueuedCity)} == {taken.charge_id}
    assert sorted(done.collection_id for done in consumer.settle(taken).collections) == ["A", "a", "b"]
    assert_exact(database)


def test_a_row_that_joined_during_the_call_waits_for_that_call(database: Database) -> None:
    account, consumer = rich(database)
    account.want("first", [1, 2])
    taken = consumer.take()
    account.moment.forward(1)
    account.want("joined", [1, 2, 3])
    account.want("impatient", [1], max_age_s=0)
    second = consumer.take()
    assert second.city_ids == [3]
    settled = consumer.settle(taken)
    assert [done.collection_id for done in settled.collections] == ["first"]
    assert account.collection("joined").collected == 2
    assert consumer.take().city_ids == [1], "the observation was older than the impatient one wants"


def test_a_row_that_joined_a_call_just_before_its_settlement_was_committed_is_settled_soon(database: Database) -> None:
    account, consumer = rich(database)
    account.want("first", [1])
    taken = consumer.take()
    account.want("joined", [1, 2])
    assert consumer.take().city_ids == [2]
    joined = (QueuedCity.collection_id == "joined", QueuedCity.city_id == 1)
    unseen = {"city_id": 99}  # by the settlement, whose snapshot is older
    database.write(lambda c: c.execute(update(QueuedCity).where(*joined).values(unseen)))
    consumer.settle(taken)
    database.write(lambda c: c.execute(update(QueuedCity).where(QueuedCity.city_id == 99).values(city_id=1)))
    account.moment.forward(2)
    answer = consumer.reserve()
    assert isinstance(answer, Reservation)
    assert answer.fresh == (1,)


def test_two_accounts_request_their_own_cities_and_settle_those_that_the_other_fetched_without_a_call(
    database: Database,
) -> None:
    account, consumer = rich(database)
    other, theirs = rich(database, "other")
    account.want("one", [1, 2, 3])
    other.want("two", [1, 2])
    taken = theirs.take()
    assert sorted(taken.city_ids) == [1, 2]
    theirs.settle(taken)
    assert {row.collection_id for row in rows(database, QueuedCity)} == {"one"}
    taken = consumer.take()
    assert taken.city_ids == [3]
    assert len(consumer.settle(taken).collections) == 1
    assert_exact(database)


def test_a_claim_expires_and_its_cities_get_a_turn_again(database: Database) -> None:
    account, consumer = rich(database)
    account.want("one", range(1, 21))
    lost = consumer.take()
    account.moment.forward(CLAIM_S - 0.001)
    consumer.refused()
    account.moment.forward(0.001)
    again = account.consumer("two").take()
    assert sorted(again.city_ids) == sorted(lost.city_ids)
    # The first call is answered after all: its weather counts, and the second call stores nothing twice.
    assert len(consumer.settle(lost).collections) == 1
    assert consumer.settle(again).collections == []
    assert_exact(database)


def test_a_failed_city_rests_and_then_waits_for_the_last_turn_of_its_collection(database: Database) -> None:
    account, consumer = rich(database)
    account.want("one", range(1, 61))
    taken = consumer.take()
    failed = taken.city_ids[0]
    consumer.settle(taken, failed=[failed])
    account.want("two", range(101, 131))
    account.moment.forward(1.9)
    before = consumer.take().city_ids
    account.moment.forward(0.1)
    before += [*consumer.take().city_ids, *consumer.take().city_ids]
    assert sorted(before) == [*range(21, 51), *range(101, 131)]
    assert sorted(consumer.take().city_ids) == [failed, *range(51, 61)]


def test_a_city_of_a_refused_group_is_requested_alone(database: Database) -> None:
    account, consumer = rich(database)
    account.want("one", [1, 2, 3])
    taken = consumer.take()
    consumer.settle(taken, split=taken.city_ids)
    account.want("two", range(10, 20))
    alone = consumer.take(calls=2)
    assert [len(call) for call in alone.calls] == [1, 1, 1, 10]
    assert alone.lanes == 2


def test_while_the_provider_is_in_doubt_a_good_city_is_requested_instead_of_a_failing_one(database: Database) -> None:
    account, consumer = rich(database)
    fetch(account, consumer, "good", [7])
    account.want("bad", [1])
    taken = consumer.take()
    consumer.report(taken, Event.SILENT)
    consumer.settle(taken, failed=[1])
    account.moment.forward(2)
    instead = consumer.take()
    assert instead.city_ids == [7]
    consumer.report(instead, Event.ANSWERED)
    consumer.settle(instead)
    assert consumer.take().city_ids == [1]


@pytest.mark.parametrize("refusal", [Event.QUOTA, Event.KEY])
def test_a_closed_gate_is_probed_with_a_good_city_when_the_probe_of_the_only_wanted_one_failed(
    database: Database, refusal: Event
) -> None:
    account, consumer = rich(database)
    fetch(account, consumer, "good", [7])
    account.want("bad", [1])
    consumer.report(consumer.take(), refusal)
    account.moment.forward(60)
    probe = consumer.take()
    assert probe.city_ids == [1]
    consumer.report(probe, Event.SILENT)
    consumer.settle(probe, failed=[1])
    account.moment.forward(60)
    assert consumer.take().city_ids == [7]


@pytest.mark.long
def test_a_thousand_collections_that_want_the_same_cities_are_settled_by_one_call(database: Database) -> None:
    account, consumer = rich(database)
    requests = [CollectionRequest(f"{number:04}", range(1, 21), 600, named=True) for number in range(1000)]
    database.write(lambda connection: accept_all(connection, NOW, requests, {}, 10))
    batches = [BatchKey(request.id, 0) for request in requests]
    account.enqueue(batches)
    taken = consumer.take()
    assert sorted(taken.city_ids) == list(range(1, 21))
    consumer.refused()
    settled = consumer.settle(taken)
    assert len(settled.collections) == 1000
    assert settled.batches.keys() == set(batches)
