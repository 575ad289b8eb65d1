"""Readings as JSON text: the same in every database, to the last bit, whatever a name or a number looks like."""

import json
import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import DBAPIError

from raingauge.contracts import MAX_CITY_ID, utc_text
from raingauge.storage import pages
from raingauge.storage.database import Database
from raingauge.storage.models import City, Collection, Reading
from raingauge.storage.pages import Part, Written
from tests.contract.storage_support import NOW

FIELDS: Final = (
    *(("name", "name"), ("temperature", "temperature"), ("datetime", "fetched_at"), ("observed_at", "observed_at")),
    *(("condition_id", "condition_id"), ("description", "description"), ("latitude", "latitude")),
)
NASTY: Final = (
    *(
        '"',
        "\\",
        "'",
        "''",
        "\\n",
        "\n\r\t\b\f",
        "\x01\x1f\x7f",
        "🌦️雨ñ" * 50,
        "</script>",
        "\uff02\uff3c\u201c",
        "%s %(a)s %",
        ":name \\:",
        "{}",
    ),
    *("null", "", " ", "\u2028\u2029", "\ufeff", "a\\", '\\"', "١٢", "é", "e\u0301"),
)


def store(database: Database, rows: Iterable[dict[str, Any]], name: str = "1") -> None:
    """Readings of a collection; what a row does not say is usual."""
    usual = {"status": "collected", "reason": None, "fetched_at": NOW, "observed_at": NOW, "temperature": 1.5}
    readings = [usual | {"collection_id": name} | row for row in rows]
    columns = {column for row in readings for column in row}
    collection = {"id": name, "requested_at": NOW, "max_age_s": 0, "cities_hash": "-", "total": max(1, len(readings))}
    full = [dict.fromkeys(columns) | row for row in readings]
    database.write(lambda c: c.execute(insert(Collection).values(collection)))
    if full:
        database.write(lambda c: c.execute(insert(Reading), full))


def part(
    database: Database,
    fields: pages.Fields = FIELDS,
    after: int = 0,
    most: int = 1000,
    total: int | None = None,
    upto: int = MAX_CITY_ID,
) -> Written:
    wanted = Part("1", fields, after, upto, most)
    if total is None:
        return database.read(lambda connection: pages.part(connection, wanted))
    return database.read(lambda connection: pages.parts(connection, {wanted: total}))[wanted]


def objects(text: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(b"[" + text + b"]")
    return found


def test_a_row_is_written_in_its_order_with_times_to_the_millisecond(database: Database) -> None:
    late = datetime(2026, 2, 3, 4, 5, 6, 999_999, tzinfo=UTC)
    row = {"fetched_at": late, "observed_at": NOW.replace(microsecond=0), "condition_id": 800, "description": "rain"}
    store(database, [{"city_id": 7, **row}])
    database.write(lambda c: c.execute(insert(City).values(id=7, name="Young", latitude=-32.698)))
    (written,) = objects(part(database).data)
    assert list(written.items()) == [
        ("city_id", 7),
        ("name", "Young"),
        ("temperature", 1.5),
        ("datetime", "2026-02-03T04:05:06.999Z"),
        ("observed_at", "2026-11-10T12:00:00.000Z"),
        ("condition_id", 800),
        ("description", "rain"),
        ("latitude", -32.698),
    ]


def test_times_are_written_as_everywhere_else(database: Database) -> None:
    chance = random.Random(5)
    times = [NOW + timedelta(microseconds=chance.randrange(10**15)) for _ in range(50)]
    store(database, [{"city_id": n, "fetched_at": time} for n, time in enumerate(times, 1)])
    assert [row["datetime"] for row in objects(part(database).data)] == [
        # SQLite's own text has microseconds, too: all cut off, none round.
        utc_text(time)
        for time in times
    ]


def test_what_is_not_known_is_null(database: Database) -> None:
    store(database, [{"city_id": 7, "temperature": None, "observed_at": None}])
    (written,) = objects(part(database).data)
    assert {name for name, value in written.items() if value is None} == {
        *("name", "temperature", "observed_at", "condition_id", "description", "latitude")
    }


def test_texts_come_through_whatever_is_in_them(database: Database) -> None:
    store(database, [{"city_id": n, "description": text} for n, text in enumerate(NASTY, 1)])
    database.write(lambda c: c.execute(insert(City), [{"id": n, "name": text} for n, text in enumerate(NASTY, 1)]))
    for total in (None, len(NASTY)):
        written = objects(part(database, total=total).data)
        assert [(row["name"], row["description"]) for row in written] == [(text, text) for text in NASTY]


def test_numbers_come_through_to_the_last_bit_and_stay_fractions(database: Database) -> None:
    chance = random.Random(11)
    numbers = [chance.uniform(-1, 1) * 10 ** chance.randint(-12, 20) for _ in range(300)]
    numbers += [0.0, 1.0, -40.0, 1e15, 1e16, 123456789012345680.0, 999999999999999.0, 1e-7, 1e300, 5e-324, 0.1 + 0.2]
    store(database, [{"city_id": n, "temperature": number} for n, number in enumerate(numbers, 1)])
    written = [row["temperature"] for row in objects(part(database).data)]
    assert written == numbers
    assert {type(number) for number in written} == {float}


@pytest.mark.parametrize("kind", ["inf", "-inf", "nan"])
def test_numbers_that_json_cannot_say_are_null(database: Database, kind: str) -> None:
    largest = {"city_id": 2, "temperature": 1.7976931348623157e308}
    if database.dialect in {"mysql", "mariadb"}:
        with pytest.raises(DBAPIError):
            store(database, [{"city_id": 1, "temperature": float(kind)}])  # it takes no such number in the first place
        return
    store(database, [{"city_id": 1, "temperature": float(kind)}, largest])
    assert [row["temperature"] for row in objects(part(database).data)] == [None, 1.7976931348623157e308]


def test_what_failed_stands_by_itself(database: Database) -> None:
    failed = {"status": "failed", "fetched_at": None, "observed_at": None, "temperature": None}
    store(database, [{"city_id": 3, **failed, "reason": 'unknown "city"'}, {"city_id": 4}, {"city_id": 9, **failed}])
    for total in (None, 3):
        written = part(database, total=total)
        assert objects(written.errors) == [{"city_id": 3, "reason": 'unknown "city"'}, {"city_id": 9, "reason": None}]
        assert [row["city_id"] for row in objects(written.data)] == [4]
        assert (written.number, written.last, written.more) == (3, 9, False)


def test_rows_come_in_the_order_of_their_cities_with_the_names_that_are_known(database: Database) -> None:
    store(database, [{"city_id": city} for city in (9, 3, 10, 1, 200, 7)])
    names = {3: "Three", 9: "Nine"}
    # What the city has by now is not what was collected.
    known = [{"id": city, "name": name, "temperature": 30.0} for city, name in names.items()]
    database.write(lambda c: c.execute(insert(City), known))
    for total in (None, 6):
        written = objects(part(database, total=total).data)
        assert [row["city_id"] for row in written] == [1, 3, 7, 9, 10, 200]
        assert [row["name"] for row in written] == [names.get(row["city_id"]) for row in written]
        assert {row["temperature"] for row in written} == {1.5}


def test_parts_of_many_collections_are_read_together(database: Database) -> None:
    for name, ids in {"1": [1, 2, 3], "2": [2], "3": [], "4": [1, 2, 3]}.items():
        store(database, [{"city_id": n, "temperature": float(name)} for n in ids], name=name)
    fields: pages.Fields = (("temperature", "temperature"),)
    small = [Part(name, fields, 0, MAX_CITY_ID, 3) for name in ("1", "2", "3")]
    others = [Part("1", fields, 1, 2, 3), Part("2", (), 0, MAX_CITY_ID, 3), Part("4", fields, 0, MAX_CITY_ID, 2)]
    given = dict.fromkeys([*small, *others], 3)
    found = database.read(lambda connection: pages.parts(connection, given))
    assert found == {one: database.read(partial(pages.part, wanted=one)) for one in given}
    assert [(written.number, written.last, written.more) for written in map(found.__getitem__, given)] == [
        *((3, 3, False), (1, 2, False), (0, 0, False)),
        *((1, 2, False), (1, 2, False), (2, 2, True)),
    ]


def test_of_nothing_there_is_nothing(database: Database) -> None:
    store(database, [])
    assert part(database, after=5) == Written(b"", b"", 0, 5, more=False)
    assert part(database, total=1) == Written(b"", b"", 0, 0, more=False)


@pytest.mark.parametrize("order", [range(1, 11), range(10, 0, -1)])
def test_a_part_ends_at_its_size_and_says_whether_there_is_more(database: Database, order: Sequence[int]) -> None:
    store(database, [{"city_id": n} for n in order])
    store(database, [{"city_id": 11}], name="2")
    seen = [part(database, after=after, most=4, total=10) for after in (0, 4, 8)]
    assert [[row["city_id"] for row in objects(one.data)] for one in seen] == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
    assert [(one.number, one.last, one.more) for one in seen] == [(4, 4, True), (4, 8, True), (2, 10, False)]
    assert not part(database, after=6, most=4).more
    assert not part(database, most=4, upto=4).more
    assert part(database, most=4, upto=5).more


def test_long_parts_are_not_cut_off(database: Database) -> None:
    long = "🌦️" * 66
    store(database, [{"city_id": n, "description": long} for n in range(1, 3001)])
    written = part(database, most=3000)
    assert len(written.data) > 1_500_000
    assert [row["description"] for row in objects(written.data)] == [long] * 3000


def test_the_boundary_of_a_page_is_found_without_its_rows(database: Database) -> None:
    store(database, [{"city_id": n * 10} for n in range(1, 6)])
    wanted = Part("1", FIELDS, 10, MAX_CITY_ID, 1000)

    def found(skipped: int) -> tuple[int | None, int | None]:
        return database.read(lambda connection: pages.boundary(connection, wanted, skipped))

    assert [found(skipped) for skipped in range(5)] == [(20, 30), (30, 40), (40, 50), (50, None), (None, None)]
