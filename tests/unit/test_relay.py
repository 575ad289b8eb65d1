"""The relay's own loop; what it does in the database is tested with the storage and the simulation."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, cast

import pytest

from producer.relays.batches import MAX_REST_S, REST_FACTOR, Relay
from raingauge.blocking import RunBlocking, inline
from raingauge.clock import SystemClock
from raingauge.contracts import BatchMessage
from raingauge.database import Database
from raingauge.database.transactions import Transactions
from raingauge.errors import HandoffUnavailable
from raingauge.messaging.port import Headers, Publisher
from raingauge.model import BatchKey
from raingauge.quota.pacing import Terms
from raingauge.settings import RelaySettings, Settings
from raingauge.storage.outbox import Leased
from tests.api_support import Front
from tests.simulation.virtual import VirtualLoop, run_virtually

HOUR = timedelta(hours=1)
UNTIL = datetime(2026, 11, 10, tzinfo=UTC)
BURST = 70


class Leases:
    """A database that leases so many new batches in each round; its first transactions meet an error."""

    def __init__(self, each: int = 0, breaks: int = 0) -> None:
        self.rounds = 0
        self._each = each
        self._breaks = breaks

    def write(self, _work: Callable[..., Any]) -> Leased:
        self.rounds += 1
        if self.rounds <= self._breaks:
            raise ZeroDivisionError("a fault in a statement")
        batch: Any = {"collection_id": "1", "batches": 1, "total": 1, "max_age_s": 600, "city_ids": (2643743,)}
        numbers = range(self.rounds * self._each, (self.rounds + 1) * self._each)
        messages = [BatchMessage(**batch, batch=number, requested_at=UNTIL) for number in numbers]
        return Leased(messages, [BatchKey("2", 7)] if self._each else [])


class Publishes:
    """A publisher whose first sends fail; all others end at once, or never."""

    def __init__(self, fails: int = 0, error: type[Exception] = HandoffUnavailable, *, ends: bool = True) -> None:
        self.sent = 0
        self._fails = fails
        self._error = error
        self._ends = ends

    async def publish(self, _topic: str, _key: bytes | None, _value: bytes | None, _headers: Headers = ()) -> None:
        self.sent += 1
        if self.sent <= self._fails:
            raise self._error("it failed")
        if not self._ends:
            await asyncio.get_running_loop().create_future()


def relay_on(database: object, publisher: Publisher, every_s: float = 0.01, run: RunBlocking = inline) -> Relay:
    return Relay(
        Transactions(cast("Database", database), run, SystemClock()),
        publisher,
        RelaySettings(every_s=every_s),
        topic="cities",
        account="test",
        terms=Terms(60, 60.0, "smooth", 1_000_000, "even", 10.0),
        holder="relay",
    )


@asynccontextmanager
async def running(database: object, publisher: Publisher, every_s: float = 0.01) -> AsyncIterator[Relay]:
    relay = relay_on(database, publisher, every_s)
    task = asyncio.create_task(relay.run())
    try:
        async with asyncio.timeout(5):
            yield relay
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def rounds_within(
    seconds: float, database: Leases, publisher: Publisher, every_s: float = 1000.0, took_s: float = 0.01
) -> list[float]:
    """When the rounds of a relay begin, in virtual seconds."""
    loop = VirtualLoop()
    begun: list[float] = []

    async def slowly(work: Callable[[], Any]) -> Any:
        begun.append(loop.time())
        await SystemClock().sleep(took_s)
        return work()

    async def watch() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await relay_on(database, publisher, every_s, slowly).run()

    run_virtually(watch(), loop)
    return begun[1:]  # the first one begins without a pause


async def test_unexpected_errors_of_database_and_publisher_do_not_end_it() -> None:
    database, publisher = Leases(each=1, breaks=2), Publishes(fails=2, error=ZeroDivisionError)
    async with running(database, publisher):
        while publisher.sent < 4:
            await SystemClock().sleep(0.001)
    assert database.rounds >= 5


async def test_a_batch_that_cannot_be_read_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    database = Leases(each=1)
    async with running(database, Publishes()):
        while database.rounds < 3:
            await SystemClock().sleep(0.001)
    assert [record.message for record in caplog.records] == ["relay.unreadable"]
    assert (caplog.records[0].__dict__["collection_id"], caplog.records[0].__dict__["batch"]) == ("2", 7)


class LeasesAgain(Leases):
    """A database that leases one batch again in each round; from the fourth on it is one of a later collection."""

    def write(self, work: Callable[..., Any]) -> Leased:
        super().write(work)
        batch: Any = {"collection_id": "1", "batch": 0, "batches": 1, "total": 1, "max_age_s": 600, "city_ids": (1,)}
        later = timedelta(days=self.rounds > 3)
        return Leased([BatchMessage(**batch, requested_at=UNTIL + later)], [])


async def test_a_batch_that_is_leased_again_while_it_is_sent_is_not_sent_beside_itself() -> None:
    database, publisher = LeasesAgain(), Publishes(ends=False)
    async with running(database, publisher) as relay:
        while database.rounds < 3:
            await SystemClock().sleep(0.001)
        assert publisher.sent == 1
        while database.rounds < 6:
            await SystemClock().sleep(0.001)
        assert (publisher.sent, relay.pending) == (2, 1)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_is_accepted_in_a_burst_is_published_in_few_rounds() -> None:
    database, publisher = Leases(each=1), Publishes()
    async with running(database, publisher, every_s=1000.0) as relay:
        for _ in range(BURST):
            relay.wake()
            await SystemClock().sleep(0)
        while database.rounds < 2:
            await SystemClock().sleep(0.001)
    assert database.rounds <= BURST // 4, "far fewer than one for each; how many exactly is the machine's"


@pytest.mark.parametrize("ends", [True, False], ids=["published at once", "under way for ever"])
@pytest.mark.parametrize(("took_s", "rest_s"), [(0.01, 0.01 * REST_FACTOR), (1.0, MAX_REST_S)])
def test_the_longer_a_round_takes_the_longer_it_rests(took_s: float, rest_s: float, ends: bool) -> None:
    begun = rounds_within(10, Leases(each=1), Publishes(ends=ends), took_s=took_s)
    assert len(begun) == pytest.approx(10 / (took_s + rest_s), rel=0.03)


@pytest.mark.parametrize(
    ("database", "publisher"),
    [(Leases(), Publishes()), (Leases(each=1), Publishes(fails=10**6)), (Leases(breaks=10**6), Publishes())],
    ids=["nothing is due", "nothing can be published", "the database fails"],
)
def test_where_there_is_nothing_to_do_it_looks_ever_more_seldom(database: Leases, publisher: Publishes) -> None:
    begun = rounds_within(1000, database, publisher, every_s=60.0)
    pauses = [round(later - earlier, 6) for earlier, later in pairwise(begun)]
    assert pauses == sorted(pauses)
    assert pauses[0] < 0.5
    assert pauses[-1] == pytest.approx(60, rel=0.01)


def test_after_a_round_that_failed_it_rests_even_when_it_is_woken() -> None:
    loop, database = VirtualLoop(), Leases(breaks=1)
    waited: list[float] = []

    async def watch() -> None:
        relay = relay_on(database, Publishes(), every_s=1000.0)
        task = asyncio.create_task(relay.run())
        while database.rounds < 1:
            await SystemClock().sleep(0)
        relay.wake()
        began = loop.time()
        while database.rounds < 2:
            await SystemClock().sleep(0.001)
        waited.append(loop.time() - began)
        task.cancel()

    run_virtually(watch(), loop)
    assert waited == [pytest.approx(MAX_REST_S, abs=0.002)]


@pytest.mark.parametrize(("closed_ago", "again"), [(HOUR / 2, True), (HOUR / 60, False), (-HOUR, False)])
async def test_lost_messages_are_published_again_unless_a_closed_gate_explains_that_nothing_moves(
    sqlite: Database, closed_ago: timedelta, again: bool
) -> None:
    front = Front(sqlite, settings=Settings(relay=RelaySettings(every_s=1e-6, republish_after_s=3600)))
    await front.collect(1, cities=[1])
    await front.relay.work_once()
    await front.relay.work_once()
    front.clock.moment += 2 * HOUR
    front.open_gate(blocked_until=front.clock.moment - closed_ago)
    front.beat()
    await front.relay.work_once()
    assert front.shelf.keys == ["1/0"] * (2 if again else 1)
