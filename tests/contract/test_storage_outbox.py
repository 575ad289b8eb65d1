"""The outbox: who may publish which batches, how many at a time, and when again; and how little of it is read."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection, insert, text, update

from producer.relays.batches import MAX_AT_ONCE, Relay
from raingauge.clock import SystemClock, happens_within
from raingauge.contracts import BatchMessage
from raingauge.database import Database
from raingauge.database.transactions import Transactions
from raingauge.model import BatchKey
from raingauge.settings import RelaySettings, Settings
from raingauge.storage import outbox
from raingauge.storage.collections import count_states
from raingauge.storage.enqueueing import enqueue
from raingauge.storage.models import Batch, Collection, QueuedCity
from raingauge.storage.outbox import Lease
from tests.api_support import Shelf
from tests.contract.storage_support import MICROSECOND, NOW, SECOND, accept, at_once, cancel, rows, settle_batches
from tests.support.eventually import eventually

T = TypeVar("T")
LEASED_FOR = timedelta(seconds=30)
LATER = NOW + LEASED_FOR


def lease(database: Database, now: datetime = NOW, holder: str = "relay", most: int = 500) -> list[BatchMessage]:
    taken = Lease(holder, now + LEASED_FOR)
    return database.write(lambda connection: outbox.lease(connection, now, taken, most).messages)


def lease_keys(database: Database, now: datetime = NOW, holder: str = "relay", most: int = 500) -> list[BatchKey]:
    return [BatchKey(message.collection_id, message.batch) for message in lease(database, now, holder, most)]


def publish(database: Database, keys: Sequence[BatchKey], now: datetime = NOW, holder: str = "relay") -> None:
    database.write(lambda connection: outbox.mark_published(connection, now, keys, holder))


def renew(database: Database, keys: Sequence[BatchKey], holder: str, until: datetime) -> None:
    database.write(lambda connection: outbox.renew(connection, keys, Lease(holder, until)))


def give_back(database: Database, keys: Sequence[BatchKey], holder: str) -> None:
    database.write(lambda connection: outbox.give_back(connection, keys, holder))


def widen(database: Database, outstanding: int) -> bool:
    return database.write(partial(outbox.widen, outstanding=outstanding))


def republish(database: Database, now: datetime, after_s: float = 60.0) -> int:
    since = now - timedelta(seconds=after_s)
    return database.write(lambda connection: outbox.republish_stalled(connection, now, since))


def spoil(database: Database, key: BatchKey, city_ids: str) -> None:
    this = (Batch.collection_id == key.collection_id, Batch.batch == key.batch)
    database.write(lambda connection: connection.execute(update(Batch).where(*this).values(city_ids=city_ids)))


# -- leases ------------------------------------------------------------------------------------------------------------


def test_a_lease_brings_the_messages_whole(database: Database) -> None:
    assert lease(database) == []
    accept(database, "Trip-7", range(100, 145), max_age_s=30)
    common = {"collection_id": "Trip-7", "batches": 3, "total": 45, "max_age_s": 30, "requested_at": NOW}
    assert lease(database) == [
        BatchMessage(batch=n, city_ids=tuple(range(100 + 20 * n, min(120 + 20 * n, 145))), **common) for n in range(3)
    ]


@pytest.mark.parametrize("corrupt", ["[1,", "7", "{}", "[]", '["a"]', "[0]", "[" * 60_000])
def test_a_batch_that_cannot_be_read_is_set_aside_and_the_others_go_on(database: Database, corrupt: str) -> None:
    bad, good = accept(database, "1", range(1, 41))
    spoil(database, bad, corrupt)
    found = database.write(partial(outbox.lease, now=NOW, lease=Lease("relay", LATER), most=500))
    assert (found.unreadable, [message.key for message in found.messages]) == ([bad], ["1/1"])
    assert lease(database, LATER - MICROSECOND, "other") == []
    assert [(row.published_at, row.attempts) for row in rows(database, Batch)] == [(None, 0)] * 2
    spoil(database, bad, "[1]")
    assert lease_keys(database, LATER) == [bad, good]


def test_a_batch_is_leased_again_when_its_lease_has_ended_or_was_given_back_not_when_it_is_published(
    database: Database,
) -> None:
    published, renewed, returned, crashed = accept(database, "1", range(1, 81))
    assert len(lease(database)) == 4
    assert lease(database, LATER - MICROSECOND, "other") == []
    publish(database, [published])
    renew(database, [renewed], "relay", LATER + 30 * SECOND)
    give_back(database, [returned], "relay")
    assert lease_keys(database, NOW, "other") == [returned]
    assert lease_keys(database, LATER, "third") == [returned, crashed]
    assert lease_keys(database, LATER + 30 * SECOND) == [renewed, returned, crashed]
    assert [(row.published_at, row.leased_by) for row in rows(database, Batch)] == [(NOW, None)] + 3 * [(None, "relay")]


def test_who_lost_a_lease_changes_nothing_of_it(database: Database) -> None:
    keys = accept(database, "1", range(1, 21))
    lease(database, NOW, "slow")
    lease(database, LATER, "quick")
    before = rows(database, Batch)
    publish(database, keys, LATER, "slow")
    renew(database, keys, "slow", LATER + timedelta(hours=1))
    give_back(database, keys, "slow")
    assert rows(database, Batch) == before


def test_relays_at_once_never_lease_the_same_batch(database: Database) -> None:
    keys = [key for number in range(5) for key in accept(database, f"c{number}", range(1, 801), outstanding=40)]

    def lease_all(holder: str) -> list[BatchKey]:
        mine: list[BatchKey] = []
        while some := lease_keys(database, holder=holder, most=7):
            mine += some
        return mine

    leased = at_once([partial(lease_all, f"relay-{number}") for number in range(4)])
    assert sorted(key for mine in leased for key in mine) == sorted(keys)
    assert sorted((r.collection_id, r.batch) for r in rows(database, Batch) if r.leased_by) == sorted(keys)


# -- instalments -------------------------------------------------------------------------------------------------------


def test_each_settled_batch_lets_the_next_one_go(database: Database) -> None:
    keys = accept(database, "1", range(1, 291))
    assert lease_keys(database) == keys[:10]
    publish(database, keys[:9])
    assert lease(database, NOW, "other") == []
    settle_batches(database, [keys[1], keys[4], keys[9]])
    settle_batches(database, [keys[1]])
    assert lease_keys(database) == keys[10:13]
    settle_batches(database, [keys[10]])
    settle_batches(database, keys[2:4])
    assert lease_keys(database) == keys[13:]


def test_a_higher_limit_lets_more_go_of_the_collections_that_have_more(database: Database) -> None:
    large = accept(database, "large", range(1, 201), outstanding=3)
    accept(database, "small", range(1, 61), outstanding=3)
    over = accept(database, "over", range(1, 201), outstanding=3)
    settle_batches(database, [*over[:2], *large[:1]])
    cancel(database, "over")
    assert [widen(database, outstanding) for outstanding in (3, 1, 5, 5)] == [False, False, True, False]
    assert [key for key in lease_keys(database) if key.collection_id == "large"] == large[1:6]
    assert [widen(database, 50), widen(database, 50)] == [True, False]
    assert lease_keys(database) == large[6:]


def test_the_first_batches_of_all_collections_go_first(database: Database) -> None:
    big = accept(database, "big", range(1, 2001))
    publish(database, lease_keys(database))
    settle_batches(database, big[:3])
    small = accept(database, "small", range(1, 41))
    other = accept(database, "other", range(1, 41))
    assert lease_keys(database, most=4) == [other[0], small[0], other[1], small[1]]
    assert lease_keys(database) == big[10:13]


async def test_a_round_of_the_relay_takes_no_more_than_its_share(database: Database) -> None:
    batches = len(accept(database, "1", range(1, 20 * (MAX_AT_ONCE + 7) + 1), outstanding=10 * MAX_AT_ONCE))
    shelf, published, done = Shelf(), [0], asyncio.Event()

    async def run(work: Callable[[], T]) -> T:
        published.append(len(shelf.keys))
        if published[-1] == batches:
            done.set()
        return work()

    transactions, terms = Transactions(database, run, SystemClock()), Settings().terms
    relay = Relay(transactions, shelf, RelaySettings(), topic="cities", account="a", terms=terms, holder="relay")
    running = asyncio.create_task(relay.run())
    assert await happens_within(done, 30)
    running.cancel()
    assert max(later - earlier for earlier, later in pairwise(published)) == MAX_AT_ONCE


@pytest.mark.parametrize(
    ("minimum", "cities_per_window", "window_s", "limit"),
    [(10, 60, 60.0, 10), (10, 30_000, 60.0, 375), (1, 60, 60.0, 1), (1, 301, 60.0, 4), (1, 1, 86_400.0, 1)],
)
def test_the_limit_holds_fifteen_seconds_of_quota(
    minimum: int, cities_per_window: int, window_s: float, limit: int
) -> None:
    assert outbox.outstanding_limit(minimum, cities_per_window, window_s) == limit


@pytest.mark.parametrize("end", [settle_batches, lambda database, keys: cancel(database, keys[0].collection_id)])
@pytest.mark.parametrize("was", ["waiting", "leased", "published"])
def test_nothing_of_a_collection_that_is_over_is_leased(
    database: Database, end: Callable[[Database, list[BatchKey]], None], was: str
) -> None:
    keys = accept(database, "over", range(1, 31))
    if was != "waiting":
        lease(database)
    if was == "published":
        publish(database, keys)
        database.write(outbox.forget_publications)
    end(database, keys)
    going = accept(database, "going", range(1, 31))
    database.write(outbox.forget_publications)
    assert lease_keys(database, LATER) == going
    left = [row for row in rows(database, Batch) if row.collection_id == "over"]
    assert [(row.publish_order, row.leased_by, row.lease_until) for row in left] == [(None, None, None)] * 2


# -- publishing again --------------------------------------------------------------------------------------------------


def test_an_empty_hand_off_gets_every_released_batch_again_that_is_not_settled(database: Database) -> None:
    keys = accept(database, "1", range(1, 101), outstanding=4)
    lease(database)
    publish(database, keys[:2])
    settle_batches(database, keys[:1])
    database.write(outbox.forget_publications)
    assert lease_keys(database, NOW, "other") == keys[1:]
    accept(database, "2", range(1, 101), outstanding=1)
    database.write(outbox.forget_publications)
    assert [key for key in lease_keys(database) if key.collection_id == "2"] == [BatchKey("2", 0)]


def test_a_collection_without_progress_is_published_again_and_later_and_later_again(database: Database) -> None:
    keys = accept(database, "1", range(1, 61))
    publish(database, lease_keys(database))
    settle_batches(database, keys[:1], NOW + 30 * SECOND)
    found = {}
    for second in (*range(60, 100), *range(200, 220), *range(440, 460)):
        if count := republish(database, NOW + (second + 0.5) * SECOND):
            found[second] = count
            assert lease_keys(database) == keys[1:]
            publish(database, keys[1:], NOW + second * SECOND)
    assert found == {90: 2, 211: 2, 453: 2}


def test_what_waits_or_was_published_lately_or_is_over_is_not_published_again(database: Database) -> None:
    queued, lately, over = (accept(database, name, range(1, 61)) for name in ("queued", "lately", "over"))
    lease(database)
    publish(database, queued + over)
    publish(database, lately, NOW + SECOND)
    database.write(lambda connection: enqueue(connection, NOW, "test", 0, queued[:1]))
    cancel(database, "over")
    assert republish(database, NOW + 61 * SECOND) == 0
    assert lease(database, LATER + 61 * SECOND) == []


# -- what a round reads ------------------------------------------------------------------------------------------------


def rows_read(database: Database, work: Callable[[Connection], Any]) -> int:
    """How much of the tables a transaction reads: steps of SQLite's machine, or rows read by a server."""

    def counted(connection: Connection) -> int:
        if database.dialect == "sqlite":
            steps: list[None] = []
            driver: Any = connection.connection.driver_connection
            driver.set_progress_handler(lambda: steps.append(None), 10)
            work(connection)
            driver.set_progress_handler(None, 0)
            return len(steps)
        before = _rows_read(connection)
        work(connection)
        return _rows_read(connection) - before

    return database.write(counted)


def _rows_read(connection: Connection) -> int:
    if connection.dialect.name == "postgresql":
        counters = "sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))"
        return int(connection.scalar(text(f"SELECT {counters} FROM pg_stat_xact_user_tables")) or 0)
    return sum(int(row[1]) for row in connection.execute(text("SHOW SESSION STATUS LIKE 'Handler_read%'")))


def fill(database: Database, first: int, last: int, *, ended: bool = False) -> None:
    """Collections that are open, or have ended before: two batches in the queue, the third not released."""
    names = [f"c{number}" for number in range(first, last)]
    collection = {"requested_at": NOW, "max_age_s": 600, "cities_hash": "x", "total": 60, "released": 2}
    ends = {name: NOW - timedelta(hours=2, seconds=number) if ended else None for number, name in enumerate(names)}
    queued = {"account": "a", "since": NOW, "newcomer": False, "turn": 1, "attempts": 0}

    def work(connection: Connection) -> None:
        moments = [{"id": name, "idle_since": NOW, "finished_at": ends[name]} for name in names]
        connection.execute(insert(Collection), [collection | each for each in moments])
        batch = {"size": 20, "city_ids": "[1]"}
        published = [batch | {"collection_id": name, "batch": n, "published_at": NOW} for name in names for n in (0, 1)]
        connection.execute(insert(Batch), published)
        connection.execute(insert(Batch), [batch | {"collection_id": name, "batch": 2} for name in names])
        cities = [queued | {"collection_id": name, "city_id": n, "batch": 0} for name in names for n in range(5)]
        connection.execute(insert(QueuedCity), cities)

    database.write(work)
    analyze(database)


def analyze(database: Database, tables: Sequence[str] = ("batches", "collections", "queue")) -> None:
    """Have the planner's statistics made, which a server does by itself within a minute."""
    word = "ANALYZE TABLE" if database.dialect in {"mysql", "mariadb"} else "ANALYZE"
    for table in tables:
        database.write(lambda connection, table=table: connection.execute(text(f"{word} {table}")))  # type: ignore[misc]


def test_a_round_reads_no_more_rows_when_thousands_of_collections_are_open(database: Database) -> None:
    read: dict[tuple[int, int], int] = {}
    for first, last in ((0, 100), (100, 2_500)):
        fill(database, first, last)
        for due in (0, 5):
            for number in range(due):
                accept(database, f"new-{last}-{number}", range(1, 21))
            leased: list[BatchMessage] = []

            def work(connection: Connection, leased: list[BatchMessage] = leased) -> None:
                assert outbox.republish_stalled(connection, NOW, NOW) == 0
                leased += outbox.lease(connection, NOW, Lease("relay", LATER), 500).messages
                keys = [BatchKey(message.collection_id, message.batch) for message in leased]
                outbox.mark_published(connection, NOW, keys, "relay")

            read[last, due] = rows_read(database, work)
            assert len(leased) == due
    assert all(read[2_500, due] < 2 * read[100, due] + 50 for due in (0, 5)), read


def test_a_check_for_lost_messages_reads_only_what_is_due_for_it(database: Database) -> None:
    fill(database, 0, 2_000)
    later = NOW + timedelta(hours=1)

    def check(connection: Connection) -> None:
        assert outbox.republish_stalled(connection, later, NOW + timedelta(seconds=1)) == 0

    read = [rows_read(database, check) for _ in range(2_000 // outbox.COLLECTIONS_AT_ONCE)]
    analyze(database)
    # InnoDB removes the index's old entries a little later.
    eventually(lambda: rows_read(database, check) < min(read) / 10, 30)
    assert max(read) < 60 * outbox.COLLECTIONS_AT_ONCE


def test_what_is_counted_for_metrics_is_no_more_when_thousands_of_collections_have_ended(database: Database) -> None:
    def count(connection: Connection) -> None:
        assert outbox.backlog(connection, 1_000) == 3
        assert sum(count_states(connection, NOW, 1_000).values()) == 3

    for name in "abc":
        accept(database, name, range(1, 21))
    lease(database, most=1)
    read = []
    for first, last in ((0, 100), (100, 2_500)):
        fill(database, first, last, ended=True)
        read.append(rows_read(database, count))
    assert read[1] < 2 * read[0] + 50


def test_the_backlog_is_what_is_released_and_not_published(database: Database) -> None:
    def backlog(most: int = 100) -> int:
        return database.read(lambda connection: outbox.backlog(connection, most))

    accept(database, "c", range(1, 101))
    assert backlog() == 5
    taken = lease_keys(database, most=3)
    assert (backlog(), backlog(most=2)) == (5, 2)
    publish(database, taken[:2])
    assert backlog() == 3
