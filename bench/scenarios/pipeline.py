"""How many cities a second go through the whole pipeline when neither quota nor provider holds them up.

From the POST to the last reading: relay, hand-off, reservation, HTTP call to the instant provider, settling. Beside it
Celery and Redis with as many workers, on the same provider and the same kind of database. Once it stores the same rows,
once the readings alone, without the latest observation of each city.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Final

from bench.celery_redis import SLOWEST, cities_per_second
from bench.databases import on_mariadb, on_sqlite
from bench.processes import UNLIMITED, System, embedded, on_kafka, stub
from bench.report import Figure, Outcome, at_least
from bench.size import Size

CONSUMERS: Final = (1, 3)
AT_LEAST: Final = at_least(1.0)


def pipeline(size: Size) -> Outcome:
    """Cities a second, as a share of Celery's."""
    outcome = Outcome("pipeline")
    cities = size.of(60_000, 4_000)
    for consumers in CONSUMERS:
        rate = _rate(on_mariadb, partial(on_kafka, consumers=consumers), cities)
        what = f"MariaDB and Kafka, {consumers} consumer{'s' if consumers > 1 else ''}"
        outcome.add(Figure(what, rate, "cities/s", _celery(consumers, cities), f"Celery, {consumers}", AT_LEAST))
        alone = _celery(consumers, cities, readings_alone=True)
        outcome.add(Figure(what, rate, "cities/s", alone, f"Celery, {consumers}, readings alone"))
    outcome.add(Figure("SQLite, embedded", _rate(on_sqlite, embedded, cities), "cities/s"))
    return outcome


def _celery(workers: int, cities: int, *, readings_alone: bool = False) -> float:
    with on_mariadb() as url, stub() as provider:
        return cities_per_second(url, provider.url, workers, cities, readings_alone=readings_alone)


def _rate(
    database: Callable[[], AbstractContextManager[str]],
    system: Callable[..., AbstractContextManager[System]],
    cities: int,
) -> float:
    with database() as url, stub() as provider, system(url, provider.url, **UNLIMITED) as running:
        running.collect("warm-up", range(1, 401))
        running.until_done(60)
        running.collect("all", range(1_000_001, 1_000_001 + cities))
        running.until_done(10 + cities / SLOWEST)
        return cities / running.seconds_of("all")
