"""Several relays and much that is open: no batch is leased twice, and a round reads no more rows than are due."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, insert, text

from raingauge.model import BatchKey
from raingauge.storage import outbox
from raingauge.storage.database import Database
from raingauge.storage.models import Batch, Collection, QueuedCity
from raingauge.storage.outbox import Lease
from tests.contract.storage_support import NOW, accept, at_once, rows
from tests.support.eventually import eventually

UNTIL = NOW + timedelta(seconds=30)


def lease(connection: Connection, holder: str, most: int = 500) -> list[BatchKey]:
    leased = outbox.lease(connection, NOW, Lease(holder, UNTIL), most)
    return [BatchKey(message.collection_id, message.batch) for message in leased.messages]


def test_relays_at_once_never_lease_the_same_batch(database: Database) -> None:
    keys = [key for number in range(5) for key in accept(database, f"c{number}", range(1, 1201), outstanding=60)]

    def lease_all(holder: str) -> list[BatchKey]:
        mine: list[BatchKey] = []
        while some := database.write(lambda connection: lease(connection, holder, most=7)):
            mine += some
        return mine

    leased = at_once([partial(lease_all, f"relay-{number}") for number in range(4)])
    assert sorted(key for mine in leased for key in mine) == sorted(keys)
    assert sorted((r.collection_id, r.batch) for r in rows(database, Batch) if r.leased_by) == sorted(keys)


def rows_read(database: Database, work: Callable[[Connection], Any]) -> int:
    """How much of the tables a transaction reads: steps of SQLite's machine, or rows read by a server."""

    def counted(connection: Connection) -> int:
        if database.dialect == "sqlite":
            steps: list[None] = []
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.set_progress_handler(lambda: steps.append(None), 10)
            work(connection)
            driver.set_progress_handler(None, 0)
            return len(steps)
        before = _rows_read(connection)
        work(connection)
        return _rows_read(connection) - before

    return database.write(counted)


def _rows_read(connection: Connection) -> int:
    if connection.dialect.name == "postgresql":
        counters = text(
            "SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables"
        )
        return int(connection.scalar(counters) or 0)
    handlers = connection.execute(text("SHOW SESSION STATUS LIKE 'Handler_read%'"))
    return sum(int(row[1]) for row in handlers)


def fill(database: Database, first: int, last: int) -> None:
    """Collections that are open: two batches in the queue, the third not released."""
    names = [f"c{number}" for number in range(first, last)]
    collection = {"requested_at": NOW, "max_age_s": 600, "cities_hash": "x", "total": 60, "released": 2}
    queued = {"account": "a", "since": NOW, "newcomer": False, "turn": 1, "attempts": 0}

    def work(connection: Connection) -> None:
        connection.execute(insert(Collection), [collection | {"id": name, "idle_since": NOW} for name in names])
        batch = {"size": 20, "city_ids": "[1]"}
        published = [batch | {"collection_id": name, "batch": n, "published_at": NOW} for name in names for n in (0, 1)]
        connection.execute(insert(Batch), published)
        connection.execute(insert(Batch), [batch | {"collection_id": name, "batch": 2} for name in names])
        cities = [queued | {"collection_id": name, "city_id": n, "batch": 0} for name in names for n in range(5)]
        connection.execute(insert(QueuedCity), cities)

    database.write(work)
    analyze(database)


def analyze(database: Database) -> None:
    """Have the planner's statistics made, which a server does by itself within a minute."""
    word = "ANALYZE TABLE" if database.dialect in {"mysql", "mariadb"} else "ANALYZE"
    for table in ("batches", "collections", "queue"):
        database.write(lambda connection, table=table: connection.execute(text(f"{word} {table}")))  # type: ignore[misc]


@pytest.mark.parametrize("due", [0, 5])
def test_a_round_reads_no_more_rows_when_thousands_of_collections_are_open(database: Database, due: int) -> None:
    read: dict[int, int] = {}
    for number in (100, 4_000):
        fill(database, 100 if number > 100 else 0, number)
        for name in range(due):
            accept(database, f"new-{number}-{name}", range(1, 21))
        leased: list[BatchKey] = []

        def work(connection: Connection, leased: list[BatchKey] = leased) -> None:
            assert outbox.republish_stalled(connection, NOW, NOW) == 0
            leased += lease(connection, "relay")
            outbox.mark_published(connection, NOW, leased, "relay")

        read[number] = rows_read(database, work)
        assert len(leased) == due
    assert read[4_000] < 2 * read[100] + 50


def test_a_check_for_lost_messages_reads_only_what_is_due_for_it(database: Database) -> None:
    fill(database, 0, 2_000)
    later = NOW + timedelta(hours=1)

    def check(connection: Connection) -> None:
        assert outbox.republish_stalled(connection, later, NOW + timedelta(seconds=1)) == 0

    read = [rows_read(database, check) for _ in range(2_000 // outbox.COLLECTIONS_AT_ONCE)]
    analyze(database)
    # InnoDB removes the index's old entries a little later.
    eventually(lambda: rows_read(database, check) < min(read) / 10, 30)
    assert max(read) < 60 * outbox.COLLECTIONS_AT_ONCE
