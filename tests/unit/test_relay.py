"""The relay's own loop; what it does in the database is tested with the storage and the simulation."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

import pytest
from sqlalchemy import Connection

from producer.relay import MAX_AT_ONCE, MAX_BESIDE_POSTS, MAX_REST_S, REST_FACTOR, Relay, _Done
from raingauge.blocking import RunBlocking, inline
from raingauge.clock import SystemClock
from raingauge.contracts import BatchMessage
from raingauge.messaging.inprocess import InProcessBroker
from raingauge.messaging.port import Headers, Publisher
from raingauge.model import BatchKey, CollectionRequest
from raingauge.quota.pacing import Terms
from raingauge.settings import RelaySettings
from raingauge.storage.database import Database
from raingauge.storage.outbox import Leased
from tests.simulation.virtual import VirtualLoop, run_virtually
from tests.support.accepting import accept

BATCH: Any = {"collection_id": "1", "batch": 0, "batches": 1, "total": 1, "max_age_s": 600, "city_ids": (2643743,)}
UNTIL = datetime(2026, 11, 10, tzinfo=UTC)


class BreaksOnce:
    """A database whose first transaction meets an error that nobody expects."""

    def __init__(self) -> None:
        self.rounds = 0
        self.broke = asyncio.Event()
        self.worked = asyncio.Event()

    def write(self, _work: Callable[..., Any]) -> _Done:
        self.rounds += 1
        if self.rounds == 1:
            self.broke.set()
            raise ZeroDivisionError("a fault in a statement")
        self.worked.set()
        return _Done(UNTIL, [], Leased([], []))


class OneBatch:
    """A database that leases the same batch in every round."""

    def __init__(self) -> None:
        self.rounds = 0

    def write(self, _work: Callable[..., Any]) -> _Done:
        self.rounds += 1
        return _Done(UNTIL, [], Leased([BatchMessage(**BATCH, requested_at=UNTIL)], [BatchKey("2", 7)]))


class ManyBatches:
    """A database that leases another batch in every round."""

    def __init__(self) -> None:
        self.rounds = 0

    def write(self, _work: Callable[..., Any]) -> _Done:
        self.rounds += 1
        return _Done(UNTIL, [], Leased([BatchMessage(**BATCH | {"batch": self.rounds}, requested_at=UNTIL)], []))


class BreaksFirst:
    """A publisher whose first send meets an error that nobody expects."""

    def __init__(self) -> None:
        self.sent = 0
        self.again = asyncio.Event()

    async def publish(self, _topic: str, _key: bytes | None, _value: bytes | None, _headers: Headers = ()) -> None:
        self.sent += 1
        if self.sent == 1:
            raise ZeroDivisionError("a fault in the client")
        self.again.set()


class Ends:
    """A publisher whose sends end at once."""

    async def publish(self, _topic: str, _key: bytes | None, _value: bytes | None, _headers: Headers = ()) -> None:
        """Nothing is to be done."""


class NeverEnds:
    """A publisher whose sends stay under way."""

    async def publish(self, _topic: str, _key: bytes | None, _value: bytes | None, _headers: Headers = ()) -> None:
        await asyncio.get_running_loop().create_future()


def relay_on(
    database: object, publisher: Publisher, every_s: float = 0.01, run_database: RunBlocking = inline
) -> Relay:
    return Relay(
        cast("Database", database),
        run_database,
        publisher,
        RelaySettings(every_s=every_s),
        topic="cities",
        account="test",
        terms=Terms(60, 60.0, "smooth", 1_000_000, "even", 10.0),
        outstanding=10,
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


async def test_an_unexpected_error_in_the_database_does_not_end_it() -> None:
    database = BreaksOnce()
    async with running(database, InProcessBroker("cities", window=1)):
        await database.worked.wait()
    assert database.rounds >= 2


async def test_an_unexpected_error_of_the_publisher_does_not_stop_it() -> None:
    publisher = BreaksFirst()
    async with running(OneBatch(), publisher):
        await publisher.again.wait()
    assert publisher.sent >= 2


async def test_a_batch_that_cannot_be_read_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    database = OneBatch()
    async with running(database, InProcessBroker("cities", window=1)):
        while database.rounds < 3:
            await SystemClock().sleep(0.001)
    assert [record.message for record in caplog.records] == ["relay.unreadable"]
    assert (caplog.records[0].__dict__["collection_id"], caplog.records[0].__dict__["batch"]) == ("2", 7)


async def test_what_is_accepted_in_a_burst_is_published_in_few_rounds(sqlite: Database) -> None:
    names = [f"c{number}" for number in range(MAX_BESIDE_POSTS + 20)]
    looked: list[int] = []

    class Watched:
        def now(self, connection: Connection) -> datetime:
            return sqlite.now(connection)

        def write(self, work: Callable[[Connection], Any]) -> Any:
            looked.append(len(names))
            return sqlite.write(work)

    broker = InProcessBroker("cities", window=len(names))
    async with broker.subscription() as subscription, running(Watched(), broker, every_s=1000.0) as relay:
        while not looked:
            await SystemClock().sleep(0)
        for name in names:
            request = CollectionRequest(name, (1,), 600, named=True)
            sqlite.write(partial(accept, now=UNTIL, request=request))
            relay.wake(name)
            await SystemClock().sleep(0)
        keys: set[bytes | None] = set()
        while len(keys) < len(names):
            keys |= {delivery.key for delivery in await subscription.receive()}
    assert keys == {f"{name}/0".encode() for name in names}
    assert len(looked) <= len(names) // 7, "far fewer than one for every other; how many exactly is the machine's"


@pytest.mark.parametrize("is_posting", [False, True])
async def test_rounds_are_smaller_while_somebody_posts(sqlite: Database, is_posting: bool) -> None:
    for number in range(MAX_AT_ONCE + 20):
        request = CollectionRequest(f"c{number}", (1,), 600, named=True)
        sqlite.write(partial(accept, now=UNTIL, request=request))
    rounds: list[int] = []

    class Watched:
        def now(self, connection: Connection) -> datetime:
            return sqlite.now(connection)

        def write(self, work: Callable[[Connection], _Done]) -> _Done:
            done = sqlite.write(work)
            rounds.append(len(done.leased.messages))
            return done

    relay = relay_on(Watched(), Ends())
    if is_posting:
        relay.wake("c0")
    task = asyncio.create_task(relay.run())
    while sum(rounds) < MAX_AT_ONCE:
        await SystemClock().sleep(0)
    task.cancel()
    assert rounds[0] == (MAX_BESIDE_POSTS if is_posting else MAX_AT_ONCE)
    assert max(rounds) <= MAX_AT_ONCE


@pytest.mark.parametrize("publisher", [Ends(), NeverEnds()], ids=["published at once", "under way for ever"])
@pytest.mark.parametrize("took_s", [0.01, 1.0])
def test_the_longer_a_look_at_all_collections_takes_the_longer_it_rests(took_s: float, publisher: Publisher) -> None:
    loop, database = VirtualLoop(), ManyBatches()
    looks: list[float] = []

    async def slowly(work: Callable[[], Any]) -> Any:
        if cast("partial[Any]", work).args[1] is None:  # a look at all; else what was published is marked
            looks.append(loop.time())
            await asyncio.sleep(took_s)  # noqa: TID251
        return work()

    async def watch() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(100):
                await relay_on(database, publisher, every_s=1000.0, run_database=slowly).run()

    run_virtually(watch(), loop)
    assert len(looks) == pytest.approx(100 / (took_s * (1 + REST_FACTOR)), rel=0.03)


def test_after_a_round_that_failed_it_rests_long() -> None:
    loop, database = VirtualLoop(), BreaksOnce()
    waited: list[float] = []

    async def watch() -> None:
        relay = relay_on(database, NeverEnds(), every_s=1000.0)
        task = asyncio.create_task(relay.run())
        await database.broke.wait()
        relay.wake("1")
        began = loop.time()
        await database.worked.wait()
        waited.append(loop.time() - began)
        task.cancel()

    run_virtually(watch(), loop)
    assert waited == [pytest.approx(MAX_REST_S)]
