"""Programs that are stopped at any moment, and how well they must end."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from raingauge.clock import SystemClock
from tests.support.processes import ROOT, Program

TIMEOUT_S = 1.0
"""`openweather.timeout_s` of the programs here."""
GRACE_S = TIMEOUT_S + 5.0
TEARDOWN_S = 3.0
"""A second for the consumer's farewell, the rest for Python to take itself down on a busy machine."""
COMPLAINTS = (
    "was never retrieved",
    "was destroyed but it is pending",
    "was never awaited",
    "Unclosed",
    "ResourceWarning",
    "Exception ignored",
    "Event loop is closed",
    "Traceback",
    "Fatal Python error",
)
DEVELOPMENT = {"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "default"}


class Stoppable(Program):
    """A running program, from its first moment on."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        super().__init__(process)
        self._clock = SystemClock()

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        self.process.send_signal(number)

    def ends_well(self, *signals: int, again_after_s: float = 0.0) -> float:
        """Send it the signals; it ends in time, with status 0, without a complaint. Seconds from the first signal."""
        began = self._clock.monotonic()
        for number in signals or (signal.SIGTERM,):
            self.signal(number)
            pause(again_after_s)
        status = self.ended()
        took = self._clock.monotonic() - began
        assert status == 0, f"exit status {status} after {took:.1f} s:\n{self.output}"
        complaints = [line for line in self.lines if any(complaint in line for complaint in COMPLAINTS)]
        assert not complaints, f"{complaints[0]}\nin\n{self.output}"
        assert took <= GRACE_S + TEARDOWN_S, f"it took {took:.1f} s:\n{self.output}"
        return took


def pause(seconds: float) -> None:
    """Let a moment pass that a test has chosen at random: that moment is what it tests."""
    threading.Event().wait(seconds)


@contextmanager
def launched(module: str, settings: Mapping[str, str]) -> Iterator[Stoppable]:
    """Run `python -m module` without waiting for anything; killed at the end, if it still runs."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("RAINGAUGE_", "OPENWEATHER"))
    }
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env=environment | dict(settings),
    )
    running = Stoppable(process)
    try:
        yield running
    except BaseException as error:
        error.add_note(running.output)
        raise
    finally:
        if process.poll() is None:
            running.kill()
