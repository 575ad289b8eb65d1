"""Waiting for a condition with a deadline, for tests of real processes. Nothing sleeps for a fixed time."""

import threading
from collections.abc import Callable
from typing import TypeVar

from raingauge.clock import SystemClock

T = TypeVar("T")


def eventually(condition: Callable[[], T], seconds: float, *, every_s: float = 0.05) -> T:
    """The condition's first truthy value; an AssertionError when it does not come in time."""
    clock = SystemClock()
    deadline = clock.monotonic() + seconds
    never = threading.Event()
    while not (value := condition()):
        assert clock.monotonic() < deadline, f"not within {seconds} s; last: {value!r}"
        never.wait(every_s)
    return value
