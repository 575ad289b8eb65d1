"""The poll that watchers share: one for all of them, none when nobody watches, and it ends at once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import Connection

from producer.live import Change, Live, Overview
from raingauge.blocking import inline
from raingauge.clock import SystemClock
from raingauge.database import Database
from raingauge.database.transactions import Transactions
from raingauge.errors import DatabaseUnavailable


class StepClock(SystemClock):
    """A clock whose sleepers go on when the test says so."""

    def __init__(self) -> None:
        self.sleeping = asyncio.Event()
        self._wake = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        assert seconds == 1.0
        self.sleeping.set()
        await self._wake.wait()

    async def step(self) -> None:
        """Pass a second."""
        await self.sleeping.wait()
        self.sleeping.clear()
        wake, self._wake = self._wake, asyncio.Event()
        wake.set()
        await self.sleeping.wait()


class Source:
    """What is in the database, and how often it was read."""

    def __init__(self) -> None:
        self.reads = 0
        self.bodies: dict[str, dict[str, Any]] = {"1": {"id": "1", "collected": 0}}
        self.deleted: list[dict[str, Any]] = []
        self.error: Exception | None = None

    def read(self, connection: Connection) -> Overview:
        self.reads += 1
        if self.error is not None:
            raise self.error
        bodies = {name: dict(body) for name, body in self.bodies.items()}
        return Overview(bodies, {"held": self.reads}, (*self.deleted,))


@pytest.fixture
def clock() -> StepClock:
    return StepClock()


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def live(sqlite: Database, clock: StepClock, source: Source) -> Live:
    return Live(Transactions(sqlite, inline, clock), source.read)


@asynccontextmanager
async def watching(live: Live) -> AsyncIterator[Callable[[], Any]]:
    """Gives what to await for each change."""
    changes = live.watch()
    try:
        yield changes.__anext__
    finally:
        await changes.aclose()


def everything(held: int) -> Change:
    """All of what is in the database at first."""
    return Change(({"id": "1", "collected": 0},), {"held": held}, is_everything=True)


async def test_a_watcher_gets_everything_and_then_what_changed(live: Live, clock: StepClock, source: Source) -> None:
    async with watching(live) as change:
        assert await change() == everything(1)
        source.bodies["2"] = {"id": "2", "collected": 5}
        await clock.step()
        assert await change() == Change(({"id": "2", "collected": 5},), {"held": 2})
        await clock.step()
        assert await change() == Change(None, {"held": 3})


async def test_a_watcher_hears_once_of_each_collection_that_is_deleted_while_it_watches(
    live: Live, clock: StepClock, source: Source
) -> None:
    before, after = ({"id": name, "requested_at": "2026"} for name in ("before", "1"))
    source.deleted = [before]
    async with watching(live) as change:
        assert (await change()).deleted == ()
        source.bodies.clear()
        source.deleted = [after, before]
        await clock.step()
        assert await change() == Change(None, {"held": 2}, deleted=(after,))
        await clock.step()
        assert await change() == Change(None, {"held": 3})


async def test_a_watcher_that_was_too_slow_for_a_poll_gets_everything_again(
    live: Live, clock: StepClock, source: Source
) -> None:
    async with watching(live) as change:
        await change()
        source.bodies["2"] = {"id": "2"}
        source.deleted = [{"id": "2", "requested_at": "2026"}]
        await clock.step()
        await change()
        del source.bodies["2"]
        await clock.step()
        source.deleted = []
        await clock.step()
        assert await change() == everything(4)
        await clock.step()
        assert await change() == Change(None, {"held": 5})


async def test_fifty_watchers_cost_one_read_a_second_and_later_none(
    live: Live, clock: StepClock, source: Source
) -> None:
    changes = [live.watch() for _ in range(50)]
    first = await asyncio.gather(*(one.__anext__() for one in changes))
    assert first == [everything(1)] * 50
    for second in range(2, 5):
        waiting = [asyncio.ensure_future(one.__anext__()) for one in changes]
        await clock.step()
        assert await asyncio.gather(*waiting) == [Change(None, {"held": second})] * 50
        assert source.reads == second
    for one in changes:
        await one.aclose()
    await SystemClock().sleep(0)
    assert len(asyncio.all_tasks()) == 1
    async with watching(live) as change:
        assert (await change()).quota == {"held": 5}


async def test_a_late_watcher_waits_for_no_poll_and_learns_that_nothing_is_there(live: Live, source: Source) -> None:
    source.bodies.clear()
    async with watching(live) as first, watching(live) as second:
        assert await first() == await second() == Change((), {"held": 1}, is_everything=True)
        assert source.reads == 1


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (DatabaseUnavailable("host:3306/name: gone", "it is read-only"), "it is read-only"),
        (ValueError("a bug"), "an unexpected error; it is in the log"),
    ],
)
async def test_watchers_learn_that_nothing_can_be_read_and_get_everything_when_it_can(
    live: Live, clock: StepClock, source: Source, error: Exception, why: str
) -> None:
    async with watching(live) as change:
        for reads in (2, 4):
            source.error = error
            if source.reads:
                await clock.step()
            assert await change() == Change(None, None, why)
            source.error = None
            await clock.step()
            assert await change() == everything(reads)


async def test_closing_ends_all_watching_at_once_and_for_good(live: Live) -> None:
    async with watching(live) as change:
        await change()
        waiting = asyncio.ensure_future(change())
        await SystemClock().sleep(0)
        live.close()
        with pytest.raises(StopAsyncIteration):
            await waiting
    async with watching(live) as change:
        with pytest.raises(StopAsyncIteration):
            await change()
