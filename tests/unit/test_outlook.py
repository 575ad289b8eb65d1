"""How often the list of open collections is read."""

from datetime import datetime, timedelta
from typing import cast

import pytest
from sqlalchemy import Connection

from producer.outlook import FEW, KEPT_FOR_EACH, Crowd
from producer.sharing import in_turn
from raingauge.storage import collections
from raingauge.storage.collections import CollectionState, OpenWork
from raingauge.storage.database import Database
from tests.api_support import NOON

SECOND = timedelta(seconds=1)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for every time that the list was read; the last entry is how long it is."""
    lengths = [0]

    def listed(_connection: Connection) -> list[OpenWork]:
        lengths.append(lengths[-1])
        return [cast("OpenWork", n) for n in range(lengths[-1])]

    monkeypatch.setattr(collections, "open_work", listed)
    return lengths


@pytest.mark.parametrize(("length", "times"), [(0, 3), (FEW, 3), (FEW + 1, 1)])
def test_a_short_list_is_read_every_time(sqlite: Database, read: list[int], length: int, times: int) -> None:
    read[0] = length
    crowd = Crowd()
    found = sqlite.read(lambda c: [len(crowd.at(c, NOON)) for _ in range(3)])
    assert (found, len(read) - 1) == ([length] * 3, times)


def test_a_long_list_is_used_for_a_while_and_not_when_the_clock_steps_back(sqlite: Database, read: list[int]) -> None:
    read[0] = 1000
    crowd = Crowd()
    longest = 1000 * KEPT_FOR_EACH

    def times_after(moments: list[timedelta]) -> int:
        before = len(read)
        sqlite.read(lambda c: [crowd.at(c, NOON + moment) for moment in moments])
        return len(read) - before

    assert times_after([timedelta(), longest / 2, longest]) == 1
    assert times_after([longest + timedelta(microseconds=1)]) == 1
    assert times_after([timedelta()]) == 1


def test_the_list_is_that_of_the_database(sqlite: Database) -> None:
    assert sqlite.read(lambda c: list(Crowd().at(c, NOON))) == sqlite.read(collections.open_work) == []


def test_those_posted_after_the_list_was_read_share_as_each_by_itself_would(sqlite: Database) -> None:
    def state(number: int, requested_at: datetime, progress_at: datetime | None = None) -> CollectionState:
        return CollectionState(f"{number}", requested_at, 600, "b", 167, 0, 0, progress_at, None, None)

    works = [
        OpenWork(f"{n}", "ab"[n % 2], n, n % 3, NOON - n * SECOND, NOON - SECOND if n % 3 else None)
        for n in range(FEW + 1)
    ]
    crowd = Crowd()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(collections, "open_work", lambda _connection: works)
        found = sqlite.read(lambda c: crowd.at(c, NOON))
    new = [state(n, NOON + n * SECOND) for n in (1, 2)]
    known = [state(1, NOON - SECOND), state(3, NOON - 3 * SECOND, NOON - SECOND), state(9, NOON, NOON + SECOND)]
    for one in [*new, *known]:
        for left in (167, 100):
            assert crowd.sharers(found, one, left) == in_turn(works, one, left)
    assert crowd.sharers(found, new[0], 100) is crowd.sharers(found, new[1], 100)
