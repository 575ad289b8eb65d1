"""A sample of the simulation, and the proof that it sees: each kind of planted bug is caught."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, delete, update

from consumer.admission import Grant
from consumer.quota import Ledger
from consumer.store import Brought, Store
from consumer.worker import Worker
from producer.relay import Relay
from raingauge.contracts import BatchMessage
from raingauge.messaging.port import Delivery
from raingauge.storage import readings, wanted
from raingauge.storage.batches import BatchRef
from raingauge.storage.database import Database
from raingauge.storage.models import Batch, Collection, QuotaCharge
from tests.simulation.world import Parts, simulate

CHUNK = 10
SEEDS_FOR_A_BUG = 60


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "first" in metafunc.fixturenames:
        seeds: int = metafunc.config.getoption("--seeds")
        metafunc.parametrize("first", range(0, seeds, CHUNK))


def test_every_promise_holds_through_every_fault(template: Path, first: int) -> None:
    for seed in range(first, first + CHUNK):
        simulate(seed, template)


def caught(template: Path, parts: Parts) -> str:
    """What the audit says of a planted bug."""
    for seed in range(SEEDS_FOR_A_BUG):
        try:
            simulate(seed, template, parts)
        except AssertionError as error:
            return told(error)
    return "nothing"


def told(error: BaseException | None) -> str:
    """The messages of an error, of its causes and of what is grouped in it."""
    if error is None:
        return ""
    grouped = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return "\n".join((str(error), told(error.__cause__), *map(told, grouped)))


def test_a_commit_before_the_save_is_caught(template: Path) -> None:
    class AcknowledgesFirst(Worker):
        async def _read(self, delivery: Delivery) -> BatchMessage | None:
            message = await super()._read(delivery)
            self._subscription.acknowledge(delivery)
            return message

    assert "acknowledged before it is settled" in caught(template, Parts(worker=AcknowledgesFirst))


def test_a_refund_when_a_consumer_dies_is_caught(template: Path) -> None:
    def refund(database: Database, consumer: str) -> None:
        unanswered = (QuotaCharge.consumer == consumer, QuotaCharge.closed_at.is_(None))
        database.write(lambda connection: connection.execute(delete(QuotaCharge).where(*unanswered)))

    said = caught(template, Parts(on_consumer_death=refund))
    assert "arrivals" in said or "are gone" in said


def test_a_check_in_another_transaction_than_the_act_is_caught(template: Path) -> None:
    class ChecksFirst(Store):
        def keep(self, brought: Sequence[Brought]) -> None:
            left, _ = self.open_batches({want.ref for one in brought for want in one.wants})
            super().keep([replace(one, wants=missing(one.wants, left)) for one in brought])

        def copy_fresh(self, wants: Any) -> list[wanted.Want]:
            now = self._database.read(self._database.now)
            outcomes = self._database.read(lambda connection: wanted.fresh(connection, now, wants))
            self._database.write(lambda connection: insert_unchecked(connection, now, outcomes))
            return list(outcomes)

    assert caught(template, Parts(store=ChecksFirst)) != "nothing"


def missing(wants: Sequence[wanted.Want], left: Mapping[BatchRef, wanted.OpenBatch]) -> list[wanted.Want]:
    return [want for want in wants if want.ref in left and want.city_id in left[want.ref].city_ids]


def insert_unchecked(connection: Connection, now: datetime, outcomes: Any) -> None:
    """What settling would be without looking again inside the transaction."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readings, "settled_among", lambda _: wanted.settled_among([]))
        readings.settle(connection, now, outcomes)


def test_a_ledger_that_holds_from_the_claim_on_is_caught(template: Path) -> None:
    class ClaimTime(Ledger):
        def close(self, connection: Connection, grants: Sequence[Grant]) -> None:
            for grant in grants:
                release_at = grant.reserved_at + timedelta(seconds=self.terms.window_s)
                early = {"release_at": release_at, "closed_at": grant.reserved_at}
                connection.execute(update(QuotaCharge).where(QuotaCharge.id == grant.charge_id).values(early))

    assert "arrivals in one window" in caught(template, Parts(ledger=ClaimTime))


def test_a_relay_without_a_lease_is_caught(template: Path) -> None:
    class Leaseless(Relay):
        def _lease(self, ended: Mapping[BatchRef, bool], among: Sequence[str] | None) -> Any:
            done = super()._lease(ended, among)
            self._database.write(lambda connection: connection.execute(update(Batch).values(leased_by=None)))
            return done

    assert "leased by" in caught(template, Parts(relay=Leaseless))


@pytest.mark.long
def test_counters_added_twice_are_caught(template: Path) -> None:
    class CountsTwice(Store):
        def keep(self, brought: Sequence[Brought]) -> None:
            super().keep(brought)
            settled = [want for one in brought for want in one.wants if want.city_id in one.harvest.observations]
            again = {want.ref.collection_id for want in settled}
            more = update(Collection).where(Collection.id.in_(again)).values(collected=Collection.collected + 1)
            self._database.write(lambda connection: connection.execute(more))

    assert "counters" in caught(template, Parts(store=CountsTwice))


def test_the_same_seed_gives_the_same_run(template: Path) -> None:
    one, other = simulate(5, template), simulate(5, template)
    assert one.witness.arrivals == other.witness.arrivals
    assert one.clock.monotonic() == other.clock.monotonic()
