"""Exports as Parquet, row group by row group; needs the extra `parquet`. It encodes readings and reads nothing."""

import asyncio
import io
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future
from typing import IO, Any, Final, cast

from arro3.core import Array, DataType, Field, RecordBatch, RecordBatchReader, Schema
from arro3.io import write_parquet

from producer.exports.columns import KINDS, Kind, Values, column_names, in_units
from raingauge.blocking import Threads
from raingauge.errors import RaingaugeError
from raingauge.units import Units

ROWS_IN_GROUP: Final = 10_000
"""Rows of a row group, which is held in memory."""
TAKEN_WITHIN_S: Final = 120.0
"""A client that does not take a row group in that time gives its thread back."""
TYPES: Final[dict[Kind, DataType]] = {
    "integer": DataType.int32(),
    "number": DataType.float64(),
    "text": DataType.utf8(),
    "moment": DataType.timestamp("us", tz="UTC"),
}


class Abandoned(Exception):
    """Nobody wants the rest of the export."""


class ParquetFormat:
    """Encodes one export."""

    def __init__(self, units: Units) -> None:
        fields = [Field(name, TYPES[kind]) for name, kind in zip(column_names(units), KINDS.values(), strict=True)]
        self._schema = Schema(fields)
        self._convert = in_units(units)

    def encode(self, rows: Sequence[Values]) -> RecordBatch:
        """Readings as Arrow columns."""
        columns = zip(*map(self._convert, rows), strict=True) if rows else ([] for _ in KINDS)
        arrays = [_array(list(values), kind) for values, kind in zip(columns, KINDS.values(), strict=True)]
        return RecordBatch.from_arrays(arrays, schema=self._schema)

    async def file(self, batches: AsyncIterator[RecordBatch], threads: Threads) -> AsyncIterator[bytes]:
        """The file, part by part; the next batches are read when the parts so far are taken."""
        parts = _Parts(batches)
        writing = asyncio.ensure_future(threads(lambda: self._write(parts)))
        writing.add_done_callback(parts.end)
        try:
            while part := await parts.take():
                yield part
                parts.taken()
            await writing
        except Exception:
            if parts.broken_by is not None:
                raise parts.broken_by from None  # arro3 makes an error of its own of it
            raise
        finally:
            parts.abandon()

    def _write(self, parts: "_Parts") -> None:
        batches = RecordBatchReader.from_batches(self._schema, parts.batches())
        file = cast("IO[bytes]", parts)  # it needs no more of it than `write`
        # Not zstd: it would hold a megabyte for each column.
        write_parquet(batches, file, compression="snappy", max_row_group_size=ROWS_IN_GROUP)


def _array(values: list[Any], kind: Kind) -> Array:
    if kind != "moment":
        return Array(values, TYPES[kind])
    # arro3 makes no moments of Python's: they go through microseconds.
    microseconds = [None if value is None else round(value.timestamp() * 1_000_000) for value in values]
    return Array(microseconds, DataType.int64()).cast(TYPES["moment"])


class _Parts(io.RawIOBase):
    """Between the event loop, which reads batches and sends parts, and the thread that makes the one of the other.

    For the thread it is the file to write to.
    """

    def __init__(self, batches: AsyncIterator[RecordBatch]) -> None:
        self._batches = batches
        self._loop = asyncio.get_running_loop()
        self._written: asyncio.Queue[bytes] = asyncio.Queue()
        self._abandoned = False
        self._coming: Future[RecordBatch | None] | None = None
        self.broken_by: RaingaugeError | None = None
        """Why there is no next batch."""

    async def take(self) -> bytes:
        """The next part; empty: there is none."""
        return await self._written.get()

    def taken(self) -> None:
        """The part that was taken last is sent."""
        self._written.task_done()

    def end(self, writing: "asyncio.Future[None]") -> None:
        """There is no further part."""
        if not writing.cancelled():
            writing.exception()  # retrieved, even when nobody waits for it any more
        self._written.put_nowait(b"")

    def abandon(self) -> None:
        """End the thread's waiting."""
        self._abandoned = True
        if self._coming is not None:
            self._coming.cancel()

    async def _next(self) -> RecordBatch | None:
        """The next batch, when the parts so far are taken.

        Raises:
            Abandoned, TimeoutError: the client does not take them.
        """
        if self._abandoned:
            raise Abandoned
        async with asyncio.timeout(TAKEN_WITHIN_S):
            await self._written.join()  # what is written and not sent is held in memory
        try:
            return await anext(self._batches, None)
        except RaingaugeError as error:
            self.broken_by = error
            raise

    # -- in the thread -------------------------------------------------------------------------------------------------

    def batches(self) -> Iterator[RecordBatch]:
        """All batches."""
        while True:
            self._coming = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
            batch = self._coming.result()
            if batch is None:
                return
            yield batch

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, part: Any, /) -> int:
        """Send a part."""
        copy = bytes(part)
        self._loop.call_soon_threadsafe(self._written.put_nowait, copy)
        return len(copy)
