"""The use case of exports: read a collection's readings page by page and encode them. It speaks no HTTP.

An export holds one page in memory, and no transaction between pages. A settled reading never changes, so pages of
different moments agree; of what is settled meanwhile, some is in the export and some is not.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, Literal, TypeVar

from sqlalchemy import Connection

from producer.collections import DEADLINE_S
from producer.exports.columns import SHOWN, Values
from producer.exports.text import Csv, GeoJson, JsonLines, TextFormat, json_list
from producer.pages import check_kept
from raingauge.blocking import Threads
from raingauge.database.transactions import Transactions
from raingauge.errors import Permanent
from raingauge.model import CollectionState
from raingauge.storage import collections, readings
from raingauge.units import Units

T = TypeVar("T")
Format = Literal["csv", "json", "jsonl", "geojson", "parquet"]

TEXT: Final[dict[str, Callable[[Units], TextFormat]]] = {
    "csv": Csv,
    "json": json_list,
    "jsonl": JsonLines,
    "geojson": GeoJson,
}
PAGE_ROWS: Final = 250
PAGE_S: Final = 10.0
"""A page may take longer than a request: the answer has begun, and a client would have to begin again."""
PARQUETS_AT_ONCE: Final = 4
"""Each has a thread of its own; others wait."""
NO_PARQUET: Final = "Parquet needs the extra `parquet` in the producer: pip install 'raingauge[parquet]'"


class NoParquet(Permanent):
    """The packages for Parquet are not installed here: the extra `parquet`."""


class Exports:
    """Exports of collections.

    Raises (all methods): DatabaseUnavailable.
    """

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._threads = Threads(PARQUETS_AT_ONCE, "parquet")

    async def find(self, collection_id: str) -> CollectionState | None:
        """The collection, or None."""
        return await self._transactions.read(lambda c: collections.find(c, collection_id), DEADLINE_S)

    def parts(self, state: CollectionState, format_name: Format, units: Units) -> AsyncIterator[bytes]:
        """The export of a collection, part by part. The parts end with an error, Gone, if it is deleted meanwhile.

        Raises:
            NoParquet: this format cannot be made here.
        """
        if format_name in TEXT:
            return self._text(state, TEXT[format_name](units))
        try:
            from producer.exports.parquet import ParquetFormat  # noqa: PLC0415  an extra
        except ImportError:
            raise NoParquet(NO_PARQUET) from None
        parquet = ParquetFormat(units)
        return parquet.file(self._pages(state, parquet.encode), self._threads)

    async def _text(self, state: CollectionState, encoder: TextFormat) -> AsyncIterator[bytes]:
        yield encoder.begin()
        async for part in self._pages(state, encoder.encode):
            yield part
        yield encoder.end()

    async def _pages(self, state: CollectionState, encode: Callable[[Sequence[Values]], T]) -> AsyncIterator[T]:
        """The readings in the order of city ids, encoded page by page."""
        after: int | None = 0
        while after is not None:
            encoded, after = await self._page(state, after, encode)
            yield encoded

    async def _page(
        self, state: CollectionState, after: int, encode: Callable[[Sequence[Values]], T]
    ) -> tuple[T, int | None]:
        """Readings of cities with ids above `after`; and where to go on, or None if these are all."""

        def work(connection: Connection) -> Sequence[Any]:
            found = readings.page(connection, state.id, tuple(SHOWN), after, PAGE_ROWS)
            check_kept(state, collections.find(connection, state.id))  # afterwards: deleting marks it first
            return found

        rows = await self._transactions.read(work, PAGE_S)
        encoded = await self._transactions.run_blocking(lambda: encode(rows))
        return encoded, rows[-1].city_id if len(rows) == PAGE_ROWS else None
