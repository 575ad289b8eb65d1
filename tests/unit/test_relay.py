"""The relay's own loop; what it does in the database is tested with the storage and the simulation."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast

from producer.relay import Relay
from raingauge.blocking import inline
from raingauge.contracts import BatchMessage
from raingauge.messaging.inprocess import InProcessBroker
from raingauge.messaging.port import Headers, Publisher
from raingauge.pacing import Terms
from raingauge.settings import RelaySettings
from raingauge.storage.database import Database

BATCH: Any = {"collection_id": "1", "batch": 0, "batches": 1, "total": 1, "max_age_s": 600, "city_ids": (2643743,)}


class BreaksOnce:
    """A database whose first transaction meets an error that nobody expects."""

    def __init__(self) -> None:
        self.rounds = 0
        self.worked = asyncio.Event()

    def write(self, _work: Callable[..., Any]) -> list[Any]:
        self.rounds += 1
        if self.rounds == 1:
            raise ZeroDivisionError("a corrupt row")
        self.worked.set()
        return []


class OneBatch:
    """A database that leases the same batch in every round."""

    def __init__(self) -> None:
        self.rounds = 0

    def write(self, _work: Callable[..., Any]) -> list[BatchMessage]:
        self.rounds += 1
        return [BatchMessage(**BATCH, requested_at=datetime(2026, 11, 10, tzinfo=UTC))]


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


@asynccontextmanager
async def running(database: object, publisher: Publisher) -> AsyncIterator[None]:
    relay = Relay(
        cast("Database", database),
        inline,
        publisher,
        RelaySettings(every_s=0.01),
        topic="cities",
        account="test",
        terms=Terms(60, 60.0, "smooth", 1_000_000, "even", 10.0),
        outstanding=10,
        holder="relay",
    )
    task = asyncio.create_task(relay.run())
    try:
        async with asyncio.timeout(5):
            yield
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
