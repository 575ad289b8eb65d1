"""The producer's work behind its front doors: accepting collections and reading how they are. Speaks no HTTP.

What it does are transactions in threads, under a deadline that lies outside them: a database that hangs is reported in
time, and what its thread still does is whole or nothing. Those who ask at the same time share a transaction.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar

from sqlalchemy import Connection, select

from producer.outlook import Account, Crowd, Outlook, View, fresh_cities
from producer.rounds import Rounds
from raingauge.blocking import RunBlocking
from raingauge.errors import DatabaseUnavailable
from raingauge.pacing import Terms
from raingauge.storage import cities, collections, pages
from raingauge.storage.collections import CollectionRequest, CollectionState, OtherRequest
from raingauge.storage.database import Database
from raingauge.storage.models import Collection

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

DEADLINE_S: Final = 0.7
"""Leaves some of the second within which every request is answered, on a machine that is busy, too."""
CITIES_PER_SECOND: Final = 50_000
"""A large collection is given a second more for as many cities."""
MOST_SHARING: Final = 2000
"""Cities of a collection that may be stored in one transaction with others."""
PATIENCE_S: Final = 0.03
"""How long those who ask wait for a transaction that is under way, before they get one of their own."""
GATHER_S: Final = 0.001
"""What is asked within as long shares a transaction, though none is under way: else one is spent on the first alone."""
MOST_PARTS: Final = 16
"""Parts of pages that are read in one transaction: about ten milliseconds."""
PARTS_PATIENCE_S: Final = 0.005
"""The same for parts: two transactions overlap then, three would only read the same again."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a collection would need, or what one that stands needs still."""

    view: View
    fresh: int
    """Unsettled cities that need no call."""

    @property
    def cost(self) -> int:
        """Cities that are to be asked for."""
        state = self.view.state
        return 0 if state.finished_at is not None else state.total - state.settled - self.fresh


class _Posted:
    """A request of its own, however much it is like another."""

    def __init__(self, request: CollectionRequest) -> None:
        self.request = request


Accepted = tuple[View, bool]
Seen = tuple[View, pages.Written]


class Desk:
    """Accepts collections and answers questions about them.

    Raises (all methods): DatabaseUnavailable, in time.
    """

    def __init__(
        self,
        database: Database,
        run_database: RunBlocking,
        terms: Terms,
        account: str,
        *,
        endpoint: str = "auto",
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._database = database
        self._run_database = run_database
        self._account = Account(account, terms, endpoint)
        self._crowd = Crowd()
        self._deadline_s = deadline_s
        self._views: Rounds[str, View] = Rounds(self._in_thread(self._look), patience_s=PATIENCE_S, gather_s=GATHER_S)
        self._parts: Rounds[pages.Part, Seen] = Rounds(
            self._in_thread(self._read), most=MOST_PARTS, patience_s=PARTS_PATIENCE_S, gather_s=GATHER_S
        )
        self._posts: Rounds[_Posted, Accepted | OtherRequest] = Rounds(
            self._in_thread(self._accept, write=True), patience_s=PATIENCE_S, gather_s=GATHER_S
        )

    async def accept(self, request: CollectionRequest) -> tuple[View, bool]:
        """Store a collection, or find it: its view, and whether it is new.

        Raises:
            OtherRequest: its id stands for another request.
        """

        if len(request.city_ids) <= MOST_SHARING:
            answer = await self._in_round(self._posts, _Posted(request), self.until())
        else:
            posted = _Posted(request)
            more_s = len(request.city_ids) / CITIES_PER_SECOND
            work = partial(self._accept, [posted])
            answer = (await self._in_time(lambda: self._database.write(work), more_s))[posted]
        if answer is None or isinstance(answer, OtherRequest):
            raise answer or AssertionError("every request has an answer")
        return answer

    async def estimate(self, request: CollectionRequest) -> Estimate:
        """What a collection would need, without storing it; or needs still, where it stands.

        Raises:
            OtherRequest: its id stands for another request.
        """

        def work(connection: Connection) -> Estimate:
            now = self._database.now(connection)
            state = collections.foresee(connection, now, request)
            fresh = self._fresh(connection, now, state, request)
            return Estimate(self._outlook(connection, now).view(state, fresh), fresh)

        more_s = len(request.city_ids) / CITIES_PER_SECOND
        return await self._in_time(lambda: self._database.read(work), more_s)

    async def cancel(self, collection_id: str) -> View | None:
        """End a collection before it is settled; what is done or cancelled stays as it is. None: there is none."""

        def work(connection: Connection) -> View | None:
            now = self._database.now(connection)
            state = collections.cancel(connection, now, collection_id)
            return None if state is None else self._outlook(connection, now).view(state)

        return await self._in_time(lambda: self._database.write(work))

    def until(self) -> float:
        """The deadline of a question that is put now, on the event loop's clock."""
        return asyncio.get_running_loop().time() + self._deadline_s

    async def view(self, collection_id: str, until: float) -> View | None:
        """A collection as it stands, or None: there is none. The same few rows whatever its size."""
        return await self._in_round(self._views, collection_id, until)

    async def read(self, wanted: pages.Part, until: float) -> Seen | None:
        """A collection as it stands, and readings of it, never fewer than it counts; None: there is none."""
        return await self._in_round(self._parts, wanted, until)

    async def boundary(self, wanted: pages.Part, skipped: int, until: float) -> tuple[int | None, int | None]:
        """The city ids of the two readings after so many that are skipped; None where there is none."""
        work = partial(pages.boundary, wanted=wanted, skipped=skipped)
        return await self._in_time(lambda: self._database.read(work), until - self.until())

    async def check(self) -> None:
        """Return when the database answers and has the tables."""
        await self._in_time(lambda: self._database.read(lambda c: c.execute(select(Collection.id).limit(1)).all()))

    async def ask(self, question: Callable[[Connection, datetime], T], more_s: float = 0.0) -> T:
        """The answer to a question that only reads, put with the database's time; `more_s` lets it take longer."""
        return await self._in_time(lambda: self._database.read(lambda c: question(c, self._database.now(c))), more_s)

    def _fresh(self, connection: Connection, now: datetime, state: CollectionState, request: CollectionRequest) -> int:
        """Unsettled cities of a collection that need no call."""
        if state.finished_at is not None:
            return 0
        since = state.requested_at - timedelta(seconds=state.max_age_s)
        return cities.count_fresh(connection, now, state.id, request.city_ids, since)

    def _outlook(self, connection: Connection, now: datetime) -> Outlook:
        return Outlook(connection, now, self._account, self._crowd)

    def _look(self, ids: Sequence[str], connection: Connection) -> dict[str, View]:
        now, [answer] = self._database.now_and(connection, [collections.finding(ids)])
        outlook = self._outlook(connection, now)
        return {key: outlook.view(state) for key, state in collections.found(answer).items()}

    def _read(self, wanted: Sequence[pages.Part], connection: Connection) -> dict[pages.Part, Seen]:
        views = self._look(list({part.collection_id for part in wanted}), connection)
        seen = {part: views[part.collection_id] for part in wanted if part.collection_id in views}
        written = pages.parts(connection, {part: view.state.total for part, view in seen.items()})
        return {part: (view, written[part]) for part, view in seen.items()}

    def _accept(self, posted: Sequence[_Posted], connection: Connection) -> dict[_Posted, Accepted | OtherRequest]:
        requests = [one.request for one in posted]
        now, [answer] = self._database.now_and(connection, [collections.finding([one.id for one in requests])])
        stored = collections.accept_all(connection, now, requests, collections.found(answer))
        answers: dict[_Posted, Accepted | OtherRequest] = {}
        taken: list[tuple[_Posted, CollectionState, bool]] = []
        for one, stands in zip(posted, stored, strict=True):
            if isinstance(stands, OtherRequest):
                answers[one] = stands
            else:
                taken.append((one, *stands))
        fresh = fresh_cities(connection, now, [(state, one.request) for one, state, _ in taken])
        outlook = self._outlook(connection, now)
        for (one, state, created), number in zip(taken, fresh, strict=True):
            answers[one] = (outlook.view(state, number), created)
        return answers

    async def _in_round(self, rounds: Rounds[K, T], key: K, until: float) -> T | None:
        try:
            return await rounds.ask(key, until)
        except TimeoutError:
            raise DatabaseUnavailable("no answer in time") from None

    def _in_thread(
        self, work: Callable[[Sequence[K], Connection], Mapping[K, T]], *, write: bool = False
    ) -> Callable[[Sequence[K]], Awaitable[Mapping[K, T]]]:
        transaction = self._database.write if write else self._database.read
        return lambda keys: self._run_database(lambda: transaction(partial(work, keys)))

    async def _in_time(self, work: Callable[[], T], more_s: float = 0.0) -> T:
        seconds = self._deadline_s + more_s
        try:
            async with asyncio.timeout(seconds):
                return await self._run_database(work)
        except TimeoutError:
            raise DatabaseUnavailable(f"no answer within {seconds:.1f} s") from None
