"""Pages of readings as JSON, and those that are kept rendered. It speaks no HTTP and opens no transaction."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

import orjson
from cachetools import LRUCache
from sqlalchemy import Connection, Row

from raingauge.contracts import utc_text
from raingauge.errors import Permanent
from raingauge.model import CollectionState
from raingauge.storage import readings
from raingauge.units import Units, converted

CACHE_BYTES: Final = 16 * 2**20
"""Pages that are kept rendered, until their collection makes progress."""
_MOMENTS: Final = ("fetched_at", "observed_at")
ROW: Final = ("name", "temperature", "humidity", *_MOMENTS)
"""The columns that every collected city shows; `datetime` is another name of `fetched_at`."""


@dataclass(frozen=True, slots=True)
class PageQuery:
    """A page of readings: up to `limit` of a collection with city ids above `after`."""

    collection_id: str
    more: tuple[str, ...]
    """Columns that are shown beside `ROW`."""
    after: int
    limit: int
    units: Units = "metric"


@dataclass(frozen=True, slots=True)
class Page:
    """Readings as JSON arrays, in the order of city ids."""

    data: bytes
    errors: bytes
    next_after: int | None
    """The city id after which the next page begins; None: there is none."""

    @property
    def size(self) -> int:
        """Bytes in memory, about."""
        return len(self.data) + len(self.errors) + 500


EMPTY_PAGE: Final = Page(b"[]", b"[]", None)


class Gone(Permanent):
    """A collection or its readings were deleted while they were read page by page."""

    def __init__(self, collection_id: str) -> None:
        super().__init__(f"the collection {collection_id} or its readings were deleted meanwhile")


def check_kept(before: CollectionState, now: CollectionState | None) -> None:
    """Return if all readings of a collection are still there that were there before.

    Raises:
        Gone: they are not, or it is another collection of the same id.
    """
    kept = (before.requested_at, before.readings_pruned_at)
    if now is None or (now.requested_at, now.readings_pruned_at) != kept:
        raise Gone(before.id)


class RenderedPages:
    """Pages, read again when their collection has made progress. Threads share it."""

    def __init__(self) -> None:
        self._pages: LRUCache[PageQuery, tuple[Hashable, Page]] = LRUCache(CACHE_BYTES, lambda kept: kept[1].size)
        self._lock = Lock()

    def page(self, connection: Connection, query: PageQuery, state: CollectionState) -> Page:
        """A page of a collection that stands at `state`."""
        if state.settled == 0 or state.readings_pruned_at is not None:
            return EMPTY_PAGE
        version = (state.requested_at, state.collected, state.failed, state.last_progress_at)
        with self._lock:
            kept_version, page = self._pages.get(query, (None, EMPTY_PAGE))
        if kept_version == version:
            return page
        rows = readings.page(connection, query.collection_id, (*ROW, *query.more), query.after, query.limit + 1)
        page = render(rows, query)
        if page.size < CACHE_BYTES // 8:
            with self._lock:
                self._pages[query] = (version, page)
        return page


def render(rows: Sequence[Row[Any]], query: PageQuery) -> Page:
    """A page as JSON. `rows`: what was read for it, one more than it shows if there is a next page."""
    data, errors = [], []
    for row in rows[: query.limit]:
        city_id, status, reason, name, temperature, humidity, fetched_at, observed_at, *more = tuple(row)
        if status == "failed":
            errors.append({"city_id": city_id, "reason": reason})
            continue
        fetched, temperature = utc_text(fetched_at), converted("temperature", temperature, query.units)
        shown = {"city_id": city_id, "name": name, "temperature": temperature, "humidity": humidity}
        shown |= {"datetime": fetched, "fetched_at": fetched, "observed_at": observed_at and utc_text(observed_at)}
        for field, value in zip(query.more, more, strict=True):
            shown[field] = converted(field, value, query.units)
        data.append(shown)
    next_after = rows[query.limit - 1].city_id if len(rows) > query.limit else None
    return Page(orjson.dumps(data), orjson.dumps(errors), next_after)
