"""How often the list of open collections is read for a forecast."""

from datetime import timedelta

import pytest
from sqlalchemy import event

from producer import views
from raingauge.database import Database
from tests.api_support import Front


@pytest.mark.parametrize(
    ("few", "after_s", "reads"), [(3, 0, 3), (1, 0, 0), (1, 60, 3), (1, -1, 3)], ids=["short", "long", "old", "newer"]
)
async def test_a_long_list_is_used_again_for_a_while_and_not_when_the_clock_steps_back(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch, few: int, after_s: float, reads: int
) -> None:
    front = Front(sqlite)
    for name in "abc":
        await front.collect(name, cities=[1, 2, 3])
    monkeypatch.setattr(views, "FEW", few)
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    front.clock.moment += timedelta(seconds=after_s)
    event.listen(front.database.engine, "before_cursor_execute", note)
    for _ in range(3):
        assert (await front.body("a", data=False))["status"] == "waiting"
        front.clock.moment += timedelta(seconds=after_s)
    event.remove(front.database.engine, "before_cursor_execute", note)
    assert sum("collections.finished_at IS NULL" in statement for statement in statements) == reads
