"""A database that is away, errors nobody foresaw, and what health, readiness and metrics say of it all."""

import asyncio
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, TypeVar

import httpx2
import pytest
from sqlalchemy import Connection

from producer.collections import DEADLINE_S, Collections
from raingauge.blocking import RunBlocking, Threads, inline
from raingauge.clock import SystemClock
from raingauge.database import Database, open_database
from raingauge.database.transactions import Transactions
from raingauge.errors import DatabaseUnavailable
from raingauge.observability.health import READY_KEPT_S
from tests.api_support import Front, assert_problem, client, scrape

T = TypeVar("T")
AWAY: Final = "the database cannot be used now: {}; nothing is half-done, try again"


class BrokenDatabase(Database):
    """A database that raises whatever it is asked."""

    def __init__(self, like: Database, error: Exception) -> None:
        super().__init__(like.engine)
        self._error = error

    def read(self, work: Callable[[Connection], T]) -> T:
        raise self._error

    def write(self, work: Callable[[Connection], T]) -> T:
        raise self._error


class HangingDatabase(Database):
    """A database that answers nothing until it is let go; then it works."""

    def __init__(self, like: Database) -> None:
        super().__init__(like.engine)
        self.let_go = threading.Event()

    def read(self, work: Callable[[Connection], T]) -> T:
        self.let_go.wait()
        return super().read(work)

    def write(self, work: Callable[[Connection], T]) -> T:
        self.let_go.wait()
        return super().write(work)


@contextmanager
def hanging(like: Database) -> Iterator[HangingDatabase]:
    """A database that answers nothing until it is let go, at the latest when the block ends."""
    database = HangingDatabase(like)
    try:
        yield database
    finally:
        database.let_go.set()


def client_on(front: Front, database: Database, run: RunBlocking, deadline_s: float = DEADLINE_S) -> httpx2.AsyncClient:
    """The same front on another database."""
    transactions = Transactions(database, run, SystemClock())
    use_cases = Collections(transactions, front.settings.terms, front.account, deadline_s=deadline_s)
    return client(front.settings, use_cases, front.relay)


def failing(front: Front, error: Exception) -> httpx2.AsyncClient:
    """The same front on a database that raises."""
    return client_on(front, BrokenDatabase(front.database, error), inline)


async def _ask_everything(http: httpx2.AsyncClient) -> dict[str, httpx2.Response]:
    paths = ("get?id=1", "ready", "quota", "quota/proof")
    posted, *got = await asyncio.gather(
        http.post("/collect", json={"id": 1}), *(http.get(f"/{path}") for path in paths)
    )
    return {"collect": posted} | dict(zip(("get", *paths[1:]), got, strict=True))


async def test_while_the_database_is_away_everything_says_so_and_when_to_try_again_and_the_log_says_why(
    front: Front, caplog: pytest.LogCaptureFixture
) -> None:
    why = "host:3306/name: gone for user@client: SELECT 1"
    answers = await _ask_everything(failing(front, DatabaseUnavailable(why)))
    assert {answer.headers["retry-after"] for answer in answers.values()} == {"2"}
    assert_problem(answers["collect"], 503, AWAY.format("no answer in time"))
    assert_problem(answers["get"], 503, AWAY.format("no answer in time"))
    ready = (answers["ready"].status_code, answers["ready"].json()["status"])
    assert ready == (503, "The database cannot be used now: no answer in time")
    logged = [vars(record)["error"] for record in caplog.records if record.message == "database.unavailable"]
    assert logged == [why] * len(answers)
    await front.assert_nothing_happened()


async def test_a_database_that_hangs_is_reported_in_time_and_forgotten_when_it_is_back(front: Front) -> None:
    clock = SystemClock()
    with hanging(front.database) as away, closing(Threads(1, "test")) as threads:
        http = client_on(front, away, threads)
        begun = clock.monotonic()
        answers = await asyncio.gather(_ask_everything(http), _ask_everything(http))
        took_s = clock.monotonic() - begun
        alive = await http.get("/health")
        away.let_go.set()
        async with asyncio.timeout(READY_KEPT_S + 5):
            while (back := await http.get("/ready")).status_code != 200:
                await clock.sleep(0.05)
    assert [answer.status_code for each in answers for answer in each.values()] == [503] * 10
    assert DEADLINE_S < 0.9
    assert took_s < DEADLINE_S + 1
    assert (alive.status_code, back.status_code) == (200, 200)


async def test_what_timed_out_before_it_began_is_never_done(front: Front) -> None:
    with hanging(front.database) as away, closing(Threads(1, "test")) as threads:
        http = client_on(front, away, threads, deadline_s=0.1)
        _, posted = await asyncio.gather(http.get("/ready"), http.post("/collect", json={"id": 1, "cities": [1]}))
        away.let_go.set()
        await threads(lambda: None)
    assert posted.status_code == 503
    await front.assert_nothing_happened()


async def test_an_unforeseen_error_is_a_problem_that_says_nothing_of_itself(front: Front) -> None:
    http = failing(front, RuntimeError("appid=secret at /srv/raingauge.db"))
    for answer in (await http.post("/collect", json={"id": 1, "cities": [1]}), await http.get("/get?id=1")):
        problem = assert_problem(answer, 500, "an unexpected error; it is in the log")
        assert problem["title"] == "Internal Server Error"
        assert "secret" not in answer.text + str(answer.headers)


async def test_without_its_tables_the_service_is_not_ready_and_says_so(tmp_path: Path) -> None:
    with closing(open_database(f"sqlite:///{tmp_path}/empty.db")) as database:
        answers = await _ask_everything(Front(database, deadline_s=30.0).http)
    why = "it has no tables, or old ones: run `python -m alembic upgrade head`"
    assert_problem(answers["collect"], 503, AWAY.format(why))
    assert_problem(answers["get"], 503, AWAY.format(why))
    assert answers["ready"].json()["status"] == f"The database cannot be used now: {why}"


async def test_without_its_database_the_service_lives_but_is_not_ready() -> None:
    nowhere = "mysql+pymysql://raingauge:very-secret@127.0.0.1:1/raingauge"  # pragma: allowlist secret
    with closing(open_database(nowhere)) as database:
        http = Front(database).http
        assert (await http.get("/health")).json() == {"status": "ok", "details": {"publishing": 0}}
        for answer in (await http.get("/ready"), await http.get("/get?id=1")):
            assert answer.status_code == 503
            assert "127.0.0.1" not in answer.text
            assert "no answer in time" in answer.text


async def test_metrics_answer_in_time_with_what_is_known_while_the_database_hangs(front: Front) -> None:
    with hanging(front.database) as away, closing(Threads(1, "test")) as threads:
        http = client_on(front, away, threads)
        async with asyncio.timeout(DEADLINE_S + 1):
            found = await scrape(http)
        away.let_go.set()
        await threads(lambda: None)
    assert found["raingauge_collections_accepted_total"] == found["raingauge_database_read_timestamp_seconds"] == 0
    assert math.isnan(found["raingauge_consumers_alive"])
    assert "raingauge_gate_closed{reason=key}" not in found
