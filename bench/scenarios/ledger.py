"""What the ledger takes by itself: pairs of a reservation and its settling, by many workers at once, on MariaDB.

The workers are processes, as consumers are; the queue is full of cities before they begin. The window is short: it
holds some 1,500 charges at 600 pairs a second, as many as 30,000 cities a minute ever hold. Then one worker alone, with
more and more cities behind those that it takes: a reservation must not depend on what is queued.
"""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from multiprocessing import get_context
from threading import Barrier
from typing import Final

from sqlalchemy import Connection

from bench.databases import on_mariadb
from bench.processes import CLOCK
from bench.report import Figure, Outcome, at_least, at_most
from bench.size import Size
from bench.statistics import percentile
from bench.stored import ACCOUNT, queue_behind, queue_cities
from consumer.ledger import Ledger, Reservation
from consumer.retry import rest_s
from raingauge.blocking import inline
from raingauge.database import Database, open_database
from raingauge.database.transactions import Transactions
from raingauge.model import Observation
from raingauge.quota.pacing import Terms
from raingauge.storage import quota, settling
from raingauge.storage.settling import Fetched

TERMS: Final = Terms(100_000_000, 2.5, "burst", 10**12, "none", timeout_s=10.0)
WORKERS: Final = (1, 4, 16)
BEHIND: Final = ((0, False), (100_000, False), (300_000, True), (1_000_000, False))
"""Queued cities behind those that one worker takes, and whether a tenth of them rests."""
ALONE: Final = 60
"""Reservations of one worker."""
WARM_UP: Final = 20
PAIRS_A_SECOND: Final = 100.0
RESERVE_MS: Final = 50.0
FLAT: Final = 1.5
CALL: Final = 20


def ledger(size: Size) -> Outcome:
    """Pairs a second, how long a reservation takes, and what it costs beside long queues."""
    outcome = Outcome("ledger")
    _pairs(outcome, size)
    _lengths(outcome, size)
    return outcome


def _pairs(outcome: Outcome, size: Size) -> None:
    seconds = size.of(8.0, 1.5)
    with on_mariadb() as url, closing(open_database(url)) as database:
        for workers in WORKERS:
            first = 10_000_000 * workers
            queue_cities(database, f"for-{workers}", range(first, first + int(1_000 * CALL * seconds)))
            pairs, took_ms = _work(url, workers, seconds)
            name = f"{workers} worker{'s' if workers > 1 else ''}"
            limit = ("the limit", at_least(1.0))
            outcome.add(Figure(f"{name}: reserve and settle", pairs, "pairs/s", PAIRS_A_SECOND, *limit))
            p99 = percentile(took_ms, 0.99)
            bound = at_most(1.0) if workers == max(WORKERS) else None
            outcome.add(Figure(f"{name}: p99 of reserve", p99, "ms", RESERVE_MS, "the limit", bound))


def _lengths(outcome: Outcome, size: Size) -> None:
    """One worker in turn on databases whose queues are of different lengths, so that all meet the same machine."""
    lengths = size.of(BEHIND, BEHIND[:2])
    with ExitStack() as parts:
        databases = [parts.enter_context(_queued(*length)) for length in lengths]
        took_ms: list[list[float]] = [[] for _ in lengths]
        for _ in range(WARM_UP + ALONE):
            for database, took in zip(databases, took_ms, strict=True):
                took.extend(asyncio.run(_reserve_and_settle(database, "alone", 1)))
    medians = [percentile(took[WARM_UP:], 0.5) for took in took_ms]
    for (behind, resting), median in zip(lengths, medians, strict=True):
        what = f"median of reserve, {behind:,} more cities queued{', a tenth resting' if resting else ''}"
        outcome.add(Figure(what, median, "ms", medians[0], "none more", at_most(FLAT)))


@contextmanager
def _queued(behind: int, resting: bool) -> Iterator[Database]:
    """A database with what one worker takes in its queue, and that many cities behind it."""
    with on_mariadb() as url, closing(open_database(url, pool_size=2)) as database:
        queue_behind(database, behind, resting=resting)
        queue_cities(database, "taken", range(1, 1 + CALL * (WARM_UP + ALONE)))
        yield database


def _work(url: str, workers: int, seconds: float) -> tuple[float, list[float]]:
    """Pairs a second over all workers, and the milliseconds of each reservation."""
    spawning = get_context("spawn")
    with spawning.Manager() as shared, ProcessPoolExecutor(workers, mp_context=spawning) as processes:
        ready = shared.Barrier(workers)
        futures = [processes.submit(_worker, url, number, ready, seconds) for number in range(workers)]
        took_ms = [took for future in futures for took in future.result(seconds + 120)]
    return len(took_ms) / seconds, took_ms


def _worker(url: str, number: int, ready: Barrier, seconds: float) -> list[float]:
    """One pair to warm up; then, once all are ready, as many as there is time for."""
    with closing(open_database(url, pool_size=1)) as database:
        asyncio.run(_reserve_and_settle(database, f"worker-{number}", 1))
        ready.wait()
        return asyncio.run(_reserve_and_settle(database, f"worker-{number}", until=CLOCK.monotonic() + seconds))


async def _reserve_and_settle(
    database: Database, consumer: str, times: int | None = None, until: float | None = None
) -> list[float]:
    """Pairs, so many or until that moment; the milliseconds of each reservation."""
    ledger = Ledger(Transactions(database, inline, CLOCK), CLOCK, ACCOUNT, TERMS, "group", consumer)
    await ledger.open()
    took_ms: list[float] = []
    while len(took_ms) != times and (until is None or CLOCK.monotonic() < until):
        began = CLOCK.monotonic()
        reservation = await ledger.reserve(1)
        took_ms.append((CLOCK.monotonic() - began) * 1000)
        if not isinstance(reservation, Reservation) or reservation.charge_id is None:
            raise TypeError(f"an unlimited quota and a full queue, and yet: {reservation}")
        _settle(database, reservation.charge_id, reservation)
    return took_ms


def _settle(database: Database, charge_id: int, reservation: Reservation) -> None:
    """Store weather for all cities, and close the charge, in one transaction."""
    at = reservation.reserved_at
    observations = {
        city_id: Observation(city_id, f"City {city_id}", "UY", -33.0, -56.0, at, 20.0, 50.0)
        for city_id in reservation.city_ids
    }
    fetched = Fetched(charge_id, reservation.city_ids, at, observations)

    def work(connection: Connection) -> None:
        now = database.now(connection)
        settling.settle(connection, now, fetched, rest_s)
        quota.close_charge(connection, charge_id, at, now)

    database.write(work)
