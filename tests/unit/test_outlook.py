"""How often the list of open collections is read."""

from datetime import datetime, timedelta
from typing import cast

import pytest
from sqlalchemy import event

from producer import outlook
from producer.outlook import FEW, KEPT_FOR_EACH, Crowd
from producer.sharing import in_turn
from raingauge.storage.collections import CollectionState, OpenWork
from raingauge.storage.database import Database
from tests.api_support import NOON, Front

SECOND = timedelta(seconds=1)


def read(crowd: Crowd, now: datetime, length: int) -> int:
    """As an outlook does: keep a list of so many unless one is used again; how long the one is that counts."""
    open_now = crowd.at(now)
    if open_now is None:
        open_now = crowd.keep(now, [cast("OpenWork", n) for n in range(length)])
    return len(open_now)


@pytest.mark.parametrize(("length", "again"), [(0, 5), (FEW, 5), (FEW + 1, FEW + 1)])
def test_a_short_list_is_read_every_time(length: int, again: int) -> None:
    crowd = Crowd()
    assert [read(crowd, NOON, length), read(crowd, NOON, 5)] == [length, again]


def test_a_long_list_is_used_for_a_while_and_not_when_the_clock_steps_back() -> None:
    crowd = Crowd()
    longest = 1000 * KEPT_FOR_EACH

    def lengths(*moments: timedelta) -> list[int]:
        return [read(crowd, NOON + moment, 1000 + number) for number, moment in enumerate(moments)]

    assert lengths(timedelta(), longest / 2, longest) == [1000, 1000, 1000]
    assert lengths(longest, longest + timedelta(microseconds=1)) == [1000, 1001]
    assert lengths(timedelta()) == [1000]


@pytest.fixture
def front(sqlite: Database) -> Front:
    return Front(sqlite)


async def test_a_list_that_is_used_again_is_not_asked_for(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        await front.collect(name, cities=[1, 2, 3])
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        asked.append(statement)

    async def listed() -> int:
        """How often the list was asked for by one who asked for a collection."""
        asked.clear()
        assert (await front.body("a", data=False))["status"] == "waiting"
        return sum("collections.finished_at IS NULL" in statement for statement in asked)

    event.listen(front.database.engine, "before_cursor_execute", note)
    assert [await listed() for _ in range(3)] == [1, 1, 1]
    monkeypatch.setattr(outlook, "FEW", 1)
    assert [await listed() for _ in range(3)] == [0, 0, 0]
    front.clock.moment += 60 * SECOND
    assert [await listed() for _ in range(3)] == [1, 0, 0]


def test_those_posted_after_the_list_was_read_share_as_each_by_itself_would() -> None:
    def state(number: int, requested_at: datetime, progress_at: datetime | None = None) -> CollectionState:
        return CollectionState(f"{number}", requested_at, 600, "b", 167, 0, 0, progress_at, None, None)

    works = [
        OpenWork(f"{n}", "ab"[n % 2], n, n % 3, NOON - n * SECOND, NOON - SECOND if n % 3 else None)
        for n in range(FEW + 1)
    ]
    crowd = Crowd()
    found = crowd.keep(NOON, works)
    new = [state(n, NOON + n * SECOND) for n in (1, 2)]
    known = [state(1, NOON - SECOND), state(3, NOON - 3 * SECOND, NOON - SECOND), state(9, NOON, NOON + SECOND)]
    for one in [*new, *known]:
        for left in (167, 100):
            assert crowd.sharers(found, one, left) == in_turn(works, one, left)
    assert crowd.sharers(found, new[0], 100) is crowd.sharers(found, new[1], 100)
