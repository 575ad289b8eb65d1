"""The list of collections: its order, its pages, and what a page reads."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from raingauge.database import Database
from raingauge.model import CollectionState
from raingauge.storage import collections
from raingauge.storage.models import CANCELLED, DONE, OPEN, Collection
from tests.contract.storage_support import NOW, SECOND, accept, cancel, settle_batches
from tests.contract.test_storage_outbox import analyze, rows_read

ALL = (OPEN, DONE, CANCELLED)


def listed(database: Database, standings: tuple[int, ...] = ALL, limit: int = 100) -> list[str]:
    """The ids of all pages."""
    ids: list[str] = []
    last: CollectionState | None = None
    while True:
        page = database.read(lambda c, after=last: collections.newest(c, standings, after, limit))  # type: ignore[misc]
        ids += [state.id for state in page]
        if len(page) < limit:
            return ids
        last = page[-1]


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_the_newest_go_first_and_each_is_on_one_page(database: Database, limit: int) -> None:
    for number, name in enumerate("afcdeb"):
        accept(database, name, [1], NOW + number // 3 * SECOND)  # three of the same moment, twice
    cancel(database, "a")
    settle_batches(database, accept(database, "g", [1], NOW + 9 * SECOND))
    assert listed(database, ALL, limit) == ["g", *"edb", *"fca"]
    assert listed(database, (OPEN,), limit) == [*"edb", *"fc"]
    assert (listed(database, (DONE,), limit), listed(database, (CANCELLED,), limit)) == (["g"], ["a"])


def fill(database: Database, first: int, last: int) -> None:
    """Collections of each standing in turn, one a second."""
    usual: dict[str, Any] = {"max_age_s": 600, "cities_hash": "x", "total": 60}
    ends = [(None, None), (NOW, None), (NOW, NOW)]
    rows = [
        usual
        | {"id": f"c{n}", "requested_at": NOW + timedelta(seconds=n)}
        | dict(zip(("finished_at", "cancelled_at"), ends[n % 3], strict=True))
        for n in range(first, last)
    ]
    database.write(lambda connection: connection.execute(insert(Collection), rows))
    analyze(database)


def test_a_page_reads_no_more_rows_when_there_are_thousands_of_collections(database: Database) -> None:
    read = []
    for first, last in ((0, 300), (300, 12_000)):
        fill(database, first, last)
        middle = database.read(lambda c, n=last // 2: collections.find(c, f"c{n}"))  # type: ignore[misc]
        read.append(
            [
                rows_read(database, lambda c, s=standings, a=after: collections.newest(c, s, a, 20))  # type: ignore[misc]
                for standings in (ALL, (OPEN,), (DONE,), (CANCELLED,))
                for after in (None, middle)
            ]
            + [rows_read(database, lambda c: collections.finished_since(c, NOW - timedelta(seconds=1), 20))]
        )
    assert all(more < 2 * few + 50 for few, more in zip(*read, strict=True)), read


def test_the_cities_of_a_collection_are_read_from_any_batch_on(database: Database) -> None:
    accept(database, "a", range(1, 71))
    for begin, found in ((0, ([*range(1, 41)], 2)), (2, ([*range(41, 71)], None)), (2**31 - 1, ([], None))):
        assert database.read(lambda c, n=begin: collections.cities_of(c, "a", n, 2)) == found  # type: ignore[misc]
