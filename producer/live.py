"""What watchers see of the system: read from the database once a second for all of them, never when nobody watches.

It speaks no HTTP. A watcher first gets everything, then only what changes. After a failed poll, or one that it was too
slow for, it gets everything again: what ends or is deleted is read for some seconds only.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from producer.collections import DEADLINE_S
from raingauge.database.transactions import Transactions
from raingauge.errors import DatabaseUnavailable
from raingauge.web import UNEXPECTED

log = logging.getLogger("raingauge.producer")

EVERY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Overview:
    """The system at a moment."""

    collections: Mapping[str, Mapping[str, Any]]
    """Bodies by id."""
    quota: Mapping[str, Any] | None
    """The quota's body; None: no consumer has created the gate."""
    deleted: tuple[Mapping[str, Any], ...] = ()
    """Collections that were deleted lately: `id` and `requested_at`. A later one may have the same id."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is new for a watcher."""

    collections: tuple[Mapping[str, Any], ...] | None
    """None if nothing has changed. In the first change all of them, which may be none."""
    quota: Mapping[str, Any] | None
    unavailable: str | None = None
    """Why nothing could be read; then the rest is empty."""
    deleted: tuple[Mapping[str, Any], ...] = ()
    """Empty when the change has everything: deleted collections are not in it."""
    is_everything: bool = False
    """Whether `collections` are all of them."""


class Live:
    """A poll that watchers share."""

    def __init__(self, transactions: Transactions, read: Callable[[Connection], Overview]) -> None:
        self._transactions = transactions
        self._read = read
        self._watchers = 0
        self._polling: asyncio.Task[None] | None = None
        self._closed = False
        self._polled = asyncio.Event()
        """Set, and replaced, after each poll."""
        self._polls = 0
        self._latest: Overview | DatabaseUnavailable | None = None

    def close(self) -> None:
        """End all watching, at once and for good."""
        self._closed = True
        self._announce(None)

    async def watch(self) -> AsyncGenerator[Change, None]:
        """Everything, then each second what changed, until `close`."""
        known: Overview | None = None
        polls = 0
        async with self._watching():
            turn = self._polled if self._latest is None else None
            while not self._closed:
                if turn is not None:
                    await turn.wait()
                if self._polls > polls + 1:
                    known = None
                turn, latest, polls = self._polled, self._latest, self._polls
                if isinstance(latest, DatabaseUnavailable):
                    known = None
                    yield Change(None, None, latest.shown)
                elif latest is not None:
                    change = _everything(latest) if known is None else _difference(known, latest)
                    known = latest
                    yield change

    @contextlib.asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        self._watchers += 1
        if self._polling is None:
            self._polling = asyncio.create_task(self._poll())
        try:
            yield
        finally:
            self._watchers -= 1
            if self._watchers == 0 and self._polling is not None:
                self._polling.cancel()
                self._polling, self._latest = None, None

    async def _poll(self) -> None:
        while not self._closed:
            try:
                self._announce(await self._transactions.read(self._read, DEADLINE_S))
            except DatabaseUnavailable as error:
                log.warning("database.unavailable", extra={"error": str(error)})
                self._announce(error)
            except Exception:
                log.exception("live.failed")
                self._announce(DatabaseUnavailable(UNEXPECTED, UNEXPECTED))
            await self._transactions.clock.sleep(EVERY_S)

    def _announce(self, latest: Overview | DatabaseUnavailable | None) -> None:
        self._latest = latest
        self._polls += 1
        turn, self._polled = self._polled, asyncio.Event()
        turn.set()


def _everything(now: Overview) -> Change:
    return Change((*now.collections.values(),), now.quota, is_everything=True)


def _difference(before: Overview, now: Overview) -> Change:
    new = tuple(body for name, body in now.collections.items() if before.collections.get(name) != body)
    known = {(one["id"], one["requested_at"]) for one in before.deleted}
    deleted = tuple(one for one in now.deleted if (one["id"], one["requested_at"]) not in known)
    return Change(new or None, now.quota, deleted=deleted)
