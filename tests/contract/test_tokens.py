"""Tokens in each database: added once, found by digest, revoked for good; and the limit of open cities is exact."""

import asyncio
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Event

import pytest
from sqlalchemy import Connection

from producer.access.open_cities import TooManyOpen
from producer.collections import Collections
from raingauge.access import stored
from raingauge.access.stored import NameTaken, StoredToken
from raingauge.access.tokens import digest
from raingauge.blocking import Threads
from raingauge.clock import SystemClock
from raingauge.database import Database
from raingauge.database.transactions import Transactions
from raingauge.model import CollectionRequest
from raingauge.settings import Settings
from tests.contract.storage_support import ON_SERVERS

NOW = datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(minutes=2)
LIMIT = 50


def test_a_token_is_added_once_found_by_its_digest_and_revoked_for_good(database: Database) -> None:
    def names(*digests: str) -> list[str]:
        return [token.name for token in database.read(lambda c: stored.find(c, digests)).values()]

    assert not database.read(stored.any_exists)
    database.write(lambda c: stored.add(c, NOW, "ci", "a" * 64, "write", LATER))
    with pytest.raises(NameTaken):
        database.write(lambda c: stored.add(c, NOW, "ci", "b" * 64, "read", None))
    database.write(lambda c: stored.add(c, NOW, "CI", "c" * 64, "read", None))
    assert names("a" * 64, "A" * 64, "d" * 64) == ["ci"]
    assert database.write(lambda c: stored.revoke(c, NOW, "nobody")) is None
    before = database.write(lambda c: stored.revoke(c, NOW, "ci"))
    again = database.write(lambda c: stored.revoke(c, LATER, "ci"))
    assert before == StoredToken("ci", "write", NOW, LATER, None, None)
    assert again == StoredToken("ci", "write", NOW, LATER, NOW, None)
    assert database.read(stored.any_exists)


def test_the_database_remembers_that_the_settings_had_tokens(database: Database) -> None:
    for _ in range(2):
        database.write(lambda c: stored.remember_settings(c, NOW))
    assert database.read(stored.any_exists)
    assert database.read(stored.list_all) == []
    assert not database.read(lambda c: stored.any_valid(c, NOW))


def test_a_token_is_valid_until_it_expires_or_is_revoked(database: Database) -> None:
    def valid(at: datetime) -> bool:
        return database.read(lambda c: stored.any_valid(c, at))

    database.write(lambda c: stored.add(c, NOW, "ci", "a" * 64, "write", LATER))
    assert (valid(NOW), valid(LATER)) == (True, False)
    database.write(lambda c: stored.add(c, NOW, "other", "b" * 64, "read", None))
    assert valid(LATER)
    database.write(lambda c: stored.revoke(c, NOW, "other"))
    assert not valid(LATER)


def test_the_last_use_is_stored_at_most_once_a_minute(database: Database) -> None:
    database.write(lambda c: stored.add(c, NOW, "ci", "a" * 64, "write", None))
    soon = NOW + timedelta(seconds=59)
    for moment, expected in ((NOW, NOW), (soon, NOW), (LATER, LATER)):
        database.write(lambda c, at=moment: stored.note_use(c, at, ["ci", "other"]))  # type: ignore[misc]
        assert [token.last_used_at for token in database.read(stored.list_all)] == [expected]


def test_a_row_to_be_locked_is_no_token(database: Database) -> None:
    for _ in range(2):
        database.write(lambda c: stored.lock(c, NOW, ["ci", "other", "ci"]))
    assert not database.read(stored.any_exists)
    assert database.read(stored.list_all) == []
    with pytest.raises(NameTaken):
        database.write(lambda c: stored.add(c, NOW, "ci", "a" * 64, "write", None))


@pytest.mark.parametrize("stands_in", ["settings", "database"])
async def test_posts_at_once_to_two_producers_cannot_pass_the_limit_together(
    database: Database, stands_in: str
) -> None:
    if stands_in == "database":
        database.write(lambda c: stored.add(c, NOW, "ci", "a" * 64, "write", None))
    settings = Settings()

    async def post(producer: Collections, name: str) -> int:
        request = CollectionRequest(name, range(1, 11), 600, named=True, requested_by="ci", max_open_cities=LIMIT)
        with suppress(TooManyOpen):
            await producer.accept(request)
            return 1
        return 0

    async def accepted(names: Sequence[str]) -> int:
        with closing(Threads(4, "one")) as one, closing(Threads(4, "two")) as two:
            producers = [
                Collections(Transactions(database, threads, SystemClock()), settings.terms, "a", deadline_s=20)
                for threads in (one, two)
            ]
            posts = (post(producer, f"{name}-{n}") for name in names for n, producer in enumerate(producers))
            return sum(await asyncio.gather(*posts))

    assert await accepted([f"c{n}" for n in range(8)]) == LIMIT // 10
    assert database.read(lambda c: stored.open_cities(c, ["ci", "other"])) == {"ci": LIMIT}


@ON_SERVERS
async def test_others_do_not_wait_for_the_locks_of_limited_clients_however_many_there_are(database: Database) -> None:
    names = [f"ci-{number}" for number in range(6)]
    for name in names:
        database.write(lambda c, name=name: stored.add(c, NOW, name, digest(name), "write", None))  # type: ignore[misc]
    held, let_go = Event(), Event()

    def hold(connection: Connection) -> None:
        stored.lock(connection, NOW, names)
        held.set()
        let_go.wait(30)

    with closing(Threads(4, "producer")) as threads:
        producer = Collections(Transactions(database, threads, SystemClock()), Settings().terms, "a", deadline_s=5)
        holding = asyncio.create_task(asyncio.to_thread(database.write, hold))
        try:
            await asyncio.to_thread(held.wait, 30)
            limited = CollectionRequest("", (1,), 600, named=True, max_open_cities=LIMIT)
            posts = [replace(limited, id=name, requested_by=name) for name in names]
            waiting = [asyncio.create_task(producer.accept(post)) for post in posts]
            _, is_new = await producer.accept(CollectionRequest("2", (1,), 600, named=True, requested_by="other"))
            assert (is_new, any(task.done() for task in waiting)) == (True, False)
        finally:
            let_go.set()
            await holding
        assert [is_new for _, is_new in await asyncio.gather(*waiting)] == [True] * 6
