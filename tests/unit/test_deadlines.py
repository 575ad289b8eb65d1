"""The HTTP client's watchdog: only blocks that take too long are interrupted, by one thread for all."""

import threading
from collections.abc import Callable

import pytest

from consumer.provider.http import Watchdog

LONG_S = 30.0
"""Longer than anything here takes."""


Watching = Callable[[], list[threading.Thread]]


@pytest.fixture
def watching() -> Watching:
    """Lists the watchdog threads that the test started and that still run."""
    before = set(threading.enumerate())
    return lambda: [t for t in threading.enumerate() if t.name == "http-watchdog" and t not in before]


def ignore() -> None:
    """Nothing is to be interrupted."""


def test_what_takes_too_long_is_interrupted_and_the_thread_ends(watching: Watching) -> None:
    interrupted = threading.Event()
    with Watchdog(0.01).watch(interrupted.set):
        [thread] = watching()
        assert interrupted.wait(LONG_S)
    thread.join(LONG_S)
    assert not thread.is_alive()


def test_what_is_done_in_time_is_not_interrupted_even_if_an_error_ends_it() -> None:
    watchdog, last = Watchdog(0.05), threading.Event()
    calls: list[int] = []
    with pytest.raises(ValueError, match="broken"), watchdog.watch(lambda: calls.append(1)):
        raise ValueError("broken")
    for _ in range(20):
        with watchdog.watch(lambda: calls.append(2)):
            pass
    with watchdog.watch(last.set):
        assert last.wait(LONG_S)  # by now the deadlines of the others are over, too
    assert calls == []


def test_each_has_its_own_deadline() -> None:
    watchdog, first, second = Watchdog(0.01), threading.Event(), threading.Event()
    with watchdog.watch(first.set):
        assert first.wait(LONG_S)
        with watchdog.watch(second.set):
            assert second.wait(LONG_S)


def test_one_thread_serves_all_until_it_is_closed(watching: Watching) -> None:
    watchdog = Watchdog(LONG_S)
    with watchdog.watch(ignore):
        [thread] = watching()
        with watchdog.watch(threading.Event().set):
            assert watching() == [thread]
        watchdog.close()
        assert thread.is_alive()  # one is under way
    watchdog.close()
    thread.join(LONG_S)
    assert not thread.is_alive()
    with watchdog.watch(ignore):
        [another] = watching()
    watchdog.close()
    another.join(LONG_S)
    assert another is not thread
