"""The use cases of collections: accept, estimate, cancel, view, read a page. It speaks no HTTP.

Requests that arrive at the same time share a transaction.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final, Literal, TypeVar

from sqlalchemy import Connection, update

from producer.access import open_cities
from producer.access.open_cities import TooManyOpen
from producer.forecast import Status, ended
from producer.freshness import count_fresh
from producer.pages import EMPTY_PAGE, Page, PageQuery, RenderedPages, check_kept
from producer.single_flight import LOADS_AT_ONCE, SingleFlight
from producer.views import View, Views
from raingauge.database.transactions import Transactions
from raingauge.errors import DatabaseUnavailable
from raingauge.model import CollectionRequest, CollectionState
from raingauge.quota.pacing import Terms
from raingauge.storage import cities, collections
from raingauge.storage.collections import OtherRequest
from raingauge.storage.models import CANCELLED, DONE, OPEN, Collection

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

CITIES_PER_SECOND: Final = 50_000
"""A large collection gets a second more for each of these."""
DEADLINE_S: Final = 0.7
"""Every request is answered within a second; 0.3 s is left for a busy machine."""
MAX_SHARING: Final = 2000
"""Cities of a collection that is stored in one transaction with others."""
PATIENCE_S: Final = 0.03
"""How long requests wait for a transaction under way before they get one of their own."""
GATHER_S: Final = 0.001
"""Requests that arrive within this time share a transaction even when none is under way."""
PAGES_AT_ONCE: Final = 16
"""Pages read in one transaction: about ten milliseconds."""
PAGES_PATIENCE_S: Final = 0.005
MAX_NEWEST: Final = 100
"""Newest collections, and newest open ones, that watchers see."""
JUST: Final = timedelta(seconds=10)
"""For how long watchers see a collection that has ended, however old it is."""

ListedStatus = Literal["all", "open", "queued", "collecting", "waiting", "done", "cancelled"]
"""What a list can be limited to; `open`: queued, collecting or waiting."""
STANDINGS: Final[Mapping[ListedStatus, tuple[tuple[int, ...], Status | None]]] = {
    "all": ((OPEN, DONE, CANCELLED), None),
    "open": ((OPEN,), None),
    "queued": ((OPEN,), "queued"),
    "collecting": ((OPEN,), "collecting"),
    "waiting": ((OPEN,), "waiting"),
    "done": ((DONE,), None),
    "cancelled": ((CANCELLED,), None),
}
"""How a status is found: what is stored, and what has to be computed beside it."""
EXAMINED: Final = 200
"""Open collections whose status is computed for one page."""
FORECASTS_PER_SECOND: Final = 500
"""A long list gets a second more for each of these; the forecasts of many open collections depend on each other."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a collection would cost, or what an existing one still costs."""

    view: View
    fresh: int
    """Unsettled cities that need no call."""

    @property
    def cost(self) -> int:
        """Cities to request of the provider."""
        state = self.view.state
        return 0 if state.finished_at is not None else state.total - state.settled - self.fresh


@dataclass(frozen=True, slots=True)
class ListPage:
    """A page of collections."""

    views: Sequence[View]
    next_after: str | None
    """The collection after which the next page begins; None: there is none."""


@dataclass(frozen=True, slots=True, eq=False)
class _Post:
    """A request; two are never the same, however alike."""

    request: CollectionRequest


Accepted = tuple[View, bool]
Refused = OtherRequest | TooManyOpen


class Collections:
    """The use cases.

    Raises (all methods): DatabaseUnavailable, in time.
    """

    def __init__(
        self,
        transactions: Transactions,
        terms: Terms,
        account: str,
        outstanding: int = 10,
        *,
        endpoint: str = "auto",
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self.transactions = transactions
        self._deadline_s = deadline_s
        self._outstanding = outstanding
        self.views = Views(transactions, terms, account, endpoint)
        self._pages = RenderedPages()
        self._views: SingleFlight[str, View] = SingleFlight(
            self._in_thread(self._view), patience_s=PATIENCE_S, gather_s=GATHER_S
        )
        self._reads: SingleFlight[PageQuery, tuple[View, Page]] = SingleFlight(
            self._in_thread(self._read), keys_at_once=PAGES_AT_ONCE, patience_s=PAGES_PATIENCE_S, gather_s=GATHER_S
        )
        self._posts: dict[str | None, SingleFlight[_Post, Accepted | Refused]] = {}
        """One per client with a limit of open cities, whose POSTs share a lock; None: all others."""
        self._limited = asyncio.Semaphore(LOADS_AT_ONCE)
        """Keeps limited clients from taking all threads."""
        self._cancellations: SingleFlight[str, tuple[View, bool]] = SingleFlight(
            self._in_thread(self._cancel, write=True), patience_s=PATIENCE_S, gather_s=GATHER_S
        )

    def deadline(self) -> float:
        """The deadline of a request that arrives now, on the event loop's clock."""
        return asyncio.get_running_loop().time() + self._deadline_s

    async def accept(self, request: CollectionRequest) -> Accepted:
        """Store a collection, or find it: its view, and whether it is new.

        Raises:
            OtherRequest: its id belongs to another request.
            TooManyOpen: its client has too many cities open.
        """
        post = _Post(request)
        if len(request.city_ids) <= MAX_SHARING:
            result = await self._shared(self._posts_beside(request), post, self.deadline())
        else:
            more_s = len(request.city_ids) / CITIES_PER_SECOND
            result = (await self.transactions.write(partial(self._accept, [post]), self._deadline_s + more_s))[post]
        if result is None or isinstance(result, Refused):
            raise result or AssertionError("every request has a result")
        return result

    def _posts_beside(self, request: CollectionRequest) -> SingleFlight[_Post, Accepted | Refused]:
        """The requests that may share a transaction with this one."""
        client = request.requested_by if request.max_open_cities else None
        if client not in self._posts:
            accept = self._in_thread(self._accept, write=True)
            load, loads = (accept, LOADS_AT_ONCE) if client is None else (self._accept_limited, 1)
            self._posts[client] = SingleFlight(load, loads_at_once=loads, patience_s=PATIENCE_S, gather_s=GATHER_S)
        return self._posts[client]

    async def _accept_limited(self, posts: Sequence[_Post]) -> Mapping[_Post, Accepted | Refused]:
        async with self._limited:
            return await self.transactions.write(partial(self._accept, posts))

    async def estimate(self, request: CollectionRequest) -> Estimate:
        """What a collection would cost, without storing it; or still costs, if it exists.

        Raises:
            OtherRequest, TooManyOpen: as `accept`.
        """

        def work(connection: Connection) -> Estimate:
            now = self.transactions.now(connection)
            state, is_new = collections.foresee(connection, now, request)
            if is_new and (errors := open_cities.refused(connection, [request], now, self.views.of)):
                raise errors[0]
            fresh = 0 if state.finished_at is not None else cities.count_fresh(connection, state, request.city_ids)
            return Estimate(self.views.of(connection, [state], [fresh])[0], fresh)

        return await self.transactions.read(work, self._deadline_s + len(request.city_ids) / CITIES_PER_SECOND)

    async def cancel(self, collection_id: str) -> tuple[View, bool] | None:
        """End a collection before it is settled: its view, and whether it was open. None: there is none."""
        return await self._shared(self._cancellations, collection_id, self.deadline())

    async def view(self, collection_id: str, deadline: float) -> View | None:
        """A collection, or None. It reads the same few rows whatever the collection's size."""
        return await self._shared(self._views, collection_id, deadline)

    async def read(self, query: PageQuery, deadline: float) -> tuple[View, Page] | None:
        """A collection and a page of its readings, never fewer than it counts; None: there is none."""
        return await self._shared(self._reads, query, deadline)

    async def pages(self, state: CollectionState, limit: int) -> AsyncIterator[Page]:
        """All pages of a collection's readings, each within a deadline of its own. Gone: it was deleted meanwhile."""
        after: int | None = 0
        while after is not None:
            view, page = await self.read(PageQuery(state.id, (), after, limit), self.deadline()) or (None, EMPTY_PAGE)
            check_kept(state, None if view is None else view.state)
            yield page
            after = page.next_after

    async def newest(self, status: ListedStatus, after: str | None, limit: int) -> ListPage | None:
        """Up to `limit` collections of this status, the newest first; `after`: those older than this one.

        Whether one waits is computed, not stored. So of those that are queued, collecting or waiting, a page is what
        is found among the next `EXAMINED` open ones: it may be short. None: there is no collection `after`.
        """
        standings, shown = STANDINGS[status]
        examined = limit if shown is None else max(limit, EXAMINED)

        def work(connection: Connection) -> ListPage | None:
            last = None if after is None else collections.find(connection, after)
            if after is not None and last is None:
                return None
            states = collections.newest(connection, standings, last, examined + 1)
            found = [
                view
                for view in self.views.of(connection, states[:examined])
                if shown is None or view.progress.status == shown
            ]
            if len(found) > limit:
                return ListPage(found[:limit], found[limit - 1].state.id)
            return ListPage(found, states[examined - 1].id if len(states) > examined else None)

        return await self.transactions.read(work, self._deadline_s + examined / FORECASTS_PER_SECOND)

    def watched(self, connection: Connection) -> list[View]:
        """The newest collections, the newest of the open ones and of those that just ended, within a transaction.

        So a watcher of an open collection also learns that it ended, however many newer ones there are.
        """
        newest = collections.newest(connection, (OPEN, DONE, CANCELLED), None, MAX_NEWEST)
        still_open = collections.newest(connection, (OPEN,), None, MAX_NEWEST)
        just_ended = collections.finished_since(connection, self.transactions.now(connection) - JUST, MAX_NEWEST)
        states = {state.id: state for state in (*newest, *still_open, *just_ended)}
        return self.views.of(connection, [*states.values()])

    async def check(self) -> None:
        """Return when the database answers, has the tables and can be written to."""
        nothing = update(Collection).where(Collection.id == "").values(total=0)  # a read-only server refuses even this
        await self.transactions.write(lambda connection: connection.execute(nothing), self._deadline_s)

    def _view(self, ids: Sequence[str], connection: Connection) -> dict[str, View]:
        states = collections.find_all(connection, ids)
        return dict(zip(states, self.views.of(connection, [*states.values()]), strict=True))

    def _cancel(self, ids: Sequence[str], connection: Connection) -> dict[str, tuple[View, bool]]:
        now = self.transactions.now(connection)
        states = collections.cancel_all(connection, now, ids)
        return {name: (View(state, ended(state)), state.cancelled_at == now) for name, state in states.items()}

    def _read(self, queries: Sequence[PageQuery], connection: Connection) -> dict[PageQuery, tuple[View, Page]]:
        views = self._view(list({query.collection_id for query in queries}), connection)
        found = [(query, views[query.collection_id]) for query in queries if query.collection_id in views]
        return {query: (view, self._pages.page(connection, query, view.state)) for query, view in found}

    def _accept(self, posts: Sequence[_Post], connection: Connection) -> dict[_Post, Accepted | Refused]:
        now = self.transactions.now(connection)
        open_cities.lock(connection, now, [post.request for post in posts])
        existing = collections.find_all(connection, [post.request.id for post in posts], deleted=True)
        new = [post for post in posts if post.request.id not in existing]
        refused = open_cities.refused(connection, [post.request for post in new], now, self.views.of)
        results: dict[_Post, Accepted | Refused] = {new[index]: error for index, error in refused.items()}
        posts = [post for post in posts if post not in results]
        requests = [post.request for post in posts]
        stored = collections.accept_all(connection, now, requests, existing, self._outstanding)
        taken: list[tuple[_Post, CollectionState, bool]] = []
        for post, result in zip(posts, stored, strict=True):
            if isinstance(result, OtherRequest):
                results[post] = result
            else:
                taken.append((post, *result))
        fresh = count_fresh(connection, [(state, post.request) for post, state, _ in taken])
        views = self.views.of(connection, [state for _, state, _ in taken], fresh)
        for (post, _, is_new), view in zip(taken, views, strict=True):
            results[post] = (view, is_new)
        return results

    async def _shared(self, flight: SingleFlight[K, T], key: K, deadline: float) -> T | None:
        try:
            return await flight.get(key, deadline)
        except TimeoutError:
            raise DatabaseUnavailable("no answer in time") from None

    def _in_thread(
        self, work: Callable[[Sequence[K], Connection], Mapping[K, T]], *, write: bool = False
    ) -> Callable[[Sequence[K]], Awaitable[Mapping[K, T]]]:
        transaction = self.transactions.write if write else self.transactions.read
        return lambda keys: transaction(partial(work, keys))
