"""Pages of readings, as rows and as JSON: the same in every database, whatever a name or a number looks like."""

import json
import random
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import DBAPIError

from producer.pages import ROW, Page, PageQuery, render
from raingauge.database import Database, open_database
from raingauge.storage import readings
from raingauge.storage.models import City, Collection, Reading
from tests.contract.storage_support import LONGEST, NOW
from tests.contract.test_storage_outbox import analyze, rows_read
from tests.support.servers import MariaDB

MORE: Final = ("condition_id", "description", "latitude")
NASTY: Final = (
    *('"', "\\", "'", "''", "\\n", "\n\r\t\b\f", "\x01\x1f\x7f", LONGEST, "</script>", "\uff02\uff3c\u201c"),
    "%s %(a)s %",
    *(":name \\:", "{}", "null", "", " ", "\u2028\u2029", "\ufeff", "a\\", '\\"', "١٢", "é", "e\u0301"),
)


def store(database: Database, rows: Iterable[dict[str, Any]], name: str = "1") -> None:
    """Readings of a collection, of the cities from 1 on; what a row does not say is usual."""
    usual = {"status": "collected", "reason": None, "fetched_at": NOW, "observed_at": NOW, "temperature": 1.5}
    stored = [usual | {"collection_id": name, "city_id": number} | row for number, row in enumerate(rows, 1)]
    columns = {column for row in stored for column in row}
    collection = {"id": name, "requested_at": NOW, "max_age_s": 0, "cities_hash": "-", "total": max(1, len(stored))}
    full = [dict.fromkeys(columns) | row for row in stored]
    database.write(lambda c: c.execute(insert(Collection).values(collection)))
    if full:
        database.write(lambda c: c.execute(insert(Reading), full))


def page(database: Database, after: int = 0, limit: int = 1000) -> Page:
    query, columns = PageQuery("1", MORE, after, limit), (*ROW, *MORE)
    return render(database.read(lambda c: readings.page(c, "1", columns, after, limit + 1)), query)


def data(database: Database) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(page(database).data)
    return found


def test_a_row_is_written_in_its_order_with_times_to_the_millisecond_and_null_for_what_is_not_known(
    database: Database,
) -> None:
    late = datetime(2026, 2, 3, 4, 5, 6, 999_999, tzinfo=UTC)
    row = {"fetched_at": late, "observed_at": NOW.replace(microsecond=0), "condition_id": 800, "description": "rain"}
    store(database, [{"city_id": 7, **row}, {"city_id": 8, "temperature": None, "observed_at": None}])
    database.write(lambda c: c.execute(insert(City).values(id=7, name="Young", latitude=-32.698)))
    known, unknown = data(database)
    fetched, observed, then = "2026-02-03T04:05:06.999Z", "2026-11-10T12:00:00.000Z", "2026-11-10T12:00:00.123Z"
    assert list(known.items()) == [
        *(("city_id", 7), ("name", "Young"), ("temperature", 1.5), ("humidity", None), ("datetime", fetched)),
        *(("fetched_at", fetched), ("observed_at", observed)),
        *(("condition_id", 800), ("description", "rain"), ("latitude", -32.698)),
    ]
    given = {name: value for name, value in unknown.items() if value is not None}
    assert given == {"city_id": 8, "datetime": then, "fetched_at": then}


def test_texts_come_back_whatever_is_in_them(database: Database) -> None:
    store(database, [{"description": text} for text in NASTY])
    database.write(lambda c: c.execute(insert(City), [{"id": n, "name": text} for n, text in enumerate(NASTY, 1)]))
    assert [(row["name"], row["description"]) for row in data(database)] == [(text, text) for text in NASTY]


def test_numbers_come_back_to_the_last_bit_and_stay_fractions(database: Database) -> None:
    chance = random.Random(11)
    numbers = [chance.uniform(-1, 1) * 10 ** chance.randint(-12, 20) for _ in range(300)]
    numbers += [0.0, 1.0, -40.0, 1e15, 1e16, 123456789012345680.0, 999999999999999.0, 1e-7, 1e300, 5e-324, 0.1 + 0.2]
    store(database, [{"temperature": number} for number in numbers])
    written = [row["temperature"] for row in data(database)]
    assert written == numbers
    assert {type(number) for number in written} == {float}


@pytest.mark.parametrize("kind", ["inf", "-inf", "nan"])
def test_numbers_that_json_does_not_have_are_null(database: Database, kind: str) -> None:
    largest = {"city_id": 2, "temperature": 1.7976931348623157e308}
    if database.dialect in {"mysql", "mariadb"}:
        with pytest.raises(DBAPIError):
            store(database, [{"city_id": 1, "temperature": float(kind)}])  # it stores no such number
        return
    store(database, [{"city_id": 1, "temperature": float(kind)}, largest])
    assert [row["temperature"] for row in data(database)] == [None, 1.7976931348623157e308]


def test_failed_cities_are_listed_apart(database: Database) -> None:
    failed = {"status": "failed", "fetched_at": None, "observed_at": None, "temperature": None}
    store(database, [{"city_id": 3, **failed, "reason": 'unknown "city"'}, {"city_id": 4}, {"city_id": 9, **failed}])
    found = page(database)
    assert json.loads(found.errors) == [{"city_id": 3, "reason": 'unknown "city"'}, {"city_id": 9, "reason": None}]
    assert [row["city_id"] for row in json.loads(found.data)] == [4]


def test_rows_come_in_the_order_of_their_cities_with_names_of_now_and_weather_of_then(database: Database) -> None:
    store(database, [{"city_id": city} for city in (9, 3, 10, 200)])
    known = [{"id": 3, "name": "Three", "temperature": 30.0}, {"id": 9, "name": "Nine", "temperature": 30.0}]
    database.write(lambda c: c.execute(insert(City), known))
    found = [(row["city_id"], row["name"], row["temperature"]) for row in data(database)]
    assert found == [(3, "Three", 1.5), (9, "Nine", 1.5), (10, None, 1.5), (200, None, 1.5)]


@pytest.mark.parametrize("order", [range(1, 11), range(10, 0, -1)])
def test_a_page_ends_at_its_limit_and_leads_to_the_next(database: Database, order: Sequence[int]) -> None:
    store(database, [{"city_id": n} for n in order])
    store(database, [{"city_id": 11}], name="2")
    pages = [page(database, after, limit=4) for after in (0, 4, 8, 6, 10)]
    found = [[row["city_id"] for row in json.loads(one.data)] for one in pages]
    assert found == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10], [7, 8, 9, 10], []]
    assert [one.next_after for one in pages] == [4, 8, None, None, None]


@pytest.mark.services
@pytest.mark.xdist_group("outages")
def test_a_page_may_be_larger_than_the_largest_packet_of_the_server(mariadb: MariaDB) -> None:
    descriptions = [f"{n} ñ".ljust(100, "雨") for n in range(1, 1001)]
    with closing(open_database(mariadb.url)) as database:
        store(database, [{"description": text} for text in descriptions])
    mariadb.set_global("max_allowed_packet", 16_384)  # for new sessions
    with closing(open_database(mariadb.url)) as database:
        assert len(page(database).data) > 16_384
        assert [row["description"] for row in data(database)] == descriptions


def test_a_page_far_behind_reads_no_more_rows_than_the_first(database: Database) -> None:
    numbers = range(1, 20_001)
    database.write(lambda c: c.execute(insert(City), [{"id": number, "name": "x"} for number in numbers]))
    store(database, ({"city_id": number} for number in numbers))
    analyze(database, ("cities", "readings"))
    first, last = (
        rows_read(database, lambda c, after=after: readings.page(c, "1", ROW, after, 100))  # type: ignore[misc]
        for after in (0, 19_000)
    )
    assert last < 2 * first
