"""The consumer's transactions, each whole: what a call brought, what needs none, what is given up; and who is alive."""

import logging
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import Connection, event

from consumer.admission import Grant
from consumer.quota import Ledger
from consumer.store import INTERNAL_ERROR, Brought, Harvest, Store
from raingauge.errors import GateMismatch
from raingauge.storage.batches import BatchRef
from raingauge.storage.consumers import ALIVE_FOR, attended, attending
from raingauge.storage.database import Database
from raingauge.storage.message import send
from raingauge.storage.models import ConsumerBeat, QuotaCharge, QuotaGate, Reading
from raingauge.storage.wanted import Want
from tests.contract.storage_support import (
    MICROSECOND,
    NOW,
    SECOND,
    Account,
    accept,
    an_observation,
    at_once,
    claims,
    found,
    rows,
    wants_of,
)


class Consumer:
    """A consumer's store and ledger on an account in virtual time."""

    def __init__(self, database: Database) -> None:
        self.account = Account(database, pacing="burst")
        self.ledger: Ledger = self.account.ledger("me")
        self.store = Store(self.account.database, self.ledger, "me", "account")

    def wants(self, *refs: BatchRef) -> list[Want]:
        return wants_of(self.account.database, refs)

    def grant(self, number: int) -> Grant:
        """Cities 1 to `number`, the first time it is asked for."""
        return self.account.take(self.ledger, number)


@pytest.fixture
def consumer(database: Database) -> Consumer:
    return Consumer(database)


def statuses(database: Database) -> list[tuple[str, int, str, str | None]]:
    return [(row.collection_id, row.city_id, row.status, row.reason) for row in rows(database, Reading)]


def claimed(database: Database) -> list[int]:
    return sorted(claims(database))


def harvest(observed: Sequence[int], unknown: Sequence[int] = (), given_up: Sequence[int] = ()) -> Harvest:
    return Harvest(
        NOW + SECOND,
        {city: an_observation(city) for city in observed},
        frozenset(unknown),
        dict.fromkeys(given_up, "tried in vain"),
    )


def test_what_a_call_brought_is_kept_for_everybody_who_wants_it(database: Database, consumer: Consumer) -> None:
    wants = consumer.wants(*accept(database, "a", [1, 2, 3, 4]), *accept(database, "b", [2, 3]))
    grant = consumer.grant(4)
    assert claimed(database) == [1, 2, 3, 4]
    consumer.account.moment.forward(1)
    brought = harvest([1, 2], unknown=[3], given_up=[4])
    assert sorted(brought.city_ids) == [1, 2, 3, 4]
    consumer.store.keep([Brought(grant, brought, wants, closes=True)])
    assert statuses(database) == [
        ("a", 1, "collected", None),
        ("a", 2, "collected", None),
        ("a", 3, "failed", "unknown city"),
        ("a", 4, "failed", "tried in vain"),
        ("b", 2, "collected", None),
        ("b", 3, "failed", "unknown city"),
    ]
    assert claimed(database) == []
    assert consumer.account.charge(grant).closed_at == NOW + SECOND


def test_whoever_settles_the_last_city_says_that_a_collection_is_done(
    database: Database, consumer: Consumer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "raingauge.store")
    refs = [
        *accept(database, "a", [1, 2]),
        *accept(database, "b", [2, 3]),
        *accept(database, "c", [3]),
        *accept(database, "d", [9]),
    ]

    def told() -> list[str]:
        names = [record.__dict__["collection_id"] for record in caplog.records if record.message == "collection.done"]
        caplog.clear()
        return names

    wants = consumer.wants(*refs)
    consumer.store.keep([Brought(consumer.grant(1), harvest([1]), wants[:1], closes=True)])
    assert told() == []
    for _ in range(2):
        twos = [want for want in wants if want.city_id == 2]
        consumer.store.keep([Brought(consumer.grant(1), harvest([2]), twos, closes=True)])
    assert told() == ["a"]
    consumer.store.keep([Brought(consumer.grant(1), harvest([3]), [], closes=True)])
    assert len(consumer.store.copy_fresh(wants)) == 5
    assert told() == ["b", "c"]
    consumer.store.fail(refs[-1])
    consumer.store.fail(refs[-1])
    assert told() == ["d"]


def test_what_is_kept_for_nobody_is_kept_for_those_who_come_later(database: Database, consumer: Consumer) -> None:
    consumer.store.keep([Brought(consumer.grant(2), harvest([1], unknown=[2]), [], closes=True)])
    refs = accept(database, "a", [1, 2, 3])
    wants = consumer.wants(*refs)
    _, fresh = consumer.store.open_batches(refs)
    assert sorted(want.city_id for want in fresh) == [1, 2]
    assert sorted(want.city_id for want in consumer.store.copy_fresh(wants)) == [1, 2]
    assert statuses(database) == [("a", 1, "collected", None), ("a", 2, "failed", "unknown city")]
    assert consumer.store.copy_fresh(wants[2:]) == []


def test_a_call_that_did_not_close_leaves_its_charge_open(database: Database, consumer: Consumer) -> None:
    grant = consumer.grant(1)
    consumer.store.keep([Brought(grant, harvest([]), [], closes=False)])
    assert consumer.account.charge(grant).closed_at is None
    assert claimed(database) == []


def test_nothing_is_kept_when_any_of_it_fails(database: Database, consumer: Consumer) -> None:
    wants = consumer.wants(*accept(database, "a", [1, 2]))
    grant = consumer.grant(2)

    def fail_at_close(connection: Connection, cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE quota_charges"):
            raise GateMismatch("for the test")

    event.listen(database.engine, "before_cursor_execute", fail_at_close)
    with pytest.raises(GateMismatch):
        consumer.store.keep([Brought(grant, harvest([1, 2]), wants, closes=True)])
    event.remove(database.engine, "before_cursor_execute", fail_at_close)
    assert statuses(database) == []
    assert claimed(database) == [1, 2]
    assert found(database, "a").settled == 0


def test_what_is_left_of_a_batch_can_be_failed(database: Database, consumer: Consumer) -> None:
    refs = accept(database, "a", range(1, 23))
    wants = consumer.wants(*refs)
    consumer.store.keep([Brought(consumer.grant(20), harvest(range(1, 20)), wants[:19], closes=True)])
    consumer.store.fail(refs[0])
    consumer.store.fail(BatchRef("a", 7))
    assert [status for status in statuses(database) if status[2] == "failed"] == [("a", 20, "failed", INTERNAL_ERROR)]
    assert consumer.store.count_attempt(refs[1]) == 1
    left, fresh = consumer.store.open_batches(refs)
    assert fresh == []
    assert [left[ref].city_ids for ref in refs] == [(), (21, 22)]


def test_calls_kept_at_once_are_all_kept_and_all_closed(database: Database, consumer: Consumer) -> None:
    refs = [ref for name in ("a", "b") for ref in accept(database, name, range(1, 61))]
    wants = consumer.wants(*refs)
    grants = [consumer.grant(10) for _ in range(6)]

    def keep(grant: Grant) -> None:
        mine = [want for want in wants if want.city_id in grant.city_ids]
        consumer.store.keep([Brought(grant, harvest(grant.city_ids), mine, closes=True)])

    at_once([partial(keep, grant) for grant in grants])
    assert [(found(database, name).collected, found(database, name).finished_at) for name in ("a", "b")] == [
        (60, NOW)
    ] * 2
    assert {row.closed_at for row in rows(database, QuotaCharge)} == {NOW}
    assert claimed(database) == []
    assert len(rows(database, QuotaGate)) == 1


def test_the_city_that_was_fetched_last_is_known_to_be_good(database: Database, consumer: Consumer) -> None:
    assert consumer.store.good_city() is None
    consumer.store.keep([Brought(consumer.grant(3), harvest([1, 3], unknown=[2]), [], closes=True)])
    later = Harvest(NOW + 2 * SECOND, {1: an_observation(1)})
    consumer.store.keep([Brought(consumer.grant(1), later, [], closes=True)])
    assert consumer.store.good_city() == 1


def any_alive(consumer: Consumer) -> bool:
    database = consumer.account.database
    gate, alive = attended(*database.read(lambda c: send(c, [attending(database.now(c), "account")])))
    assert gate is not None
    return alive


def test_a_consumer_is_alive_for_a_while_after_each_heartbeat(consumer: Consumer) -> None:
    Store(consumer.account.database, consumer.ledger, "other", "Account").beat()
    assert not any_alive(consumer)
    consumer.store.beat()
    assert any_alive(consumer)
    consumer.account.moment.now += ALIVE_FOR
    assert any_alive(consumer)
    consumer.account.moment.now += MICROSECOND
    assert not any_alive(consumer)
    consumer.store.beat()
    assert any_alive(consumer)


def test_a_consumer_that_leaves_is_not_alive(database: Database, consumer: Consumer) -> None:
    other = Store(consumer.account.database, consumer.ledger, "other", "account")
    consumer.store.beat()
    other.beat()
    other.leave()
    assert any_alive(consumer)
    consumer.store.leave()
    assert not any_alive(consumer)


def test_a_heartbeat_keeps_its_start_and_forgets_consumers_long_dead(database: Database, consumer: Consumer) -> None:
    Store(consumer.account.database, consumer.ledger, "dead", "account").beat()
    consumer.account.moment.forward(1)
    consumer.store.beat()
    consumer.account.moment.now = NOW + timedelta(days=1)
    consumer.store.beat()
    assert [row.id for row in rows(database, ConsumerBeat)] == ["dead", "me"]
    consumer.account.moment.forward(1)
    consumer.store.beat()
    (row,) = rows(database, ConsumerBeat)
    assert (row.id, row.account, row.started_at) == ("me", "account", NOW + SECOND)
    assert row.seen_at == NOW + timedelta(days=1, seconds=1)
