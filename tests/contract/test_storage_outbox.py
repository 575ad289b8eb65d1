"""The outbox: who may publish which batches, how many at a time, and when again."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import update

from raingauge.contracts import BatchMessage
from raingauge.model import BatchKey
from raingauge.storage import outbox
from raingauge.storage.database import Database
from raingauge.storage.models import Batch
from raingauge.storage.outbox import Lease
from tests.contract.storage_support import MICROSECOND, NOW, SECOND, accept, cancel, rows, settle_batches

LEASED_FOR = timedelta(seconds=30)
LATER = NOW + LEASED_FOR


def lease(
    database: Database, now: datetime = NOW, holder: str = "relay", outstanding: int = 10, most: int = 500
) -> list[BatchMessage]:
    taken = Lease(holder, now + LEASED_FOR)
    return database.write(lambda connection: outbox.lease(connection, now, taken, outstanding, most).messages)


def lease_refs(database: Database, now: datetime = NOW, holder: str = "relay", outstanding: int = 10) -> list[BatchKey]:
    return [BatchKey(message.collection_id, message.batch) for message in lease(database, now, holder, outstanding)]


def publish(database: Database, refs: Sequence[BatchKey], now: datetime = NOW, holder: str = "relay") -> None:
    database.write(lambda connection: outbox.mark_published(connection, now, refs, holder))


def renew(database: Database, refs: Sequence[BatchKey], holder: str, until: datetime) -> None:
    database.write(lambda connection: outbox.renew(connection, refs, Lease(holder, until)))


def release(database: Database, refs: Sequence[BatchKey], holder: str) -> None:
    database.write(lambda connection: outbox.release(connection, refs, holder))


def test_a_lease_brings_the_messages_whole(database: Database) -> None:
    accept(database, "Trip-7", range(100, 145), max_age_s=30)
    common = {"collection_id": "Trip-7", "batches": 3, "total": 45, "max_age_s": 30, "requested_at": NOW}
    assert lease(database) == [
        BatchMessage(batch=0, city_ids=tuple(range(100, 120)), **common),
        BatchMessage(batch=1, city_ids=tuple(range(120, 140)), **common),
        BatchMessage(batch=2, city_ids=tuple(range(140, 145)), **common),
    ]


@pytest.mark.parametrize("corrupt", ["[1,", "7", "{}", "[]", '["a"]', "[0]", "[" * 60_000])
def test_a_batch_that_cannot_be_read_is_set_aside_and_the_others_go_on(database: Database, corrupt: str) -> None:
    bad, good = accept(database, "1", range(1, 41))
    (other,) = accept(database, "2", range(1, 21))
    spoil(database, bad, corrupt)
    for holder in ("relay", "other"):
        taken = Lease(holder, LATER)
        found = database.write(partial(outbox.lease, now=NOW, lease=taken, outstanding=1, most=500))
        # It takes no room: with one batch of a collection at a time the next one goes all the same.
        assert found.unreadable == ([bad] if holder == "relay" else [])
        assert [m.key for m in found.messages] == (["2/0"] if holder == "relay" else ["1/1"])
    assert [(row.published_at, row.attempts) for row in rows(database, Batch)] == [(None, 0)] * 3
    spoil(database, bad, "[1]")
    assert lease_refs(database, LATER, outstanding=1) == [bad, other]
    assert good.batch == 1


def spoil(database: Database, ref: BatchKey, city_ids: str) -> None:
    this = (Batch.collection_id == ref.collection_id, Batch.batch == ref.batch)
    database.write(lambda connection: connection.execute(update(Batch).where(*this).values(city_ids=city_ids)))


def test_only_the_collections_asked_for_are_looked_at(database: Database) -> None:
    for name in ("one", "two", "three"):
        accept(database, name, range(1, 21))
    taken = Lease("relay", LATER)
    found = database.write(lambda c: outbox.lease(c, NOW, taken, 10, 500, ["three", "none", "one"]))
    assert [message.collection_id for message in found.messages] == ["one", "three"]
    assert not database.write(lambda c: outbox.lease(c, NOW, taken, 10, 500, [])).messages


def test_batches_that_were_published_in_another_order_are_all_published(database: Database) -> None:
    refs = accept(database, "1", range(1, 101))
    lease(database)
    publish(database, [refs[0], refs[2]])
    release(database, [refs[1], *refs[3:]], "relay")
    found = [ref for _ in range(2) for ref in lease_refs(database, NOW, "other", outstanding=5)]
    assert found == [refs[1], refs[3], refs[4]]


def test_without_collections_nothing_is_leased(database: Database) -> None:
    assert lease(database) == []


def test_a_leased_batch_is_not_leased_again_before_its_lease_ends(database: Database) -> None:
    refs = accept(database, "1", range(1, 31))
    assert lease_refs(database) == refs
    assert lease_refs(database, LATER - MICROSECOND, "other") == []
    assert lease_refs(database, LATER, "other") == refs


def test_a_published_batch_is_not_leased_again(database: Database) -> None:
    refs = accept(database, "1", range(1, 31))
    lease(database)
    publish(database, refs[:1])
    assert lease_refs(database, LATER + SECOND) == refs[1:]
    assert [(row.published_at, row.leased_by) for row in rows(database, Batch)] == [(NOW, None), (None, "relay")]


def test_a_renewed_lease_lasts_longer(database: Database) -> None:
    refs = accept(database, "1", range(1, 41))
    lease(database)
    renew(database, refs[:1], "relay", LATER + 30 * SECOND)
    assert lease_refs(database, LATER, "other") == refs[1:]
    assert lease_refs(database, LATER + 30 * SECOND, "third") == refs


def test_a_released_batch_is_leased_at_once(database: Database) -> None:
    refs = accept(database, "1", range(1, 41))
    lease(database)
    release(database, refs[1:], "relay")
    assert lease_refs(database, NOW, "other") == refs[1:]


def test_who_lost_a_lease_changes_nothing_of_it(database: Database) -> None:
    refs = accept(database, "1", range(1, 21))
    lease(database, NOW, "slow")
    lease(database, LATER, "quick")
    before = rows(database, Batch)
    publish(database, refs, LATER, "slow")
    renew(database, refs, "slow", LATER + timedelta(hours=1))
    release(database, refs, "slow")
    assert rows(database, Batch) == before


def test_no_more_batches_of_a_collection_are_outstanding_than_allowed(database: Database) -> None:
    refs = accept(database, "1", range(1, 601))
    assert lease_refs(database, NOW, "one") == refs[:10]
    assert lease_refs(database, NOW, "other") == []
    publish(database, refs[:6], NOW, "one")
    assert lease_refs(database, NOW, "other") == []


def test_leased_and_published_batches_count_together(database: Database) -> None:
    refs = accept(database, "1", range(1, 601))
    lease(database, NOW, outstanding=4)
    publish(database, refs[:3])
    assert lease_refs(database, NOW, "other", outstanding=10) == refs[4:10]


def test_settled_batches_make_room_for_the_next(database: Database) -> None:
    refs = accept(database, "1", range(1, 601))
    publish(database, lease_refs(database))
    settle_batches(database, [refs[1], refs[4], refs[9]])
    assert lease_refs(database) == refs[10:13]


def test_an_expired_lease_takes_no_room(database: Database) -> None:
    refs = accept(database, "1", range(1, 601))
    lease(database, NOW, "crashed")
    assert lease_refs(database, LATER) == refs[:10]


def test_a_lower_limit_than_what_is_outstanding_already_adds_nothing(database: Database) -> None:
    accept(database, "1", range(1, 601))
    publish(database, lease_refs(database, outstanding=10))
    assert lease_refs(database, outstanding=3) == []


def test_collections_take_turns(database: Database) -> None:
    accept(database, "big", range(1, 601))
    accept(database, "small", range(1, 31))
    assert [(m.collection_id, m.batch) for m in lease(database, most=5)] == [
        ("big", 0),
        ("small", 0),
        ("big", 1),
        ("small", 1),
        ("big", 2),
    ]


def test_a_new_collection_does_not_wait_for_one_that_is_well_under_way(database: Database) -> None:
    big = accept(database, "big", range(1, 2001))
    publish(database, lease_refs(database))
    settle_batches(database, big[:10])
    accept(database, "small", range(1, 21))
    assert [message.collection_id for message in lease(database, most=1)] == ["small"]
    assert lease_refs(database) == big[10:20]


def test_many_open_collections_are_all_served(database: Database) -> None:
    refs = [ref for number in range(60) for ref in accept(database, f"c{number:02}", range(1, 31))]
    first = lease_refs(database, outstanding=1)
    assert first == [ref for ref in refs if ref.batch == 0]
    publish(database, first)
    second = lease_refs(database, outstanding=2)
    assert second == [ref for ref in refs if ref.batch == 1]
    release(database, second, "relay")
    assert lease_refs(database, NOW, "other", outstanding=2) == second


@pytest.mark.parametrize("how", ["settled", "cancelled"])
def test_nothing_of_a_collection_that_is_over_is_leased(database: Database, how: str) -> None:
    refs = accept(database, "over", range(1, 31))
    going = accept(database, "going", range(1, 31))
    if how == "settled":
        settle_batches(database, refs)
    else:
        cancel(database, "over")
    database.write(outbox.forget_publications)
    assert lease_refs(database) == going


def test_a_settled_batch_is_never_leased(database: Database) -> None:
    refs = accept(database, "1", range(1, 61))
    settle_batches(database, refs[1:2])
    database.write(outbox.forget_publications)
    assert lease_refs(database) == [refs[0], refs[2]]


def test_an_empty_hand_off_gets_every_unsettled_batch_again(database: Database) -> None:
    refs = accept(database, "1", range(1, 81))
    lease(database)
    publish(database, refs[:2])
    settle_batches(database, refs[:1])
    database.write(outbox.forget_publications)
    assert lease_refs(database, NOW, "other") == refs[1:]


def stalled(database: Database, since: datetime) -> int:
    return database.write(lambda connection: outbox.republish_stalled(connection, since))


def test_a_collection_without_progress_is_published_again(database: Database) -> None:
    refs = accept(database, "1", range(1, 61))
    lease(database)
    publish(database, refs)
    settle_batches(database, refs[:1])
    assert stalled(database, NOW + SECOND) == 2
    assert lease_refs(database, LATER) == refs[1:]


def test_what_makes_progress_or_was_published_lately_or_is_over_is_not_published_again(database: Database) -> None:
    moves = accept(database, "moves", range(1, 61))
    lately = accept(database, "lately", range(1, 61))
    accept(database, "over", range(1, 61))
    publish(database, [ref for ref in lease_refs(database) if ref.collection_id != "lately"])
    publish(database, lately, NOW + SECOND)
    settle_batches(database, moves[:1], NOW + SECOND)
    cancel(database, "over")
    assert stalled(database, NOW + SECOND) == 0
    assert lease_refs(database, LATER + SECOND) == []


def test_progress_is_counted_from_the_last_settled_city(database: Database) -> None:
    refs = accept(database, "1", range(1, 61))
    publish(database, lease_refs(database))
    settle_batches(database, refs[:1], NOW + 60 * SECOND)
    assert stalled(database, NOW + 60 * SECOND) == 0
    assert stalled(database, NOW + 60 * SECOND + MICROSECOND) == 2


@pytest.mark.parametrize(
    ("minimum", "cities_per_window", "window_s", "limit"),
    [(10, 60, 60.0, 10), (10, 30_000, 60.0, 375), (1, 60, 60.0, 1), (1, 301, 60.0, 4), (1, 1, 86_400.0, 1)],
)
def test_the_limit_holds_fifteen_seconds_of_quota(
    minimum: int, cities_per_window: int, window_s: float, limit: int
) -> None:
    assert outbox.outstanding_limit(minimum, cities_per_window, window_s) == limit
