"""Locks that others hold: processes that freeze inside a transaction, and cancelling beside consumers at work."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from threading import Event
from typing import TypeVar

from sqlalchemy import Connection, update

from consumer.ledger import Reservation
from producer.collections import Collections
from raingauge.blocking import Threads
from raingauge.clock import SystemClock
from raingauge.database import Database
from raingauge.database.transactions import Transactions
from raingauge.errors import DatabaseUnavailable
from raingauge.model import CollectionRequest
from raingauge.storage import collections, outbox
from raingauge.storage.models import Batch
from raingauge.storage.outbox import Lease
from tests.contract.ledger_support import Account, Consumer, assert_exact
from tests.contract.storage_support import NOW, ON_SERVERS, SECOND, Moment
from tests.support.accepting import accept

T = TypeVar("T")
Work = Callable[[Database], object]

CLOCK = SystemClock()
FREE_WITHIN_S = 10.0
RETRY_AFTER_S = 2.0
ANSWER_S = 2.0
"""Longer than a request's deadline, for a busy machine, and much shorter than a transaction may be idle."""


class FreezingDatabase(Database):
    """A process that freezes just before each commit, until it is thawed."""

    def __init__(self, like: Database, clock: Moment) -> None:
        super().__init__(like.engine, clock)
        self.frozen, self.thawed = Event(), Event()

    def write(self, work: Callable[[Connection], T]) -> T:
        def freezing(connection: Connection) -> T:
            result = work(connection)
            self.frozen.set()
            self.thawed.wait()
            return result

        return super().write(freezing)


@contextmanager
def frozen_in(works: list[Work], like: Database, clock: Moment) -> Iterator[None]:
    """One frozen process for each piece of work; at the end they go on, and find that nothing of it was stored."""
    databases = [FreezingDatabase(like, clock) for _ in works]
    with ThreadPoolExecutor(len(works)) as threads:
        futures: list[Future[object]] = []
        try:
            for work, database in zip(works, databases, strict=True):
                futures.append(threads.submit(work, database))
                assert database.frozen.wait(FREE_WITHIN_S / 2), f"number {len(futures)} waits for what another holds"
            yield
        finally:
            for database in databases:
                database.thawed.set()
        assert {type(future.exception()) for future in futures} == {DatabaseUnavailable}


async def as_a_client(work: Callable[[], Awaitable[T]]) -> T:
    """The answer, tried again as Retry-After says."""
    while True:
        try:
            return await work()
        except DatabaseUnavailable:
            await CLOCK.sleep(RETRY_AFTER_S)


def producer_of(account: Account, threads: Threads) -> Collections:
    transactions = Transactions(account.database, threads, CLOCK)
    return Collections(transactions, account.terms, account.name, deadline_s=ANSWER_S)


def lease(database: Database, holder: str) -> list[int]:
    taken = Lease(holder, NOW + 30 * SECOND)
    leased = database.write(lambda c: outbox.lease(c, NOW, taken, 10))
    return [message.batch for message in leased.messages if message.collection_id == "leased"]


@ON_SERVERS
async def test_what_frozen_processes_hold_is_free_within_ten_seconds(database: Database) -> None:
    account = Account(database)
    healthy = account.consumer("healthy")
    account.want("settled", range(1, 21))
    taken = healthy.take()
    account.want("reserved", range(21, 41))
    account.post("leased", range(41, 61))
    account.post("cancelled", range(61, 81))
    database.write(lambda c: c.execute(update(Batch).where(Batch.collection_id != "leased").values(publish_order=None)))
    posted = CollectionRequest("posted", [1], 600, named=True)

    def consumer(on: Database) -> Consumer:
        return Consumer(on, account.name, account.terms, "group", "frozen")

    works: list[Work] = [
        lambda frozen: consumer(frozen).settle(taken),
        lambda frozen: consumer(frozen).reserve(),
        lambda frozen: lease(frozen, "frozen"),
        lambda frozen: frozen.write(lambda c: accept(c, NOW, posted)),
        lambda frozen: frozen.write(lambda c: collections.cancel_all(c, NOW, ["cancelled"])),
    ]
    with closing(Threads(16, "producer")) as threads:
        producer = producer_of(account, threads)
        names = ("settled", "reserved", "leased", "cancelled")

        with frozen_in(works, database, account.moment):
            async with asyncio.timeout(FREE_WITHIN_S):
                looking = asyncio.gather(*(producer.view(name, producer.deadline()) for name in names))
                reserved, settled, leased, accepted, cancelled = await asyncio.gather(
                    asyncio.to_thread(healthy.reserve),
                    asyncio.to_thread(healthy.settle, taken),
                    asyncio.to_thread(lease, account.database, "healthy"),
                    as_a_client(lambda: producer.accept(posted)),
                    as_a_client(lambda: producer.cancel("cancelled")),
                )
                views = await looking
    assert isinstance(reserved, Reservation)
    assert sorted(reserved.city_ids) == list(range(21, 41))
    assert [done.collection_id for done in settled.collections] == ["settled"]
    assert leased == [0]
    assert accepted[0].state.total == 1
    assert cancelled is not None
    assert cancelled[0].state.cancelled_at is not None
    assert [view and view.state.id for view in views] == [*names]


@ON_SERVERS
async def test_thirty_collections_are_cancelled_at_once_while_consumers_settle(database: Database) -> None:
    account = Account(database, cities_per_window=100_000)
    names = [f"c{number}" for number in range(30)]
    for number, name in enumerate(names):
        account.want(name, range(1 + 100 * number, 101 + 100 * number))
    at_work, stopped = Event(), Event()

    def work(consumer: Consumer) -> None:
        while not stopped.is_set() and isinstance(taken := consumer.reserve(), Reservation):
            consumer.settle(taken)
            at_work.set()

    with closing(Threads(16, "producer")) as threads, ThreadPoolExecutor(3) as consumers:
        producer = producer_of(account, threads)
        working = [consumers.submit(work, account.consumer(str(number))) for number in range(3)]
        try:
            assert await asyncio.to_thread(at_work.wait, FREE_WITHIN_S)
            found = await asyncio.gather(*map(producer.cancel, names))
        finally:
            stopped.set()
        for consumer in working:
            consumer.result(FREE_WITHIN_S)
    assert {one and one[0].state.cancelled_at for one in found} == {NOW}
    assert_exact(database)
