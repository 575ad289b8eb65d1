"""Request coalescing: identical and concurrent requests share one load, different ones share a transaction.

A request joins only a load that begins after it was made, so nobody gets a result older than the request. It knows
neither what is loaded nor who loads it. A load belongs to none of its requests: its context is empty.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextvars import Context
from typing import Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")

KEYS_AT_ONCE: Final = 64
"""Different keys in one load."""
LOADS_AT_ONCE: Final = 3


class SingleFlight(Generic[Key, Result]):
    """Gathers keys and loads them together; a key is loaded once for all who wait for it.

    `load` returns the results of the keys that have one. Its errors reach everybody who waits for that load. While a
    load is under way the next one gathers; it waits at most `patience_s` for the first to end. With none under way it
    gathers for `gather_s`.
    """

    def __init__(
        self,
        load: Callable[[Sequence[Key]], Awaitable[Mapping[Key, Result]]],
        *,
        keys_at_once: int = KEYS_AT_ONCE,
        loads_at_once: int = LOADS_AT_ONCE,
        patience_s: float = 0.0,
        gather_s: float = 0.0,
    ) -> None:
        self._load = load
        self._keys_at_once = keys_at_once
        self._loads_at_once = loads_at_once
        self._patience_s = patience_s
        self._gather_s = gather_s
        self._waiting: dict[Key, list[asyncio.Future[Result | None]]] = {}
        self._loads: dict[asyncio.Task[None], _Waiters[Key, Result]] = {}
        self._next: asyncio.Handle | None = None

    async def get(self, key: Key, deadline: float) -> Result | None:
        """The key's result, or None if it has none. `deadline` is a time of the running event loop's clock.

        Raises:
            TimeoutError: there was no result by then.
            Exception: the load raised it.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result | None] = loop.create_future()
        self._waiting.setdefault(key, []).append(future)
        self._schedule(loop)
        alarm = loop.call_at(deadline, _expire, future)
        try:
            return await future
        except BaseException:
            if future.done() and not future.cancelled():
                future.exception()  # retrieved, even when this task is cancelled at the same moment
            self._cancel_abandoned()
            raise
        finally:
            alarm.cancel()

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the next load begin: after the gathering time, or when those under way take too long."""
        if self._next is not None or not self._waiting:
            return
        if not self._loads:
            self._next = loop.call_later(self._gather_s, self._begin, context=Context())
        elif len(self._loads) < self._loads_at_once:
            self._next = loop.call_later(self._patience_s, self._begin, context=Context())

    def _begin(self) -> None:
        """Begin a load for those who wait and have not given up."""
        self._next = None
        waiters: _Waiters[Key, Result] = {}
        while self._waiting and len(waiters) < self._keys_at_once:
            key = next(iter(self._waiting))
            if futures := [future for future in self._waiting.pop(key) if not future.done()]:
                waiters[key] = futures
        if waiters:
            task = asyncio.ensure_future(self._run(waiters))
            self._loads[task] = waiters
            task.add_done_callback(self._ended, context=Context())
        self._schedule(asyncio.get_running_loop())

    async def _run(self, waiters: "_Waiters[Key, Result]") -> None:
        try:
            results = await self._load(list(waiters))
        except Exception as error:  # noqa: BLE001
            for future in _unanswered(waiters):
                future.set_exception(error)
            return
        for key, futures in waiters.items():
            result = results.get(key)
            for future in futures:
                if not future.done():
                    future.set_result(result)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        for future in _unanswered(self._loads.pop(task)):
            future.cancel()  # the load was cancelled from outside
        if self._next is not None:
            self._next.cancel()
            self._next = None
        self._schedule(asyncio.get_running_loop())

    def _cancel_abandoned(self) -> None:
        """Cancel the loads for which nobody waits any more; those of their threads that have not begun never do."""
        for task, waiters in list(self._loads.items()):
            if not _unanswered(waiters):
                task.cancel()


_Waiters = dict[Key, list["asyncio.Future[Result | None]"]]


def _unanswered(waiters: "_Waiters[Key, Result]") -> list["asyncio.Future[Result | None]"]:
    return [future for futures in waiters.values() for future in futures if not future.done()]


def _expire(future: "asyncio.Future[Result | None]") -> None:
    if not future.done():
        future.set_exception(TimeoutError())
