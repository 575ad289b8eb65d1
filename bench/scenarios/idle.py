"""An idle system with much in its database: what producer and consumer spend of a core while nothing can be done."""

import json
import os
from contextlib import closing
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import Any, Final

from sqlalchemy import insert

from bench.databases import on_mariadb
from bench.processes import CLOCK, on_kafka, stub
from bench.report import Figure, Outcome, at_most
from bench.size import Size
from bench.stored import ACCOUNT
from raingauge.contracts import split
from raingauge.database import Database, open_database
from raingauge.model import BATCH_SIZE
from raingauge.settings import Settings
from raingauge.storage.models import Batch, Collection, QueuedCity
from tests.support.processes import Program

CITIES: Final = 50
"""Of each collection in the queue; every other collection has five times as many."""
RELEASED: Final = Settings.model_fields["collect"].default.outstanding_batches
COLLECTIONS_AT_ONCE: Final = 200
NO_QUOTA: Final = {"QUOTA__CITIES_PER_WINDOW": "1", "QUOTA__WINDOW_S": "86400"}
TICKS: Final = os.sysconf("SC_CLK_TCK")


def idle(size: Size) -> Outcome:
    """The share of a core that each program takes."""
    outcome = Outcome("idle")
    collections, seconds = size.of(20_000, 2_000), size.of(60.0, 15.0)
    with on_mariadb() as url, stub() as provider:
        with closing(open_database(url)) as database:
            _fill(database, collections)
        with on_kafka(url, provider.url, 1, **NO_QUOTA) as running:
            never = Event()
            never.wait(10)
            programs = [running.producer, *running.consumers]
            began, before = CLOCK.monotonic(), [_cpu_s(one) for one in programs]
            never.wait(seconds)
            took_s = CLOCK.monotonic() - began
            shares = [100 * (_cpu_s(one) - was) / took_s for one, was in zip(programs, before, strict=True)]
    what = f"{collections:,} open collections, {collections * CITIES:,} queued cities"
    for name, share in zip(("producer", "consumer"), shares, strict=True):
        outcome.add(Figure(f"{name}, {what}", share, "% of a core"))
    outcome.add(Figure("both", sum(shares), "% of a core", bound=at_most(2.0)))
    return outcome


def _cpu_s(running: Program) -> float:
    """The processor time that a program has used."""
    fields = Path(f"/proc/{running.process.pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _fill(database: Database, number: int) -> None:
    now = database.read(database.now)
    for first in range(0, number, COLLECTIONS_AT_ONCE):
        several = [_rows(one, now) for one in range(first, min(first + COLLECTIONS_AT_ONCE, number))]
        for place, table in enumerate((Collection, Batch, QueuedCity)):
            rows = [row for parts in several for row in parts[place]]
            database.write(lambda c, table=table, rows=rows: c.execute(insert(table), rows))  # type: ignore[misc]


def _rows(number: int, now: datetime) -> tuple[list[dict[str, Any]], ...]:
    """A collection under way, its batches, and its cities in the queue."""
    name, first, total = {"collection_id": f"c{number}"}, number * 1000, CITIES * (5 if number % 2 else 1)
    cities = range(first, first + total)
    batches = [name | _batch(n, list(some), now) for n, some in enumerate(split(cities))]
    collection = {"id": f"c{number}", "requested_at": now, "idle_since": now, "max_age_s": 600, "cities_hash": "x"}
    queued = name | {"account": ACCOUNT, "since": now, "newcomer": False, "attempts": 0}
    places = [queued | {"city_id": cities[n], "batch": n // BATCH_SIZE, "turn": number + n} for n in range(CITIES)]
    return [collection | {"total": total, "released": min(RELEASED, len(batches))}], batches, places


def _batch(number: int, cities: list[int], now: datetime) -> dict[str, Any]:
    published_at = now if number < RELEASED else None
    return {"batch": number, "city_ids": json.dumps(cities), "size": len(cities), "published_at": published_at}
