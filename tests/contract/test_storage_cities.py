"""What is kept of a city: its latest observation to the last bit, and that it is unknown."""

import math
import random
from collections.abc import Sequence
from datetime import datetime
from functools import partial

import pytest
from sqlalchemy import Connection

from raingauge.database import Database
from raingauge.model import Observation
from raingauge.storage import cities
from raingauge.storage.models import City, Reading
from raingauge.storage.weather import WEATHER_COLUMNS
from tests.contract.storage_support import LONGEST, MICROSECOND, NOW, SECOND, accept, an_observation, at_once, rows
from tests.support.settling import settle_cities

FULL = Observation(
    city_id=2_643_743,
    name="Llanfair­pwll 🏴󠁧󠁢󠁷󠁬󠁳󠁿 — 東京 'quoted' \"twice\" \\ % ; --",
    country="GB",
    latitude=53.22,
    longitude=-4.2,
    observed_at=NOW - 7 * SECOND,
    temperature=0.1 + 0.2,
    humidity=100.5,
    feels_like=-1e-9,
    pressure=1013.25,
    wind_speed=math.pi,
    wind_deg=359.99999999999994,
    clouds=0.0,
    visibility=1e6,
    rain_1h=1 / 3,
    snow_1h=123456789.12345679,
    condition_id=804,
    description="überwiegend bewölkt ☁️",
    utc_offset_s=-34200,
)


def remember(
    database: Database, observations: Sequence[Observation], unknown: Sequence[int] = (), at: datetime = NOW
) -> None:
    seen = {observation.city_id: observation for observation in observations}
    database.write(lambda connection: cities.remember(connection, seen, unknown, at))


@pytest.mark.parametrize(
    "observation",
    [
        pytest.param(FULL, id="all fields"),
        pytest.param(an_observation(1), id="what must be there"),
        pytest.param(an_observation(2**31 - 1, name=LONGEST, description=LONGEST), id="longest texts"),
    ],
)
def test_every_field_of_an_observation_comes_back_as_it_was(database: Database, observation: Observation) -> None:
    fetched_at = NOW + 3 * MICROSECOND
    accept(database, "1", [observation.city_id])
    database.write(lambda connection: settle_cities(connection, fetched_at, "1", [observation]))
    expected = observation._asdict() | {"fetched_at": fetched_at, "status": "collected", "reason": None}
    kept = {Reading: ("city_id", "status", "reason", *WEATHER_COLUMNS), City: Observation._fields[1:]}
    for table, names in kept.items():
        (row,) = rows(database, table)
        assert {name: getattr(row, name) for name in names} == {name: expected[name] for name in names}


def test_the_latest_observation_of_a_city_takes_the_place_of_the_one_before_and_a_late_one_does_not(
    database: Database,
) -> None:
    remember(database, [FULL])
    remember(database, [an_observation(FULL.city_id, temperature=-3.5)], at=NOW + SECOND)
    remember(database, [an_observation(FULL.city_id, temperature=9.0)], unknown=[5], at=NOW)
    remember(database, [], unknown=[FULL.city_id], at=NOW)
    unknown, city = rows(database, City)
    assert (city.temperature, city.fetched_at, city.name, city.pressure) == (-3.5, NOW + SECOND, None, None)
    assert (unknown.temperature, unknown.fetched_at, city.doubted_at) == (None, None, None)


def test_a_city_is_unknown_when_the_provider_said_so_twice_and_keeps_its_weather_until_it_is_seen_again(
    database: Database,
) -> None:
    remember(database, [an_observation(5)])
    for seconds, unknown_at in [(1, None), (60, None), (61, NOW + 61 * SECOND), (62, NOW + 62 * SECOND)]:
        remember(database, [], unknown=[5], at=NOW + seconds * SECOND)
        assert [(row.temperature, row.unknown_at) for row in rows(database, City)] == [(20.0, unknown_at)]
    remember(database, [an_observation(5)], at=NOW + 63 * SECOND)
    assert [(row.unknown_at, row.doubted_at) for row in rows(database, City)] == [(None, None)]


def test_a_clock_that_stepped_back_does_not_keep_a_city_in_doubt(database: Database) -> None:
    for moment in (NOW + 3600 * SECOND, NOW, NOW + 60 * SECOND):
        remember(database, [], unknown=[5], at=moment)
    assert [row.unknown_at for row in rows(database, City)] == [NOW + 60 * SECOND]


def test_what_was_unknown_is_forgotten_on_demand(database: Database) -> None:
    for at in (NOW, NOW + 60 * SECOND):
        remember(database, [], unknown=[5, 6], at=at)
    forgotten = database.write(lambda connection: cities.forget_unknown(connection, [7, 5, 5]))
    assert forgotten == {5: NOW + 60 * SECOND}
    left = [(row.unknown_at, row.doubted_at) for row in rows(database, City)]
    assert left == [(None, None), (NOW + 60 * SECOND, NOW)]


def test_answers_kept_at_once_in_any_order_do_not_deadlock(database: Database) -> None:
    remember(database, [], unknown=range(60))
    runs: list[int] = []

    def keep(number: int) -> None:
        chance = random.Random(number)
        for _ in range(4):
            some = chance.sample(range(60), 40)
            database.write(partial(count_and_remember, {city: an_observation(city) for city in some[:20]}, some[20:]))

    def count_and_remember(seen: dict[int, Observation], unknown: Sequence[int], connection: Connection) -> None:
        runs.append(len(seen))
        cities.remember(connection, seen, unknown, NOW)

    at_once([partial(keep, number) for number in range(6)])
    assert len(runs) == 24
    assert len(rows(database, City)) == 60
