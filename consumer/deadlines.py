"""Deadlines kept by one thread. A timer, which is a thread for each call, would cost more than the call itself."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from raingauge.clock import SystemClock

log = logging.getLogger("raingauge.deadlines")

_CLOCK: Final = SystemClock()


class Deadlines:
    """Interrupts what takes longer than `after_s`. For several threads at once; its own runs while it is needed."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._due: dict[Callable[[], None], float] = {}
        """Whom to interrupt when, the first in front: the same time is given to all."""
        self._changed = threading.Condition()
        self._watched = False

    @contextmanager
    def interrupt(self, call: Callable[[], None]) -> Iterator[None]:
        """Have `call` called from another thread if the block takes too long. It must not block.

        Raises:
            RuntimeError: there is no thread for it. The block was not begun.
        """
        with self._changed:
            if not self._watched:
                threading.Thread(target=self._watch, name="deadlines", daemon=True).start()
                self._watched = True
            self._due[call] = _CLOCK.monotonic() + self._after_s
        try:
            yield
        finally:
            with self._changed:
                self._due.pop(call, None)

    def close(self) -> None:
        """End the thread, if no block is under way; else it ends by itself."""
        with self._changed:
            self._changed.notify()

    def _watch(self) -> None:
        """Wake for the first that was due when it went to sleep: who is done by then has cost it nothing."""
        with self._changed:
            try:
                while self._due:
                    call, moment = next(iter(self._due.items()))
                    left = moment - _CLOCK.monotonic()
                    if left > 0:
                        self._changed.wait(left)
                    else:
                        del self._due[call]
                        self._interrupt(call)
            finally:
                self._watched = False

    @staticmethod
    def _interrupt(call: Callable[[], None]) -> None:
        try:
            call()
        except Exception:  # the others' deadlines hold all the same
            log.exception("deadlines.unexpected")
