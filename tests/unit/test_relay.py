"""The relay's own loop; what it does in the database is tested with the storage and the simulation."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from producer.relay import Relay
from raingauge.blocking import inline
from raingauge.messaging.inprocess import InProcessBroker
from raingauge.pacing import Terms
from raingauge.settings import RelaySettings
from raingauge.storage.database import Database


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


async def test_an_unexpected_error_does_not_end_it() -> None:
    database = BreaksOnce()
    relay = Relay(
        cast("Database", database),
        inline,
        InProcessBroker("cities", window=1),
        RelaySettings(every_s=0.01),
        topic="cities",
        account="test",
        terms=Terms(60, 60.0, "smooth", 1_000_000, "even", 10.0),
        outstanding=10,
        holder="relay",
    )
    running = asyncio.create_task(relay.run())
    async with asyncio.timeout(5):
        await database.worked.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert database.rounds >= 2
