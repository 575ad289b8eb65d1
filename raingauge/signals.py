"""SIGTERM and SIGINT while no event loop handles them: during the imports of a program, and after its loop has ended.

A module apart from `raingauge.process` only because it must be imported before anything slow: it imports nothing but
the standard library's fast modules.
"""

import os
import signal
import sys
import threading
from types import FrameType
from typing import Final, NoReturn

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
JOIN_S: Final = 0.2
"""Total time that idle threads have to end."""


def exit_on_signal() -> None:
    """Exit with status 0 on a stop signal until an event loop handles them: nothing is open yet."""
    for number in STOP_SIGNALS:
        signal.signal(number, _exit)


def exit_process(status: int) -> NoReturn:
    """Exit after the event loop has ended: ignore further signals and do not wait for blocked threads.

    A thread may be blocked for long (an unreachable database, a resolver); its work is atomic, so it can be abandoned.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    others = [t for t in threading.enumerate() if t is not threading.main_thread() and not t.daemon]
    for thread in others:
        thread.join(JOIN_S / len(others))
    if any(thread.is_alive() for thread in others):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _exit(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)
