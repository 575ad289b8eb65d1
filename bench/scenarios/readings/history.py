"""Ten million readings: the newest of cities, the history of one, and whether requests notice that others are pruned.

A thousand sweeps of ten thousand cities, an hour apart, on MariaDB and on SQLite. The p99 of `GET /get` is taken while
nothing is pruned and while thirty collections of ten thousand readings are removed, in turn.
"""

from contextlib import ExitStack
from datetime import timedelta
from typing import Final

import requests

from bench.databases import on_mariadb, on_sqlite
from bench.processes import CLOCK, on_kafka, until
from bench.report import Figure, Outcome, at_most
from bench.scenarios.readings.summary import PROVIDER, p99_ms, seconds
from bench.size import Size
from bench.statistics import percentile
from bench.stored import EACH, FIRST_CITY, NOW, OPEN, name_of, store_readings
from tests.support.metrics import samples
from tests.support.processes import Program

APART: Final = timedelta(hours=1)
MONTH: Final = timedelta(days=30)
TRIES: Final = 21
DELETED: Final = 30
"""Collections in a round."""
ROUNDS: Final = 3
PRUNED_WITHIN_S: Final = 300


def history(size: Size) -> Outcome:
    """Milliseconds of the newest, of a month and of a page far behind; the p99 of a GET beside pruning."""
    outcome = Outcome("history")
    number = size.of(10_000_000, 1_000_000)
    for name, database in (("MariaDB", on_mariadb), ("SQLite", on_sqlite)):
        with ExitStack() as parts:
            url = parts.enter_context(database())
            store_readings(url, number, apart=APART)
            producer = parts.enter_context(on_kafka(url, PROVIDER, consumers=0)).producer
            where = f"{name}, {number:,} readings"
            _read(outcome, producer, where, number // EACH)
            _prune_beside(outcome, producer, where)
    return outcome


def _read(outcome: Outcome, producer: Program, where: str, sweeps: int) -> None:
    ids = ",".join(str(FIRST_CITY + 7 * place) for place in range(1000))
    last = NOW + (sweeps - 1) * APART
    ends = f"from={max(last - MONTH, NOW):%Y-%m-%dT%H:%M:%SZ}&to={last:%Y-%m-%dT%H:%M:%SZ}"
    cities = [FIRST_CITY + 97 * place for place in range(TRIES)]  # none was read before
    latest = _median_ms(producer, [f"/readings/latest?city_id={ids}"] * TRIES)
    month = _median_ms(producer, [f"/readings?city_id={city}&{ends}&limit=10000" for city in cities])
    outcome.add(Figure(f"latest of 1,000 cities, {where}", latest, "ms", 100.0, "the limit", at_most(1.0)))
    outcome.add(Figure(f"a month of one city, hourly, {where}", month, "ms", 50.0, "the limit", at_most(1.0)))
    places = ("1970-01-01T00:00:00.000000Z,1", f"{last - 150 * APART:%Y-%m-%dT%H:%M:%S.%f}Z,1")
    pages = [f"/readings?city_id={FIRST_CITY}&limit=100&after={place}" for place in places]
    first, behind = (_median_ms(producer, [page] * TRIES) for page in pages)
    outcome.add(Figure(f"a page at the end of a history, {where}", behind, "ms", first, "the first page", at_most(2.0)))


def _median_ms(producer: Program, paths: list[str]) -> float:
    with requests.Session() as session:
        return 1000 * percentile([seconds(session, f"{producer.url}{path}") for path in paths], 0.5)


def _prune_beside(outcome: Outcome, producer: Program, where: str) -> None:
    """The p99 of a GET alone and beside pruning, in turn; of each the median, so that both meet the same machine."""
    quiet, beside, took_s = [], [], 0.0
    path = f"/get?id={name_of(OPEN + 1)}&limit=100"
    for number in range(ROUNDS):
        quiet.append(p99_ms(producer, path))
        began = CLOCK.monotonic()
        first = OPEN + 2 + number * DELETED
        for place in range(first, first + DELETED):
            requests.delete(f"{producer.url}/collections/{name_of(place)}", timeout=20).raise_for_status()
        beside.append(p99_ms(producer, path))
        removed = (number + 1) * DELETED
        until(lambda removed=removed: _removed(producer) >= removed, PRUNED_WITHIN_S, "the pruning", every_s=1.0)  # type: ignore[misc]
        took_s += CLOCK.monotonic() - began
    rate = ROUNDS * DELETED * EACH / took_s
    what = f"p99 of a GET while {rate:,.0f} readings/s are pruned, {where}"
    outcome.add(Figure(what, percentile(beside, 0.5), "ms", percentile(quiet, 0.5), "quiet", at_most(2.0)))


def _removed(producer: Program) -> float:
    """Collections that were removed whole."""
    text = requests.get(f"{producer.url}/metrics", timeout=20).text
    return samples(text).get("raingauge_removed_rows_total{table=collections}", 0.0)
