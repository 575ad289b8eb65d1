"""How each program begins: settings, logs, an event loop; one line, not a traceback, for what a person can mend."""

import asyncio
import gc
import logging
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final

from raingauge.errors import Fatal
from raingauge.log import log_to
from raingauge.settings import Settings, load_settings, provider_key

log = logging.getLogger("raingauge")

GARBAGE: Final = 10_000
"""New objects after which the collector looks for garbage among them; Python's own default is 700."""


def run_program(program: Callable[[Settings], Coroutine[Any, Any, None]]) -> int:
    """Run a program with the settings; its exit status.

    0; 2 when a person has to change something; 1 for an unexpected error, which is logged with the key masked.
    """
    status = 0
    try:
        _spare_the_garbage_collector()
        log_to(secret=provider_key())
        settings = load_settings()
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(program(settings))
    except* Fatal as errors:
        for error in _each(errors):
            print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        status = 2
    except* Exception:
        log.exception("program.failed")
        status = 1
    return status


def _spare_the_garbage_collector() -> None:
    """What was imported stays for good: never look through it again. And look for garbage less often."""
    gc.freeze()
    gc.set_threshold(GARBAGE)


def _each(errors: BaseExceptionGroup[Fatal]) -> Iterator[Fatal]:
    """The errors themselves: task groups put them into groups, and those into others."""
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _each(error)
        else:
            yield error


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop, where it is installed: the extras `producer` and `consumer` bring it."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return None
    return uvloop.new_event_loop
