"""Tasks that run beside a block of code and end with it. It must know nothing of what they do."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, NoReturn

from raingauge.errors import DatabaseUnavailable

log = logging.getLogger("raingauge")


@contextlib.asynccontextmanager
async def in_background(work: Coroutine[Any, Any, Any], name: str | None = None) -> AsyncIterator[asyncio.Task[Any]]:
    """Run a task beside the block and cancel it when the block ends. Its failure is logged, and the block goes on."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_report_failure)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


def _report_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("program.task_failed", extra={"task": task.get_name()}, exc_info=error)


async def repeated(one_round: Callable[[], Awaitable[bool]], pause: Callable[[], Awaitable[object]]) -> NoReturn:
    """Run rounds until cancelled: the next one at once if a round returns that there is more to do, else after a pause.

    A failure is logged, and the next round tries again: without these rounds nothing would be published or delivered.
    """
    while True:
        has_more = False
        try:
            has_more = await one_round()
        except DatabaseUnavailable as error:
            log.warning("database.unavailable", extra={"error": str(error)})
        except Exception:
            log.exception("program.round_failed")
        if not has_more:
            await pause()
