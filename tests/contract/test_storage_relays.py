"""Several relays and large collections: no batch is leased twice, the limit holds, and a round reads few rows."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, text, update

from raingauge.model import BatchKey
from raingauge.storage import outbox
from raingauge.storage.database import Database
from raingauge.storage.models import Batch, Collection
from raingauge.storage.outbox import Lease
from tests.contract.storage_support import NOW, ON_SERVERS, accept, at_once, cancel, rows, settle_batches

UNTIL = NOW + timedelta(seconds=30)


def lease(connection: Connection, holder: str, outstanding: int = 10, most: int = 500) -> list[BatchKey]:
    leased = outbox.lease(connection, NOW, Lease(holder, UNTIL), outstanding, most)
    return [BatchKey(message.collection_id, message.batch) for message in leased.messages]


def test_relays_at_once_never_lease_the_same_batch(database: Database) -> None:
    refs = [ref for number in range(5) for ref in accept(database, f"c{number}", range(1, 1201))]

    def lease_all(holder: str) -> list[BatchKey]:
        mine: list[BatchKey] = []
        while some := database.write(lambda connection: lease(connection, holder, 1000, most=7)):
            mine += some
        return mine

    leased = at_once([partial(lease_all, f"relay-{number}") for number in range(4)])
    assert sorted(ref for mine in leased for ref in mine) == sorted(refs)
    assert sorted((r.collection_id, r.batch) for r in rows(database, Batch) if r.leased_by) == sorted(refs)


@contextmanager
def before_statement(database: Database, number: int, happen: Callable[[], Any]) -> Iterator[list[str]]:
    """Have something happen just before the statement of that number (from 0); tells the first word of each."""
    seen: list[str] = []

    def look(_connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement.split(maxsplit=1)[0])
        if len(seen) == number + 1:
            happen()

    event.listen(database.engine, "before_cursor_execute", look)
    try:
        yield seen
    finally:
        event.remove(database.engine, "before_cursor_execute", look)


@ON_SERVERS
@pytest.mark.parametrize("publishes", [False, True])
def test_the_limit_holds_when_another_relay_comes_between_any_two_statements(
    database: Database, publishes: bool
) -> None:
    def rival(collection_id: str) -> None:
        taken = database.write(lambda connection: lease(connection, "rival"))
        assert {ref.collection_id for ref in taken} == {collection_id}
        if publishes:
            database.write(lambda connection: outbox.mark_published(connection, NOW, taken, "rival"))

    accept(database, "dry", range(1, 601))
    with before_statement(database, -1, lambda: None) as seen:
        database.write(lambda connection: lease(connection, "mine"))
    for number in range(seen.index("UPDATE") + 1):
        refs = accept(database, f"c{number}", range(1, 601))
        with before_statement(database, number, partial(rival, f"c{number}")):
            mine = database.write(lambda connection: lease(connection, "mine"))
        theirs = [row for row in rows(database, Batch) if row.collection_id == f"c{number}" and row.leased_by != "mine"]
        out = [row.batch for row in theirs if row.leased_by or row.published_at]
        assert sorted([*mine, *(BatchKey(f"c{number}", batch) for batch in out)]) == refs[:10]


def test_the_limit_is_known_of_more_collections_than_fit_into_one_statement(database: Database) -> None:
    names = [f"c{number}" for number in range(outbox.COLLECTIONS_AT_ONCE + 5)]
    collection = {"requested_at": NOW, "max_age_s": 600, "cities_hash": "x", "total": 2}
    batch = {"size": 1, "city_ids": "[1]"}
    all_batches = [
        batch | {"collection_id": name, "batch": number, "published_at": None if number else NOW}
        for name in names
        for number in range(2)
    ]

    def work(connection: Connection) -> None:
        connection.execute(insert(Collection), [collection | {"id": name} for name in names])
        connection.execute(insert(Batch), all_batches)

    database.write(work)
    assert database.write(lambda connection: lease(connection, "relay", outstanding=1)) == []
    last = accept(database, "last", range(1, 61))
    settle_batches(database, last[:2])
    assert database.write(lambda connection: lease(connection, "relay", outstanding=1)) == last[2:]


def handled(database: Database, work: Callable[[Connection], Any]) -> int:
    """How much of the tables a transaction looked at: steps of SQLite's machine, or rows read by a server."""

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
        table = "pg_stat_xact_user_tables WHERE relname = 'batches'"
        return int(connection.scalar(text(f"SELECT coalesce(seq_tup_read, 0) + idx_tup_fetch FROM {table}")) or 0)
    counters = connection.execute(text("SHOW SESSION STATUS LIKE 'Handler_read%'"))
    return sum(int(row[1]) for row in counters)


def test_a_round_looks_at_no_more_rows_of_a_large_collection_than_of_a_small_one(database: Database) -> None:
    looked: dict[int, int] = {}
    for cities in (2_000, 200_000):
        refs = accept(database, f"c{cities}", range(1, cities + 1))
        half = len(refs) // 2
        database.write(partial(settle_half, f"c{cities}", half))
        database.write(count_rows)
        marked = partial(outbox.mark_published, now=NOW, keys=refs[half : half + 10], holder="relay")
        looked[cities] = sum(handled(database, work) for work in (lease_of_relay, marked, lease_of_relay))
        assert [row.batch for row in rows(database, Batch) if row.published_at] == list(range(half, half + 10))
        cancel(database, f"c{cities}")
        database.write(outbox.forget_publications)
    assert looked[200_000] < 2 * looked[2_000] + 100


def settle_half(name: str, half: int, connection: Connection) -> None:
    """Have the first half of a collection's batches settled, without the readings."""
    first = (Batch.collection_id == name, Batch.batch < half)
    connection.execute(update(Batch).where(*first).values(settled=Batch.size, settled_at=NOW))
    connection.execute(update(Collection).where(Collection.id == name).values(collected=20 * half))


def count_rows(connection: Connection) -> None:
    """Have the planner's statistics made, which a server does by itself within a minute."""
    statement = "ANALYZE batches" if connection.dialect.name == "postgresql" else "ANALYZE TABLE batches"
    if connection.dialect.name != "sqlite":
        connection.execute(text(statement))


def lease_of_relay(connection: Connection) -> None:
    lease(connection, "relay")
