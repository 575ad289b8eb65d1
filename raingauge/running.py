"""How each program begins: settings, logs, an event loop; one line, not a traceback, for what a person can mend."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from raingauge.errors import Fatal
from raingauge.log import log_to
from raingauge.settings import Settings, load_settings, provider_key


def run_program(program: Callable[[Settings], Coroutine[Any, Any, None]]) -> int:
    """Run a program with the settings; its exit status: 0, or 2 when a person has to change something."""
    log_to(secret=provider_key())
    try:
        settings = load_settings()
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(program(settings))
    except Fatal as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop, where it is installed: the extras `producer` and `consumer` bring it."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return None
    return uvloop.new_event_loop
