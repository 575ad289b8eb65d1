"""A sample of the simulation, and the proof that it sees: each kind of planted bug is caught."""

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, delete, func, insert, select, update

from consumer.caller import Caller
from consumer.intake import Intake
from consumer.ledger import NotNow, Reservation
from consumer.notifier import Notifier
from producer.relays.batches import Relay
from producer.relays.streams import StreamRelay
from raingauge.contracts import BatchMessage
from raingauge.database import Database
from raingauge.database.identity import UNKNOWN
from raingauge.messaging.port import Delivery
from raingauge.model import BatchKey, EventState
from raingauge.storage import events, queue, settling
from raingauge.storage.events import NewEvent
from raingauge.storage.models import Batch, Collection, QueuedCity, QuotaCharge
from raingauge.storage.settling import Fetched
from raingauge.storage.streams import Outgoing
from raingauge.streams import LatestMessage
from tests.simulation import plan, world
from tests.simulation.world import LockingLedger, Parts, simulate

CHUNK = 5
SEEDS_FOR_A_BUG = 60


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "first" in metafunc.fixturenames:
        seeds: int = metafunc.config.getoption("--seeds")
        metafunc.parametrize("first", range(0, seeds, CHUNK))


def test_every_promise_holds_through_every_fault(template: Path, first: int) -> None:
    for seed in range(first, first + CHUNK):
        simulate(seed, template)


def caught(template: Path, parts: Parts, word: str = "") -> str:
    """What the audit says of a planted bug: the first time, or the first time with that word.

    A run that stands still shows it in minutes as well as in hours.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world, "PATIENCE_S", 300.0)
        for seed in range(SEEDS_FOR_A_BUG):
            try:
                simulate(seed, template, parts)
            except AssertionError as error:
                if word in (said := told(error)):
                    return said
    return "nothing"


def told(error: BaseException | None) -> str:
    """The messages of an error, of its causes and of what is grouped in it."""
    if error is None:
        return ""
    grouped = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return "\n".join((str(error), told(error.__cause__), *map(told, grouped)))


def test_a_commit_before_the_save_is_caught(template: Path) -> None:
    class AcknowledgesFirst(Intake):
        async def _read(self, delivery: Delivery) -> BatchMessage | None:
            message = await super()._read(delivery)
            self._subscription.acknowledge(delivery)
            return message

    assert "acknowledged before it is settled" in caught(template, Parts(intake=AcknowledgesFirst))


@pytest.mark.long
def test_a_refund_when_a_consumer_dies_is_caught(template: Path) -> None:
    def refund(database: Database, consumer: str) -> None:
        unanswered = (QuotaCharge.consumer == consumer, QuotaCharge.closed_at.is_(None))
        database.write(lambda connection: connection.execute(delete(QuotaCharge).where(*unanswered)))

    said = caught(template, Parts(on_consumer_death=refund))
    assert "arrivals" in said or "are gone" in said


@pytest.mark.long
def test_a_ledger_that_holds_from_the_reservation_on_is_caught(template: Path) -> None:
    class EndsEarly(Caller):
        async def _store(self, fetched: Fetched, ending: str | None) -> None:
            await super()._store(fetched, ending)
            this = QuotaCharge.id == fetched.charge_id
            early = {"ends_at": QuotaCharge.reserved_at, "closed_at": QuotaCharge.reserved_at}
            await self._transactions.write(
                lambda connection: connection.execute(update(QuotaCharge).where(this).values(early))
            )

    assert "arrivals in one window" in caught(template, Parts(caller=EndsEarly))


@pytest.mark.long
def test_a_gate_that_stays_open_after_a_failover_is_caught(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Trusting(LockingLedger):
        async def open(self) -> None:
            await super().open()
            self._server = UNKNOWN

    monkeypatch.setattr(plan, "FAILOVER_EVERY", 1)
    assert caught(template, Parts(ledger=Trusting), "arrivals in one window") != "nothing"


@pytest.mark.long
def test_a_row_that_is_lost_when_its_claim_expires_is_caught(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(connection: Connection, now: datetime, account: str, gate_turn: int) -> None:
        connection.execute(delete(QueuedCity).where(QueuedCity.account == account, QueuedCity.ready_at <= now))

    monkeypatch.setattr(queue, "give_turns", lose)
    assert caught(template, Parts()) != "nothing"


@pytest.mark.long
def test_a_row_that_is_both_settled_and_queued_is_caught(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = settling.store

    def keep_in_queue(
        connection: Connection, now: datetime, collections: Any, outcomes: Any, result: Any, **more: Any
    ) -> None:
        these = (
            (QueuedCity.collection_id == row.collection_id) & (QueuedCity.city_id == row.city_id) for row in outcomes
        )
        kept = [
            dict(row._mapping) for one in these for row in connection.execute(select(QueuedCity.__table__).where(one))
        ]
        store(connection, now, collections, outcomes, result, **more)
        if kept:
            connection.execute(insert(QueuedCity), [row | {"account": "nobody"} for row in kept])

    monkeypatch.setattr(settling, "store", keep_in_queue)
    said = caught(template, Parts())
    assert "settled and queued" in said or "no call for" in said, said  # whichever the first seed shows first


@pytest.mark.long
def test_a_turn_that_is_never_taken_is_caught(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give_turns = queue.give_turns

    def forget_one(connection: Connection, now: datetime, account: str, gate_turn: int) -> None:
        give_turns(connection, now, account, gate_turn)
        last = select(func.max(QueuedCity.turn)).scalar_subquery()
        connection.execute(
            update(QueuedCity).where(QueuedCity.turn == last).values(turn=None, newcomer=None, ready_at=None)
        )

    monkeypatch.setattr(queue, "give_turns", forget_one)
    assert "can never be taken" in caught(template, Parts())


def test_a_city_that_two_consumers_fetch_at_once_is_caught(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "claim", lambda *_: None)
    assert "at once" in caught(template, Parts())


def test_consumers_that_wait_for_each_other_are_caught(template: Path) -> None:
    class Shy(LockingLedger):
        async def reserve(self, calls: int) -> Reservation | NotNow:
            answer = await super().reserve(calls) if random.random() < 0.5 else None
            return answer or NotNow(600.0, None)

    class Sleeps(Caller):
        async def _pause(self, answer: NotNow) -> None:
            await self._clock.sleep(answer.seconds)

    assert "no call for" in caught(template, Parts(ledger=Shy, caller=Sleeps))


def test_a_relay_without_a_lease_is_caught(template: Path) -> None:
    class Leaseless(Relay):
        async def _lease(self, ended: Mapping[BatchKey, bool], moment: float) -> Any:
            done = await super()._lease(ended, moment)
            await self._transactions.write(lambda connection: connection.execute(update(Batch).values(leased_by=None)))
            return done

    assert "leased by" in caught(template, Parts(relay=Leaseless))


def test_counters_added_twice_are_caught(template: Path) -> None:
    class CountsTwice(Caller):
        async def _store(self, fetched: Fetched, ending: str | None) -> None:
            wanted = select(QueuedCity.collection_id).where(QueuedCity.city_id.in_(fetched.observations))
            names = await self._transactions.read(lambda connection: connection.scalars(wanted).all())
            await super()._store(fetched, ending)
            more = update(Collection).where(Collection.id.in_(names)).values(collected=Collection.collected + 1)
            await self._transactions.write(lambda connection: connection.execute(more))

    found = caught(template, Parts(caller=CountsTwice))
    assert "counters" in found or "acknowledged before it is settled" in found, "it seems to be done too early"


@pytest.mark.long
def test_a_cause_without_its_event_is_caught(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "record", lambda *_: [])
    assert "causes without their event" in caught(template, Parts())


@pytest.mark.long
def test_a_dead_letter_of_a_deleted_collection_is_caught(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgets(Intake):
        async def _enqueue(self, keys: Mapping[BatchKey, datetime]) -> None:
            tomorrow = timedelta(days=1)
            await super()._enqueue({key: requested_at + tomorrow for key, requested_at in keys.items()})

    monkeypatch.setattr(world.World, "deleted_share", 1.0)
    assert "dead letters ≠ poison" in caught(template, Parts(intake=Forgets), "dead letters")


@pytest.mark.long
def test_an_event_without_its_cause_is_caught(template: Path) -> None:
    class AnnouncesTooEarly(Intake):
        async def _enqueue(self, keys: Mapping[BatchKey, datetime]) -> None:
            await super()._enqueue(keys)
            done = [NewEvent("collection.finished", key.collection_id, "") for key in keys]
            now = self._transactions.now
            await self._transactions.persist(lambda connection: events.record(connection, now(connection), done))

    assert "events without their cause" in caught(template, Parts(intake=AnnouncesTooEarly))


@pytest.mark.long
def test_a_notifier_that_forgets_is_caught(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def forgetful(self: Notifier, event: EventState) -> None:
        await self._transactions.persist(partial(events.mark_processed, event=event))

    monkeypatch.setattr(Notifier, "_send", forgetful)
    assert "not notified" in caught(template, Parts())


@pytest.mark.long
def test_a_reading_that_is_not_published_is_caught(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish = StreamRelay._publish

    async def careless(self: StreamRelay, one: Outgoing) -> bool:
        await publish(self, one)
        return True

    monkeypatch.setattr(StreamRelay, "_publish", careless)
    monkeypatch.setattr(plan, "STREAMS_EVERY", 1)
    assert "not published" in caught(template, Parts())


@pytest.mark.long
def test_old_weather_that_is_published_last_is_caught(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish = StreamRelay._publish

    async def of_the_reading(self: StreamRelay, one: Outgoing) -> bool:
        if one.latest is not None and one.reading is not None:
            weather = {name: getattr(one.reading, name) for name in LatestMessage.model_fields}
            one = replace(one, latest=LatestMessage(**weather))
        return await publish(self, one)

    monkeypatch.setattr(StreamRelay, "_publish", of_the_reading)
    monkeypatch.setattr(plan, "STREAMS_EVERY", 1)
    assert "is old" in caught(template, Parts())


@pytest.mark.long
def test_latest_weather_that_is_deleted_before_it_is_published_is_caught(
    template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = StreamRelay._publish

    async def of_what_is_left(self: StreamRelay, one: Outgoing) -> bool:
        return one.reading is None or await publish(self, one)

    monkeypatch.setattr(StreamRelay, "_publish", of_what_is_left)
    monkeypatch.setattr(plan, "STREAMS_EVERY", 1)
    monkeypatch.setattr(world.World, "deleted_share", 1.0)
    assert "latest weather" in caught(template, Parts())


@pytest.mark.long
def test_the_same_seed_gives_the_same_run(template: Path) -> None:
    one, other = simulate(5, template), simulate(5, template)
    assert one.witness.arrivals == other.witness.arrivals
    assert one.clock.monotonic() == other.clock.monotonic()
