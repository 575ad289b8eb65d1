"""The list of the calls that were seen, kept compactly: about 25 bytes a call and 8 for each id. Pure."""

from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

KEPT_IDS: Final = 100
"""Ids kept of one call; a longer list is nonsense, and its units say how long it was."""

UNDERWAY: Final = -1
"""The status of a call that has no answer yet."""

DROPPED: Final = 0
"""The status of a call whose connection was closed without an answer."""


class Endpoint(Enum):
    """The paths below /data/2.5/."""

    GROUP = "group"
    SINGLE = "weather"


_ENDPOINTS: Final = tuple(Endpoint)


@dataclass(frozen=True, slots=True)
class Call:
    """One call that arrived."""

    number: int
    at: float
    """Seconds on the clock's monotonic()."""
    endpoint: Endpoint
    ids: Sequence[int]
    """-1 for what is no city id."""
    status: int
    units: int


class _Page:
    """Some calls, one array for each field."""

    __slots__ = ("at", "endpoint", "ends", "ids", "status", "units")

    def __init__(self) -> None:
        self.at = array("d")
        self.endpoint = bytearray()
        self.status = array("h")
        self.units = array("I")
        self.ids = array("q")
        self.ends = array("I")

    def call(self, index: int, number: int) -> Call:
        begin = self.ends[index - 1] if index else 0
        ids = self.ids[begin : self.ends[index]].tolist()
        endpoint = _ENDPOINTS[self.endpoint[index]]
        return Call(number, self.at[index], endpoint, ids, self.status[index], self.units[index])


class CallLog:
    """The latest calls, numbered from 1. When more than `keep` would be kept, the oldest page of them goes."""

    def __init__(self, keep: int = 1_000_000, page: int = 10_000) -> None:
        self._page = page
        self._pages: deque[_Page] = deque([_Page()], maxlen=max(2, keep // page))
        self.first = 1
        """The number of the oldest call that is kept."""
        self.next = 1
        """The number that the next call will get."""

    def append(self, at: float, endpoint: Endpoint, ids: Sequence[int], units: int) -> int:
        """Keep a call without an answer and return its number."""
        page = self._pages[-1]
        if len(page.at) == self._page:
            page = self._open_page()
        page.at.append(at)
        page.endpoint.append(_ENDPOINTS.index(endpoint))
        page.status.append(UNDERWAY)
        page.units.append(units)
        page.ids.extend(ids[:KEPT_IDS])
        page.ends.append(len(page.ids))
        self.next += 1
        return self.next - 1

    def _open_page(self) -> _Page:
        if len(self._pages) == self._pages.maxlen:
            self.first += self._page
        page = _Page()
        self._pages.append(page)
        return page

    def answered(self, number: int, status: int) -> None:
        """Note the status of a call that is kept; of others nothing is noted."""
        if number >= self.first:
            page, index = divmod(number - self.first, self._page)
            self._pages[page].status[index] = status

    def read(self, after: int, limit: int) -> Iterator[Call]:
        """The kept calls with a number above `after`, at most `limit` of them."""
        begin = max(after + 1, self.first)
        for number in range(begin, min(begin + limit, self.next)):
            page, index = divmod(number - self.first, self._page)
            yield self._pages[page].call(index, number)

    def arrivals(self, begin: int) -> Iterator[tuple[float, int]]:
        """Moment and units of the calls from number `begin` to the end of its page."""
        page, index = divmod(begin - self.first, self._page)
        return zip(self._pages[page].at[index:], self._pages[page].units[index:], strict=True)

    def clear(self) -> None:
        """Forget all calls; the numbers go on."""
        self._pages.clear()
        self._pages.append(_Page())
        self.first = self.next
