"""Summing up a million readings: how long it takes, and whether other requests notice.

`GET /compat/total` and `GET /readings/summary` again and again on MariaDB and on SQLite, one at a time. Beside them
`GET /ping` at a steady pace, on a connection of its own: alone first, then while the sums are made.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event
from typing import Final

import requests

from bench.databases import on_mariadb, on_sqlite
from bench.processes import CLOCK, on_kafka
from bench.report import Figure, Outcome, at_most
from bench.size import Size
from bench.statistics import percentile
from bench.stored import FIRST_CITY, store_readings
from tests.support.processes import Program

PROVIDER: Final = "http://127.0.0.1:9"
"""Nobody calls it."""
PATHS: Final = {
    "total": "/compat/total",
    "summary of humidity": "/readings/summary?field=humidity",
    "summary of a day": "/readings/summary?from=2026-11-10T00:00:00Z&to=2026-11-11T00:00:00Z",
    "summary of a city": f"/readings/summary?city_id={FIRST_CITY}",
}
PING_EVERY_S: Final = 0.02
PINGS: Final = 200
"""In a round."""


def summary(size: Size) -> Outcome:
    """Seconds of a sum, and the p99 of a ping beside it."""
    outcome = Outcome("summary")
    readings, tries, rounds = size.of((1_000_001, 7, 5), (100_001, 3, 3))
    for name, database in (("MariaDB", on_mariadb), ("SQLite", on_sqlite)):
        with ExitStack() as parts:
            url = parts.enter_context(database())
            store_readings(url, readings)
            producer = parts.enter_context(on_kafka(url, PROVIDER, consumers=0)).producer
            _sum_up(outcome, producer, name, readings, tries)
            _ping_beside(outcome, producer, name, rounds)
    return outcome


def seconds(session: requests.Session, url: str) -> float:
    """How long a GET takes."""
    began = CLOCK.monotonic()
    session.get(url, timeout=20).raise_for_status()
    return CLOCK.monotonic() - began


def _sum_up(outcome: Outcome, producer: Program, name: str, number: int, tries: int) -> None:
    if (counted := producer.get("/readings/summary")["count"]) != number:
        raise ValueError(f"{counted:,} of {number:,} readings were counted")
    with requests.Session() as session:
        for what, path in PATHS.items():
            took = [seconds(session, f"{producer.url}{path}") for _ in range(tries)]
            outcome.add(
                Figure(
                    f"{what}, {name}, {number:,} readings", percentile(took, 0.5), "s", 1.0, "the limit", at_most(1.0)
                )
            )


def _ping_beside(outcome: Outcome, producer: Program, where: str, rounds: int) -> None:
    """The p99 of pings alone and beside sums, in turn; of each the median, so that both meet the same machine."""
    alone, beside, sums = [], [], 0
    for _ in range(rounds):
        alone.append(p99_ms(producer))
        stop = Event()
        with ThreadPoolExecutor(1) as other:
            summing = other.submit(_sum_until, stop, producer)
            try:
                beside.append(p99_ms(producer))
            finally:
                stop.set()
            sums += summing.result()
    what = f"{where}: p99 of a ping beside {sums} sums"
    outcome.add(Figure(what, percentile(beside, 0.5), "ms", percentile(alone, 0.5), "alone", at_most(2.0)))


def _sum_until(stop: Event, producer: Program) -> int:
    sums = 0
    with requests.Session() as session:
        while not stop.is_set():
            seconds(session, f"{producer.url}{PATHS['total']}")
            sums += 1
    return sums


def p99_ms(producer: Program, path: str = "/ping") -> float:
    """The p99 of requests at a steady pace."""
    never, took = Event(), []
    with requests.Session() as session:
        for _ in range(PINGS):
            never.wait(PING_EVERY_S)
            took.append(seconds(session, f"{producer.url}{path}"))
    return percentile(took, 0.99) * 1000
