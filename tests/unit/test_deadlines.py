"""Deadlines: who takes too long is interrupted, who does not is not, and one thread does it all."""

import threading
from collections.abc import Callable

import pytest

from consumer.deadlines import Deadlines

LONG_S = 30.0
"""Longer than anything here takes."""


@pytest.fixture
def watching() -> Callable[[], list[threading.Thread]]:
    """Tells the threads that have begun to watch since the test began, and still do."""
    before = set(threading.enumerate())
    return lambda: [t for t in threading.enumerate() if t.name == "deadlines" and t not in before]


def ignore() -> None:
    """Nothing is to be interrupted."""


def test_what_takes_too_long_is_interrupted_and_the_thread_ends(
    watching: Callable[[], list[threading.Thread]],
) -> None:
    interrupted = threading.Event()
    with Deadlines(0.01).interrupt(interrupted.set):
        [thread] = watching()
        assert interrupted.wait(LONG_S)
    thread.join(LONG_S)
    assert not thread.is_alive()


def test_what_is_done_in_time_is_not_interrupted() -> None:
    deadlines, calls, last = Deadlines(0.05), [], threading.Event()

    def keep(number: int) -> Callable[[], None]:
        return lambda: calls.append(number)

    for number in range(20):
        with deadlines.interrupt(keep(number)):
            pass
    with deadlines.interrupt(last.set):
        assert last.wait(LONG_S)  # by now the deadlines of the others are over, too
    assert calls == []


def test_each_has_its_own_deadline() -> None:
    deadlines, first, second = Deadlines(0.01), threading.Event(), threading.Event()
    with deadlines.interrupt(first.set):
        assert first.wait(LONG_S)
        with deadlines.interrupt(second.set):
            assert second.wait(LONG_S)


def test_one_thread_serves_all_until_it_is_closed(watching: Callable[[], list[threading.Thread]]) -> None:
    deadlines = Deadlines(LONG_S)
    with deadlines.interrupt(ignore):
        [thread] = watching()
        with deadlines.interrupt(threading.Event().set):
            assert watching() == [thread]
        deadlines.close()
        assert thread.is_alive()  # one is under way
    deadlines.close()
    thread.join(LONG_S)
    assert not thread.is_alive()
    with deadlines.interrupt(ignore):
        [another] = watching()
    deadlines.close()
    another.join(LONG_S)
    assert another is not thread


def test_a_deadline_goes_with_its_block_whatever_ends_it() -> None:
    deadlines, last = Deadlines(0.05), threading.Event()
    calls: list[int] = []
    with pytest.raises(ValueError, match="broken"), deadlines.interrupt(lambda: calls.append(1)):
        raise ValueError("broken")
    with deadlines.interrupt(last.set):
        assert last.wait(LONG_S)
    assert calls == []


def test_an_error_in_one_is_logged_and_takes_no_others_deadline(caplog: pytest.LogCaptureFixture) -> None:
    deadlines, second, third = Deadlines(0.05), threading.Event(), threading.Event()

    def fail() -> None:
        raise ZeroDivisionError("a fault")

    with deadlines.interrupt(fail), deadlines.interrupt(second.set):
        assert second.wait(LONG_S)
    with deadlines.interrupt(third.set):
        assert third.wait(LONG_S)
    [logged] = caplog.records
    assert (logged.name, logged.message) == ("raingauge.deadlines", "deadlines.unexpected")
    assert "a fault" in caplog.text
