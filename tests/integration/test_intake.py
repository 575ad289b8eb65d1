"""The intake against fakes of the hand-off: what is acknowledged, buried, held and tried again."""

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, delete, insert, select, text, update

from consumer.intake import ATTEMPTS, BATCHES_AT_ONCE, REMIND_EVERY_S, Intake
from consumer.metrics import dead_letter_counter
from raingauge.blocking import inline
from raingauge.contracts import BatchMessage, dead_letter_topic
from raingauge.database import Database
from raingauge.database.transactions import Transactions
from raingauge.errors import DatabaseUnavailable, HandoffUnavailable, Permanent
from raingauge.messaging.port import Delivery
from raingauge.model import BatchKey, CollectionRequest
from raingauge.storage.collections import cancel_all
from raingauge.storage.models import Batch, City, Collection, Deletion, QueuedCity, Reading
from raingauge.storage.retention import delete_collection
from raingauge.storage.settling import Settled
from tests.simulation.virtual import EPOCH, VirtualClock, VirtualLoop, run_virtually
from tests.support.accepting import accept
from tests.support.handoff import FakeHandoff

TOPIC = "batches"
ORIGIN = (("raingauge-topic", b"batches"), ("raingauge-partition", b"3"))


class Scene:
    """An intake at work, and a database with the collection c: batch 0 has the cities 1 to 20, batch 1 has 21 to 40."""

    def __init__(self, database: Database, *rounds: Sequence[Delivery]) -> None:
        self.loop = VirtualLoop()
        self.clock = VirtualClock(self.loop)
        self.database = Database(database.engine, self.clock.of_database)
        self.handoff = FakeHandoff(*rounds)
        self.registry = CollectorRegistry()
        self.woken = 0
        self.outage = False
        transactions = Transactions(self.database, self._run_database, self.clock)
        letters = dead_letter_counter(self.registry)
        self.intake = Intake(self.handoff, self.handoff, transactions, self.clock, "account", TOPIC, letters)
        self.intake.on_enqueued = self._wake
        request = CollectionRequest("c", range(1, 41), 0, named=True)
        self.database.write(lambda connection: accept(connection, EPOCH, request))

    def _wake(self) -> None:
        self.woken += 1

    async def _run_database(self, work: Callable[[], Any]) -> Any:
        if self.outage:
            raise DatabaseUnavailable("away")
        result = await inline(work)
        await self.clock.sleep(0)
        return result

    def run(self, *steps: Callable[[], object], seconds: float = 10) -> "Scene":
        """Run the steps, each after that many seconds, and stop."""

        async def program() -> None:
            running = asyncio.create_task(self.intake.run())
            for step in steps:
                await self.clock.sleep(seconds)
                step()
            await self.clock.sleep(seconds)
            self.intake.stop()
            await running

        run_virtually(program(), self.loop)
        return self

    def settle_elsewhere(self) -> None:
        """Another consumer settles batch 0."""
        settled = update(Batch).where(Batch.batch == 0).values(settled_at=EPOCH + timedelta(seconds=1))
        self.database.write(lambda connection: connection.execute(settled))

    @property
    def queued(self) -> int:
        return len(self.database.read(lambda connection: connection.execute(select(QueuedCity.city_id)).all()))


def delivery(
    batch: int = 0, offset: int = 1, collection_id: str = "c", version: int = 1, value: bytes | None = None
) -> Delivery:
    message = BatchMessage(
        version=version, collection_id=collection_id, batch=batch, batches=2, total=40, max_age_s=0,
        requested_at=EPOCH, city_ids=(1,),
    )  # fmt: skip
    return Delivery(TOPIC, 3, offset, b"key", message.encode() if value is None else value, (("trace", b"7"),))


def old_delivery(requested_at: datetime, batch: int, offset: int) -> Delivery:
    """A message of a collection `c` that was requested before the one that exists."""
    message = json.loads(delivery(batch).value or b"") | {"requested_at": requested_at.isoformat()}
    return delivery(batch, offset, value=json.dumps(message).encode())


def break_queue(database: Database, when: str) -> None:
    """Have the database refuse rows of the queue, as it would a value that no column takes."""
    on = f"BEFORE INSERT ON queue WHEN {when}"
    trigger = text(f"CREATE TRIGGER broken {on} BEGIN SELECT RAISE(ABORT, 'broken'); END")
    database.write(lambda connection: connection.execute(trigger))


def test_a_batch_joins_the_queue_and_stays_unacknowledged_until_it_is_settled(sqlite: Database) -> None:
    scene = Scene(sqlite, [delivery()])

    def settle() -> None:
        assert (scene.queued, scene.woken, scene.intake.unacknowledged, scene.handoff.done) == (20, 1, 1, [])
        scene.intake.acknowledge(Settled(batches={BatchKey("c", 0): EPOCH}))

    scene.run(settle)
    assert scene.handoff.done == [("acknowledged", 1)]
    assert scene.intake.unacknowledged == 0


def test_a_batch_of_a_deleted_collection_that_is_settled_late_acknowledges_nothing_of_a_later_one(
    sqlite: Database,
) -> None:
    earlier = EPOCH - timedelta(seconds=1)
    scene = Scene(sqlite, [delivery(offset=2)])
    scene.run(lambda: scene.intake.acknowledge(Settled(batches={BatchKey("c", 0): earlier})))
    assert (scene.handoff.done, scene.intake.unacknowledged) == ([], 1)


def test_what_a_failover_forgot_of_a_batch_is_enqueued_again(sqlite: Database) -> None:
    scene = Scene(sqlite, [delivery(), delivery(1, 2)])

    def fail_over() -> None:
        scene.database.write(lambda connection: connection.execute(delete(QueuedCity).where(QueuedCity.batch == 0)))
        scene.intake.enqueue_again()

    def enqueued() -> None:
        assert (scene.queued, scene.intake.unacknowledged, scene.handoff.done) == (40, 2, [])

    scene.run(enqueued, fail_over, enqueued)


@pytest.mark.parametrize(
    ("poison", "error"),
    [
        (delivery(value=b"{"), b"UndecodableMessage: not JSON"),
        (Delivery(TOPIC, 3, 1, b"key", None, (("trace", b"7"),)), b"UndecodableMessage: the message has no value"),
        (delivery(collection_id="nobody"), b"UnknownBatch: the database knows no such batch"),
    ],
    ids=["not JSON", "tombstone", "unknown batch"],
)
def test_what_cannot_be_worked_on_is_buried_whole_and_then_acknowledged(
    sqlite: Database, poison: Delivery, error: bytes
) -> None:
    scene = Scene(sqlite, [poison]).run()
    [(topic, key, value, headers)] = scene.handoff.buried
    assert scene.registry.get_sample_value("raingauge_dead_letters_total") == 1
    assert (topic, key, value) == (dead_letter_topic(TOPIC), poison.key, poison.value)
    assert headers[:-1] == (*poison.headers, *ORIGIN, ("raingauge-offset", b"1"))
    assert headers[-1][0] == "raingauge-error"
    assert headers[-1][1].startswith(error)
    assert scene.handoff.done == [("published", 0), ("acknowledged", 1)]


def test_a_newer_message_is_held_and_the_others_go_on(sqlite: Database) -> None:
    scene = Scene(sqlite, [delivery(version=2), delivery(offset=2)]).run()
    assert scene.handoff.done == [("held", 1)]
    assert scene.queued == 20


def test_what_a_partition_waits_behind_is_logged_each_minute_until_a_person_has_buried_it(
    sqlite: Database, caplog: pytest.LogCaptureFixture
) -> None:
    newer = [delivery(version=2), delivery(version=3, offset=2)]
    scene = Scene(sqlite, newer)
    reason = "partition 3 waits at offset 1: message version 2, known up to 1: upgrade the consumers first"
    answers: list[Exception | Sequence[Delivery]] = [HandoffUnavailable("away"), (), newer]

    async def find_buried(held: Sequence[Delivery]) -> Sequence[Delivery]:
        assert list(held) == newer
        assert scene.intake.obstacles == [reason]
        if isinstance(answer := answers.pop(0), Exception):
            raise answer
        return answer

    scene.intake.find_buried = find_buried
    scene.run(seconds=REMIND_EVERY_S * 5)
    logged = [record for record in caplog.records if record.message == "message.held"]
    assert [record.__dict__["offset"] for record in logged] == [1, 1, 1]
    assert scene.handoff.done == [("held", 1), ("held", 2), ("acknowledged", 1), ("acknowledged", 2)]
    assert scene.intake.obstacles == []


def test_a_collection_that_needs_no_call_is_done_when_it_is_delivered(
    sqlite: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    unknown = [{"id": city_id, "unknown_at": EPOCH} for city_id in range(1, 41)]
    sqlite.write(lambda connection: connection.execute(insert(City), unknown))
    scene = Scene(sqlite, [delivery(), delivery(batch=1, offset=2)]).run(seconds=0.5)
    assert sorted(scene.handoff.done) == [("acknowledged", 1), ("acknowledged", 2)]
    assert caplog.messages.count("collection.done") == 1


@pytest.mark.parametrize("already", [True, False])
def test_batches_that_another_consumer_settles_are_acknowledged_with_all_their_deliveries(
    sqlite: Database, already: bool
) -> None:
    scene = Scene(sqlite, [delivery(), delivery(batch=1, offset=2)], [delivery(offset=9)])
    if already:
        scene.settle_elsewhere()
        scene.run(seconds=0.5)
    else:
        scene.run(scene.settle_elsewhere)
    assert scene.handoff.done == [("acknowledged", 1), ("acknowledged", 9)]
    assert (scene.queued, scene.intake.unacknowledged) == (20 if already else 40, 1)


def test_a_look_that_meets_an_outage_is_repeated(sqlite: Database, caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(sqlite, [delivery()])

    def lose_database() -> None:
        scene.settle_elsewhere()
        scene.outage = True

    def recover() -> None:
        assert scene.handoff.done == []
        scene.outage = False

    scene.run(lose_database, recover)
    assert scene.handoff.done == [("acknowledged", 1)]
    assert "database.unavailable" in caplog.messages


def test_a_batch_that_a_failover_lost_after_it_was_enqueued_is_buried(sqlite: Database) -> None:
    scene = Scene(sqlite, [delivery()])

    def lose() -> None:
        scene.database.write(lambda c: [c.execute(delete(table)) for table in (QueuedCity, Batch, Collection)])

    scene.run(lose, seconds=REMIND_EVERY_S)
    assert [value for _, _, value, _ in scene.handoff.buried] == [delivery().value]
    assert scene.handoff.done[-1] == ("acknowledged", 1)


def test_the_batches_of_a_cancelled_collection_are_acknowledged(sqlite: Database) -> None:
    scene = Scene(sqlite, [delivery(), delivery(batch=1, offset=2)])
    scene.run(lambda: scene.database.write(lambda connection: cancel_all(connection, EPOCH, ["c"])))
    assert sorted(scene.handoff.done) == [("acknowledged", 1), ("acknowledged", 2)]


def test_more_deliveries_than_one_transaction_takes_are_all_taken(sqlite: Database) -> None:
    scene = Scene(sqlite, [delivery(offset=offset) for offset in range(BATCHES_AT_ONCE + 1)]).run()
    assert (scene.woken, scene.intake.unacknowledged) == (2, 1)


def test_a_batch_that_meets_errors_is_failed_and_buried_and_stops_no_other(
    sqlite: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    break_queue(sqlite, "NEW.city_id = 5")
    scene = Scene(sqlite, [delivery(), delivery(batch=1, offset=2)]).run()
    assert scene.queued == 20
    assert caplog.messages.count("intake.unexpected") == 1 + ATTEMPTS
    assert "intake.cannot_fail" in caplog.messages
    assert dict(scene.handoff.buried[0][3])["raingauge-error"] == b"Permanent: internal error"
    assert scene.handoff.done == [("published", 0), ("acknowledged", 1)]


def test_an_attempt_that_cannot_be_counted_ends_no_consumer(sqlite: Database) -> None:
    break_queue(sqlite, "NEW.city_id = 5")
    broken = "CREATE TRIGGER uncounted BEFORE UPDATE ON batches BEGIN SELECT RAISE(ABORT, 'broken'); END"
    sqlite.write(lambda connection: connection.execute(text(broken)))

    def mend() -> None:
        assert (scene.queued, scene.handoff.done) == (0, [])
        drops = [text(f"DROP TRIGGER {trigger}") for trigger in ("broken", "uncounted")]
        sqlite.write(lambda connection: [connection.execute(drop) for drop in drops])

    scene = Scene(sqlite, [delivery()])
    scene.run(mend)
    assert scene.queued == 20


def test_a_batch_whose_failure_can_be_stored_has_failed_readings(sqlite: Database) -> None:
    tried = "(SELECT attempts FROM batches WHERE collection_id = NEW.collection_id AND batch = NEW.batch)"
    break_queue(sqlite, f"{tried} < {ATTEMPTS}")
    scene = Scene(sqlite, [delivery()]).run()
    found = scene.database.read(lambda connection: connection.execute(select(Reading.status, Reading.reason)).all())
    assert [tuple(row) for row in found] == [("failed", "internal error")] * 20
    assert scene.handoff.done == [("published", 0), ("acknowledged", 1)]


def test_stopping_ends_the_attempts_and_leaves_the_delivery_to_others(sqlite: Database) -> None:
    break_queue(sqlite, "NEW.city_id = 5")
    scene = Scene(sqlite, [delivery()]).run(seconds=1.5)
    assert scene.handoff.done == []
    assert scene.intake.unacknowledged == 1


def test_burying_is_repeated_during_an_outage_and_what_is_too_large_to_bury_is_held(sqlite: Database) -> None:
    scene = Scene(sqlite, [delivery(value=b"{"), delivery(offset=2, value=b"{")])
    scene.handoff.publish_errors = [HandoffUnavailable("replaced"), HandoffUnavailable("replaced"), Permanent("large")]
    scene.run()
    assert sorted(scene.handoff.done) == sorted([("published", 0)] * 4 + [("acknowledged", 2), ("held", 1)])
    assert scene.intake.obstacles == ["partition 3 waits at offset 1: it is too large for the dead letters"]


def test_messages_of_a_deleted_collection_are_dropped_and_those_of_a_later_one_with_its_id_are_not(
    sqlite: Database,
) -> None:
    old = EPOCH - timedelta(days=1)
    rounds = [old_delivery(old, 0, 1), old_delivery(old, 7, 2)], [delivery(offset=3)], [old_delivery(old, 0, 4)]
    scene = Scene(sqlite, *rounds)
    deletion = {"id": "c", "requested_at": old, "deleted_at": EPOCH}
    sqlite.write(lambda connection: connection.execute(insert(Deletion).values(deletion)))

    def settle() -> None:
        assert (scene.queued, sorted(scene.handoff.done)) == (20, [("acknowledged", offset) for offset in (1, 2, 4)])
        scene.settle_elsewhere()

    scene.run(settle)
    assert scene.handoff.done[3:] == [("acknowledged", 3)]
    assert scene.handoff.buried == []


def test_a_message_that_is_held_while_its_collection_is_deleted_is_acknowledged(sqlite: Database) -> None:
    scene = Scene(sqlite, [delivery()])

    def cancel_and_delete() -> None:
        def work(connection: Connection) -> None:
            cancel_all(connection, EPOCH, ["c"])
            assert delete_collection(connection, EPOCH, "c") is not None

        assert scene.handoff.done == []
        sqlite.write(work)

    assert scene.run(cancel_and_delete).handoff.done == [("acknowledged", 1)]
