"""Summaries of readings: exact, and the same in every database."""

import operator
import random
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from functools import reduce
from typing import Any, get_args

import pytest

from raingauge.database import Database
from raingauge.storage import readings
from raingauge.storage.models import Reading
from raingauge.storage.readings import NumericField, Selection, Summary
from raingauge.storage.weather import WEATHER_COLUMNS
from tests.contract.storage_support import NOW, SECOND
from tests.contract.test_storage_readings import store

TIES = [0.0005, -0.0005, 1.0005, -1.0005, 2.6755, 0.0015, 0.00049999999999999994, 1e-300, -1e-300]
"""Halves of a thousandth, as far as doubles can be that."""


def summary(database: Database, **selection: Any) -> Summary:
    return database.read(lambda c: readings.summarize(c, Selection(**selection)))


def test_sums_are_exact_and_do_not_depend_on_the_order(database: Database) -> None:
    chance = random.Random(7)
    values = [round(chance.uniform(-90, 60), 2) for _ in range(5000)] + [0.1] * 1000
    exact = sum(Decimal(str(value)) for value in values)
    # Not `sum`, which compensates for rounding since Python 3.12.
    assert Decimal(str(reduce(operator.add, values))) != exact, "doubles are not"
    store(database, [{"temperature": value} for value in values])
    store(database, [{"temperature": value} for value in sorted(values, reverse=True)], "2")
    once, again, both = (summary(database, collection_id=name) for name in ("1", "2", None))
    assert once == again == Summary(int(exact * 1000), 6000, min(values), max(values))
    assert (once.total, once.mean) == (float(exact), float(Fraction(exact) / 6000))
    assert both == replace(once, thousandths=2 * once.thousandths, count=12_000)


@pytest.mark.parametrize(
    "values", [*([tie] for tie in TIES), TIES, [1_000_000.0, 0.001, -1_000_000.0], [-0.0, 0.0], [1e6 / 3] * 3]
)
def test_each_value_counts_as_its_nearest_thousandth_in_every_database(database: Database, values: list[float]) -> None:
    def nearest(value: float) -> int:
        scaled = value * 1000.0
        return int(scaled - 0.5) if scaled < 0 else int(scaled + 0.5)

    store(database, [{"visibility": value} for value in values])
    assert summary(database, field="visibility").thousandths == sum(map(nearest, values))


def test_every_numeric_field_can_be_summed_up(database: Database) -> None:
    fields = get_args(NumericField)
    columns = Reading.__table__.c
    assert list(fields) == [name for name in WEATHER_COLUMNS if columns[name].type.python_type in {int, float}]
    store(database, [{name: number + shift for number, name in enumerate(fields)} for shift in (2, 10, -3)])
    for number, name in enumerate(fields):
        assert summary(database, field=name) == Summary((3 * number + 9) * 1000, 3, number - 3, number + 10)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({"collection_id": "B"}, 8),
        ({"collection_id": "b"}, 16),
        ({"city_id": 1}, 25),
        ({"city_id": 9}, 0),
        ({"since": NOW}, 30),
        ({"until": NOW}, 1),
        ({"since": NOW, "until": NOW + SECOND}, 26),
        ({"since": NOW, "until": NOW + SECOND, "city_id": 1}, 24),
        ({"since": NOW + timedelta(microseconds=1)}, 4),
    ],
)
def test_a_collection_a_city_and_a_time_can_be_selected(
    database: Database, selection: dict[str, Any], expected: int
) -> None:
    store(database, [{"temperature": 2.0**n, "fetched_at": NOW + (n - 1) * SECOND} for n in range(3)], "A")
    store(database, [{"temperature": 8.0}], "B")
    store(database, [{"temperature": 16.0}], "b")
    assert summary(database, **selection).total == expected
