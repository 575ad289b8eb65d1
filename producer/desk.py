"""The producer's work behind its front doors: accepting collections and reading how they are. Speaks no HTTP.

Each method is one transaction in a thread, under a deadline that lies outside it: a database that hangs is reported in
time, and what its thread still does is whole or nothing.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, select

from producer.progress import Progress, Surroundings, others, progress
from raingauge.blocking import RunBlocking
from raingauge.errors import DatabaseUnavailable
from raingauge.pacing import Terms
from raingauge.storage import collections, readings
from raingauge.storage.collections import CollectionRequest, CollectionState
from raingauge.storage.consumers import any_alive
from raingauge.storage.database import Database
from raingauge.storage.gate import find_gate, held
from raingauge.storage.models import Collection

T = TypeVar("T")

DEADLINE_S: Final = 0.8
"""Leaves some of the second within which every request is answered."""
CITIES_PER_SECOND: Final = 50_000
"""A large collection is given a second more for as many cities."""


@dataclass(frozen=True, slots=True)
class View:
    """A collection as it stands, and what becomes of it."""

    state: CollectionState
    progress: Progress


@dataclass(frozen=True, slots=True)
class Page:
    """Which readings to read: up to `limit` with city ids above `after`, with these columns."""

    columns: Sequence[str]
    after: int
    limit: int


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
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._database = database
        self._run_database = run_database
        self._terms = terms
        self._account = account
        self._deadline_s = deadline_s

    async def accept(self, request: CollectionRequest) -> tuple[View, bool]:
        """Store a collection, or find it: its view, and whether it is new.

        Raises:
            OtherRequest: its id stands for another request.
        """

        def work(connection: Connection) -> tuple[View, bool]:
            state, created = collections.accept(connection, self._database.now(connection), request)
            return self._view(connection, state), created

        more_s = len(request.city_ids) / CITIES_PER_SECOND
        return await self._in_time(lambda: self._database.write(work), more_s)

    async def read(
        self, collection_id: str, page_of: Callable[[View], Page | None]
    ) -> tuple[View, Sequence[Mapping[str, Any]]] | None:
        """A collection as it stands and those of its readings that `page_of` wants to see of it; None: there is none.

        The view is the same few rows whatever the collection's size. It is read before the readings, so that these are
        never fewer than it counts.
        """

        def work(connection: Connection) -> tuple[View, Sequence[Mapping[str, Any]]] | None:
            state = collections.find(connection, collection_id)
            if state is None:
                return None
            view = self._view(connection, state)
            page = page_of(view)
            if page is None:
                return view, ()
            return view, readings.page(connection, collection_id, page.columns, page.after, page.limit)

        return await self._in_time(lambda: self._database.read(work))

    async def check(self) -> None:
        """Return when the database answers and has the tables."""
        await self._in_time(lambda: self._database.read(lambda c: c.execute(select(Collection.id).limit(1)).all()))

    async def ask(self, question: Callable[[Connection, datetime], T], more_s: float = 0.0) -> T:
        """The answer to a question that only reads, put with the database's time; `more_s` lets it take longer."""
        return await self._in_time(lambda: self._database.read(lambda c: question(c, self._database.now(c))), more_s)

    def _view(self, connection: Connection, state: CollectionState) -> View:
        now = self._database.now(connection)
        around = Surroundings(
            now=now,
            terms=self._terms,
            gate=find_gate(connection, self._account),
            consumer_alive=any_alive(connection, now, self._account),
            others=others(collections.open_remainders(connection), state.id),
            held=held(connection, self._account, now),
        )
        return View(state, progress(state, around))

    async def _in_time(self, work: Callable[[], T], more_s: float = 0.0) -> T:
        seconds = self._deadline_s + more_s
        try:
            async with asyncio.timeout(seconds):
                return await self._run_database(work)
        except TimeoutError:
            raise DatabaseUnavailable(f"no answer within {seconds:.1f} s") from None
