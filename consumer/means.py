"""What the caller and the settler work with, whom they tell, and what they count."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from consumer.provider.port import Provider
from consumer.quota import Ledger
from consumer.store import Store
from raingauge.blocking import RunBlocking, until_available
from raingauge.clock import Clock
from raingauge.storage.batches import BatchRef

T = TypeVar("T")


class Listener(Protocol):
    """Who is told what became of batches."""

    def settled(self, refs: Sequence[BatchRef]) -> None:
        """All of these batches is stored, or not wanted any more."""

    async def broken(self, refs: Sequence[BatchRef]) -> None:
        """Storing for these met an error that nobody expected."""


@dataclass(slots=True)
class Tally:
    """What this consumer has done since its start."""

    calls: int = 0
    cities_asked: int = 0
    cities_collected: int = 0
    refusals: int = 0
    silences: int = 0


@dataclass(frozen=True, slots=True)
class Means:
    """What a caller works with."""

    ledger: Ledger
    provider: Provider
    store: Store
    run_database: RunBlocking
    run_provider: RunBlocking
    clock: Clock
    lanes: int

    async def persist(self, work: Callable[[], T]) -> T:
        """The result of database work, however long the database is away."""
        return await until_available(self.run_database, work, self.clock)
