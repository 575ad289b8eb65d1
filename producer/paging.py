"""A page of readings, in the parts in which it is read: a long one is never in memory as a whole."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from producer.desk import Desk
from producer.outlook import View
from raingauge.storage.pages import MOST, Part, Written


@dataclass(frozen=True, slots=True)
class Page:
    """A page of which the first part is read."""

    desk: Desk
    wanted: Part
    first: Written
    next_after: int | None
    """After which city id the next page begins; None: there is none."""

    @property
    def is_whole(self) -> bool:
        """Whether its first part is all of it."""
        return not self.first.more or self.first.number >= self.wanted.most

    async def parts(self) -> AsyncIterator[Written]:
        """One after the other; each has the time that a request has.

        A collection under way may have got readings meanwhile: then there are a few more rows than were asked for.
        """
        written = self.first
        yield written
        while written.more:
            rest = replace(self.wanted, after=written.last, most=MOST)
            seen = await self.desk.read(rest, self.desk.until())
            if seen is None:
                return
            written = seen[1]
            yield written


async def read_page(desk: Desk, wanted: Part, until: float) -> tuple[View, Page] | None:
    """A collection as it stands and the begin of a page of up to `wanted.most` rows; None: there is none."""
    seen = await desk.read(replace(wanted, most=min(wanted.most, MOST)), until)
    if seen is None:
        return None
    view, first = seen
    if not first.more:
        return view, Page(desk, wanted, first, None)
    if first.number >= wanted.most:
        return view, Page(desk, wanted, first, first.last)
    last, following = await desk.boundary(wanted, wanted.most - 1, until)
    next_after = last if following is not None else None
    upto = wanted.upto if last is None else last
    return view, Page(desk, replace(wanted, upto=upto), first, next_after)
