"""The use cases of readings over all collections: summaries, the latest of cities, their history. It speaks no HTTP."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row

from producer.collections import DEADLINE_S
from producer.single_flight import SingleFlight
from raingauge.database.transactions import Transactions
from raingauge.model import BATCH_SIZE
from raingauge.storage import cities, collections, history, readings
from raingauge.storage.history import Period, Place
from raingauge.storage.readings import Selection, Summary

SUMMARY_S: Final = 10.0
"""Without a collection a summary reads all readings, a million in about a second, so it may take longer than others."""
MAX_LATEST: Final = 1000
"""Cities of one page of latest observations."""
SUMMARIES_AT_ONCE: Final = 2
"""The others wait, so that threads and processors are left for quick requests."""
HISTORY_ROWS_PER_SECOND: Final = 50_000
"""A long page of a history gets a second more for each of these."""
BATCHES_AT_ONCE: Final = MAX_LATEST // BATCH_SIZE


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest observations of cities, as they are at a moment of the database's clock."""

    now: datetime
    city_ids: Sequence[int]
    """Those that were asked about."""
    rows: Sequence[Row[Any]]
    """Those that have one, as `raingauge.storage.cities.latest` gives them."""
    go_on: int | None
    """The batch at which the next page begins; None: there is none."""


class Readings:
    """Readings in the database.

    Raises (all methods): DatabaseUnavailable, within `DEADLINE_S`.
    """

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._free = asyncio.Semaphore(SUMMARIES_AT_ONCE)
        self._summaries: SingleFlight[Selection, Summary] = SingleFlight(
            self._load, keys_at_once=1, loads_at_once=SUMMARIES_AT_ONCE
        )

    async def summary(self, selection: Selection) -> Summary | None:
        """The summary of these readings; None: there is no such collection.

        Raises:
            TimeoutError: it took longer than `SUMMARY_S`.
        """
        return await self._summaries.get(selection, asyncio.get_running_loop().time() + SUMMARY_S)

    async def latest(self, city_ids: Sequence[int]) -> Latest:
        """The newest observation of each of these cities."""

        def work(connection: Connection) -> Latest:
            return Latest(self._transactions.now(connection), city_ids, cities.latest(connection, city_ids), None)

        return await self._transactions.read(work, DEADLINE_S)

    async def latest_of(self, collection_id: str, begin: int) -> Latest | None:
        """The same for the cities of a collection's batches from `begin` on; None: there is no such collection."""

        def work(connection: Connection) -> Latest | None:
            if collections.find(connection, collection_id) is None:
                return None
            city_ids, go_on = collections.cities_of(connection, collection_id, begin, BATCHES_AT_ONCE)
            return Latest(self._transactions.now(connection), city_ids, cities.latest(connection, city_ids), go_on)

        return await self._transactions.read(work, DEADLINE_S)

    async def history(
        self, period: Period, columns: tuple[str, ...], after: Place | None, limit: int
    ) -> Sequence[Row[Any]]:
        """Up to `limit` observations behind `after`, as `raingauge.storage.history.page` gives them."""
        within_s = DEADLINE_S + limit * len(period.city_ids) / HISTORY_ROWS_PER_SECOND
        return await self._transactions.read(lambda c: history.page(c, period, columns, after, limit), within_s)

    async def _load(self, selections: Sequence[Selection]) -> Mapping[Selection, Summary]:
        # By itself and first, so that a database that is away is reported at once.
        await self._transactions.read(self._transactions.now, DEADLINE_S)

        def work(connection: Connection) -> dict[Selection, Summary]:
            return {one: readings.summarize(connection, one) for one in selections if _exists(connection, one)}

        await self._free.acquire()
        reading = asyncio.ensure_future(self._transactions.read(work))
        reading.add_done_callback(self._ended)  # not earlier: the thread goes on when nobody waits any more
        return await asyncio.shield(reading)

    def _ended(self, reading: "asyncio.Future[dict[Selection, Summary]]") -> None:
        self._free.release()
        if not reading.cancelled():
            reading.exception()  # retrieved, even when nobody waits for it any more


def _exists(connection: Connection, selection: Selection) -> bool:
    name = selection.collection_id
    return name is None or collections.find(connection, name) is not None
