"""The use case of readings over all collections: summaries. It speaks no HTTP."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import Connection

from producer.collections import DEADLINE_S
from producer.single_flight import SingleFlight
from raingauge.storage import collections, readings
from raingauge.storage.readings import Selection, Summary
from raingauge.storage.transactions import Transactions

SUMMARY_S: Final = 10.0
"""Without a collection a summary reads all readings, a million in about a second, so it may take longer than others."""
SUMMARIES_AT_ONCE: Final = 2
"""The others wait, so that threads and processors are left for quick requests."""


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
