"""The history of cities: each observation once, oldest first, at a cost that does not grow; on every database."""

from datetime import timedelta

import pytest
from sqlalchemy import insert

from raingauge.database import Database
from raingauge.storage import history
from raingauge.storage.history import Period, Place
from raingauge.storage.models import City
from tests.contract.storage_support import MICROSECOND, NOW, SECOND
from tests.contract.test_storage_outbox import analyze, rows_read
from tests.contract.test_storage_readings import store

FAILED = {"status": "failed", "fetched_at": None, "observed_at": None, "temperature": None}


def pages(database: Database, period: Period, limit: int) -> list[list[tuple[float, int, str]]]:
    """Seconds after NOW, city and collection of each row, page by page."""
    found: list[list[tuple[float, int, str]]] = []
    after: Place | None = None
    while True:
        rows = database.read(lambda c, after=after: history.page(c, period, (), after, limit))  # type: ignore[misc]
        if not rows:
            return found
        found.append([((row.fetched_at - NOW).total_seconds(), row.city_id, row.collection_id) for row in rows])
        after = Place(rows[-1].fetched_at, rows[-1].city_id)


@pytest.fixture
def filled(database: Database) -> Database:
    store(database, [{"city_id": 1}, {"city_id": 2}, {"city_id": 3, **FAILED}], "b")
    store(database, [{"city_id": 1}, {"city_id": 2, "fetched_at": NOW + SECOND}], "a")  # shares city 1 with b
    store(database, [{"city_id": city, "fetched_at": NOW + MICROSECOND} for city in (1, 2, 9)], "c")
    return database


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_each_observation_comes_once_oldest_first_whatever_the_pages(filled: Database, limit: int) -> None:
    found = pages(filled, Period([2, 1, 3]), limit)
    expected = [(0, 1, "a"), (0, 2, "b"), (1e-6, 1, "c"), (1e-6, 2, "c"), (1, 2, "a")]
    assert [row for page in found for row in page] == expected
    assert all(len(page) == limit for page in found[:-1])


def test_a_period_includes_its_first_moment_and_not_its_last(filled: Database) -> None:
    assert pages(filled, Period([1, 2], NOW + MICROSECOND, NOW + SECOND), 1) == [[(1e-6, 1, "c")], [(1e-6, 2, "c")]]
    assert pages(filled, Period([1], until=NOW + MICROSECOND), 9) == [[(0, 1, "a")]]
    assert pages(filled, Period([1, 2], NOW + SECOND), 9) == [[(1, 2, "a")]]


def test_a_row_has_the_weather_of_then_and_the_name_of_now(filled: Database) -> None:
    filled.write(lambda c: c.execute(insert(City).values(id=9, name="Nine", temperature=30.0)))
    (row,) = filled.read(lambda c: history.page(c, Period([9]), ("temperature", "name"), None, 5))
    assert (row.temperature, row.name) == (1.5, "Nine")


def test_a_page_far_behind_reads_no_more_than_the_first_and_nothing_of_other_cities(database: Database) -> None:
    times = [NOW + timedelta(minutes=number) for number in range(300)]
    for number, moment in enumerate(times):
        store(database, ({"city_id": city, "fetched_at": moment} for city in range(1, 21)), f"c{number}")
    analyze(database, ("cities", "readings"))
    read = [
        rows_read(database, lambda c, after=after: history.page(c, Period([7, 8]), ("humidity",), after, 20))  # type: ignore[misc]
        for after in (None, Place(times[250], 7))
    ]
    assert read[1] < 2 * read[0]
    # Of SQLite, tens of steps of its machine; of a server, rows, those of its own steps included.
    assert read[0] < 600, read
