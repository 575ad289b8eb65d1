"""What signals do while no event loop listens to them, and how a program leaves. No test ends its own process."""

import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from raingauge.signals import JOIN_S, STOP_SIGNALS, exit_on_signal, exit_process


class Ended(BaseException):
    """The process would have ended here, whatever else is under way in it."""


class Idle(threading.Thread):
    """A thread that has nothing to do and ends when somebody waits for it; one that `hangs` does not."""

    def __init__(self, *, hangs: bool, daemon: bool) -> None:
        super().__init__(daemon=daemon)
        self.told = threading.Event()
        self.waited_for: list[float | None] = []
        self._hangs = hangs

    def run(self) -> None:
        self.told.wait(60)

    def join(self, timeout: float | None = None) -> None:
        self.waited_for.append(timeout)
        if not self._hangs:
            self.told.set()
            super().join()


@pytest.fixture(autouse=True)
def _signals_restored() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _survives(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(status: int) -> None:
        raise Ended(status)

    monkeypatch.setattr(os, "_exit", end)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[threading.Thread]]:
    """The threads that there are: the main one, and those of the test."""
    there = [threading.main_thread()]
    monkeypatch.setattr(threading, "enumerate", lambda: there)
    yield there
    for thread in there:
        if isinstance(thread, Idle):
            thread.told.set()
            threading.Thread.join(thread)


def begun(*, hangs: bool, daemon: bool = False) -> Idle:
    thread = Idle(hangs=hangs, daemon=daemon)
    thread.start()
    return thread


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_ends_a_program_with_status_0_until_it_leaves_by_itself(number: signal.Signals) -> None:
    exit_on_signal()
    with pytest.raises(Ended) as ended:
        signal.raise_signal(number)
    assert ended.value.args == (0,)
    with pytest.raises(SystemExit) as left:
        exit_process(3)
    assert left.value.code == 3
    signal.raise_signal(number)  # has no effect any more


def test_idle_threads_have_a_moment_to_end_and_daemons_are_not_waited_for(threads: list[threading.Thread]) -> None:
    started = [begun(hangs=False), begun(hangs=False), begun(hangs=True, daemon=True)]
    threads += started
    with pytest.raises(SystemExit):
        exit_process(0)
    assert [thread.waited_for for thread in started] == [[JOIN_S / 2], [JOIN_S / 2], []]


def test_a_thread_that_hangs_is_left_behind_and_the_last_words_are_printed(
    threads: list[threading.Thread], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads += [begun(hangs=True), begun(hangs=False)]
    printed = {name: io.BytesIO() for name in ("stdout", "stderr")}
    for name, raw in printed.items():
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BufferedWriter(raw)))
    sys.stdout.write("last words")
    sys.stderr.write("last complaint")
    with pytest.raises(Ended) as ended:
        exit_process(2)
    assert ended.value.args == (2,)
    assert [raw.getvalue() for raw in printed.values()] == [b"last words", b"last complaint"]


def test_it_is_there_before_anything_slow_is_imported() -> None:
    script = "import sys; before = set(sys.modules); import raingauge.signals; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    imported = set(done.stdout.split())
    assert "raingauge.signals" in imported
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names | {"raingauge"}
    assert "asyncio" not in imported
