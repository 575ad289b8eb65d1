"""SIGTERM and SIGINT while no event loop listens to them: during a program's imports, and after its loop has ended.

In between they are `raingauge.serving`'s. It imports nothing slow, because it has to be there before what is.
"""

import os
import signal
import sys
import threading
from types import FrameType
from typing import Final, NoReturn

STOPS: Final = (signal.SIGTERM, signal.SIGINT)
FAREWELL_S: Final = 0.2
"""For idle threads to notice that there is no more work."""


def end_at_once() -> None:
    """Until an event loop takes the signals over, they end the process with status 0: nothing is open yet."""
    for number in STOPS:
        signal.signal(number, _end)


def leave(status: int) -> NoReturn:
    """End the process now that its loop has: another signal changes nothing, and no thread is waited for.

    What still hangs in one (a database that does not answer, a resolver) is whole or nothing, and may last for long.
    """
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    others = [t for t in threading.enumerate() if t is not threading.main_thread() and not t.daemon]
    for thread in others:
        thread.join(FAREWELL_S / len(others))
    if any(thread.is_alive() for thread in others):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)
