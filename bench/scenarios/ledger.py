"""What the ledger takes by itself: pairs of a reservation and its end, by many workers at once, on MariaDB.

The workers are threads on one pool of connections. The window is as short as to hold some 1,500 charges at 600 pairs a
second: as many as the largest plan, 30,000 cities a minute, ever holds.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import count
from typing import Final

from bench.baselines import NOW, pairs_per_second
from bench.databases import on_mariadb
from bench.processes import CLOCK
from bench.report import Figure, Outcome, at_least, at_most
from bench.size import Size
from bench.statistics import percentile
from consumer.admission import Grant
from consumer.look import Candidate
from consumer.quota import Ledger
from raingauge.pacing import Terms
from raingauge.storage.database import Database, open_database

TERMS: Final = Terms(100_000_000, 2.5, "burst", 10**12, "none", timeout_s=10.0)
WORKERS: Final = (1, 4, 16)
PAIRS_A_SECOND: Final = 400.0
RESERVE_MS: Final = 50.0


def ledger(size: Size) -> Outcome:
    """Pairs a second, and how long a reservation takes."""
    outcome, seconds = Outcome("ledger"), size.of(8.0, 1.5)
    with on_mariadb() as url, closing(open_database(url, pool_size=max(WORKERS) + 1)) as database:
        bare = pairs_per_second(url, size.of(3.0, 1.0))
        for workers in WORKERS:
            pairs, took_ms = _work(database, workers, seconds)
            name = f"{workers} worker{'s' if workers > 1 else ''}"
            limit = ("the limit", at_least(1.0))
            outcome.add(Figure(f"{name}: reserve and close", pairs, "pairs/s", PAIRS_A_SECOND, *limit))
            p99 = percentile(took_ms, 0.99)
            bound = at_most(1.0) if workers == max(WORKERS) else None
            outcome.add(Figure(f"{name}: p99 of reserve", p99, "ms", RESERVE_MS, "the limit", bound))
        outcome.add(Figure("two bare one-row transactions, 1 connection", bare, "pairs/s"))
    return outcome


def _work(database: Database, workers: int, seconds: float) -> tuple[float, list[float]]:
    """Pairs a second over all workers, and the milliseconds of each reservation."""
    until = CLOCK.monotonic() + seconds
    with ThreadPoolExecutor(workers) as threads:
        futures = [threads.submit(_worker, database, number, until) for number in range(workers)]
        took_ms = [took for future in futures for took in future.result(seconds + 60)]
    return len(took_ms) / (CLOCK.monotonic() - until + seconds), took_ms


def _worker(database: Database, number: int, until: float) -> list[float]:
    own = Ledger(database, "bench", TERMS, "group", f"worker-{number}")
    own.open()
    city_ids, took_ms = count(1 + number * 1_000_000), []
    while CLOCK.monotonic() < until:
        candidates = [Candidate(next(city_ids), NOW) for _ in range(20)]
        began = CLOCK.monotonic()
        grant = own.reserve(candidates, together=True)
        took_ms.append((CLOCK.monotonic() - began) * 1000)
        if not isinstance(grant, Grant):
            raise TypeError(f"an unlimited quota refused: {grant}")
        database.write(partial(own.close, grants=[grant]))
    return took_ms
