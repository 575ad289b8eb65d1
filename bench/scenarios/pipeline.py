"""How many cities a second go through the whole pipeline when neither quota nor provider holds them up.

From the POST to the last reading: relay, hand-off, reservation, HTTP call to the instant provider, settling. Beside it
the same rows written by a bare loop on the same database, before and after.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final

from bench.baselines import rows_per_second
from bench.databases import on_mariadb, on_sqlite
from bench.processes import UNLIMITED, System, embedded, on_kafka, stub
from bench.report import Bound, Figure, Outcome, at_least
from bench.size import Size

SLOWEST: Final = 100.0
"""Cities a second below which a run is given up."""


@dataclass(frozen=True, slots=True)
class Setup:
    """One way to run it."""

    name: str
    database: Callable[[], AbstractContextManager[str]]
    system: Callable[[str, str], AbstractContextManager[System]]
    bound: Bound | None


SETUPS: Final = (
    Setup("SQLite, embedded", on_sqlite, partial(embedded, **UNLIMITED), None),
    Setup("MariaDB and Kafka, 1 consumer", on_mariadb, partial(on_kafka, consumers=1, **UNLIMITED), at_least(0.25)),
    Setup("MariaDB and Kafka, 3 consumers", on_mariadb, partial(on_kafka, consumers=3, **UNLIMITED), at_least(0.6)),
)


def pipeline(size: Size) -> Outcome:
    """Cities a second, as a share of the bare loop's."""
    outcome = Outcome("pipeline")
    for setup in SETUPS:
        cities, seconds = size.of(60_000, 4_000), size.of(3.0, 1.0)
        with ExitStack() as parts:
            url = parts.enter_context(setup.database())
            before = rows_per_second(url, seconds, "bare-before")
            rate = _rate(setup, url, cities)
            bare = (before + rows_per_second(url, seconds, "bare-after")) / 2
        outcome.add(Figure(setup.name, rate, "cities/s", bare, "bare loop", setup.bound))
    return outcome


def _rate(setup: Setup, url: str, cities: int) -> float:
    with stub() as provider, setup.system(url, provider.url) as running:
        running.collect("warm-up", range(1, 401))
        running.until_done(60)
        running.collect("all", range(1_000_001, 1_000_001 + cities))
        running.until_done(10 + cities / SLOWEST)
        return cities / running.seconds_of("all")
