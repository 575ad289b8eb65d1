"""Virtual time: an event loop whose clock jumps to the next thing that happens."""

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

EPOCH = datetime(2026, 11, 10, tzinfo=UTC)


class NothingLeft(Exception):
    """Everybody waits and nothing is due: the system stands still for ever."""


class _Skipping(selectors.SelectSelector):
    """Never waits: the time that would be waited passes at once."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise NothingLeft
        self.passed += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time. It serves no sockets and no threads."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        """Virtual seconds since the start."""
        return self._skipping.passed


class VirtualClock:
    """The loop's time as a Clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self._loop.time())

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)  # noqa: TID251

    def of_database(self, _connection: Connection) -> datetime:
        """The database tells the same time."""
        return self.now()


def run_virtually(program: Coroutine[Any, Any, Any], loop: VirtualLoop) -> Any:
    """The program's result; what it left running is cancelled."""
    errors: list[Mapping[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: errors.append(context))
    asyncio.set_event_loop(loop)
    try:
        result = loop.run_until_complete(program)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        asyncio.set_event_loop(None)
        loop.close()
    if errors:
        raise AssertionError(f"the event loop met errors: {errors}")
    return result
