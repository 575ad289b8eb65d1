"""How often the list of open collections is read."""

from datetime import timedelta
from typing import cast

import pytest
from sqlalchemy import Connection

from producer.outlook import FEW, KEPT_FOR_EACH, Crowd
from raingauge.storage import collections
from raingauge.storage.collections import OpenWork
from raingauge.storage.database import Database
from tests.api_support import NOON


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
