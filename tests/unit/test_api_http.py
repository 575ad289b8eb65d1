"""What holds for every path: slashes, methods, limits, errors nobody foresaw, and a database that is away."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection
from starlette.types import Message, Receive, Scope, Send

from producer import desk
from producer.api.middleware import Head
from raingauge.blocking import Threads
from raingauge.clock import SystemClock
from raingauge.errors import DatabaseUnavailable
from raingauge.storage.database import Database, open_database
from tests.api_support import JSON, Front, assert_problem, client, observation, settings_for

T = TypeVar("T")
LIMIT: Final = 4096 + 16 * 167
TOO_LONG: Final = f"the body is longer than {LIMIT} bytes"
AWAY: Final = "the database does not answer; nothing is half-done, try again"


@pytest.fixture
def front(sqlite: Database) -> Front:
    return Front(sqlite, settings=settings_for(167))


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


@contextmanager
def failing(front: Front, error: Exception) -> Iterator[httpx.AsyncClient]:
    """The same front on a database that raises."""
    broken = BrokenDatabase(front.database, error)
    yield client(front.settings, desk.Desk(broken, _inline, front.settings.terms, front.account), front.relay)


async def _inline(work: Callable[[], T], /) -> T:
    return work()


def bytes_of(length: int) -> bytes:
    """A request for collection 1 of that length."""
    return b'{"id": 1' + b" " * (length - 9) + b"}"


async def chunks(body: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


PATHS: Final = ("/get?id=1", "/health", "/ready", "/metrics", "/docs", "/openapi.json", "/docs/assets/swagger-ui.css")


async def test_paths_work_with_and_without_the_trailing_slash(front: Front) -> None:
    await front.collect(1)
    for path in PATHS:
        name, question, query = path.partition("?")
        for slashes in ("", "/", "//"):
            assert (await front.http.get(f"{name}{slashes}{question}{query}")).status_code == 200


async def test_a_collection_can_be_posted_with_the_trailing_slash(front: Front) -> None:
    answer = await front.http.post("/collect/", json={"id": 1, "cities": [1]})
    assert (answer.status_code, answer.headers["location"]) == (202, "/get?id=1")


@pytest.mark.parametrize("path", ["/", "//", ""])
async def test_the_front_page_leads_to_the_documentation(front: Front, path: str) -> None:
    answer = await front.http.get(path)
    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_an_unknown_path_is_a_problem_that_names_it(front: Front, method: str) -> None:
    for path in ("/nope", "/collections", "/get/1", "/collect/1", "/docs/nope", "/redoc", "/GET", "/ñ"):
        answer = await front.http.request(method, path)
        assert_problem(answer, 404, f"there is nothing at {path}; /docs shows what there is")


async def test_a_file_of_the_documentation_that_is_not_there_is_not_found(front: Front) -> None:
    for path in ("/docs/assets/nope", "/docs/assets", "/docs/assets/%2e%2e/main.py"):
        answer = await front.http.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


async def test_a_long_path_is_not_repeated_whole(front: Front) -> None:
    answer = await front.http.get("/" + "x" * 5000)
    assert_problem(answer, 404, f"there is nothing at /{'x' * 63}; /docs shows what there is")


async def test_collect_takes_nothing_but_post(front: Front) -> None:
    for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"):
        answer = await front.http.request(method, "/collect", json={"id": 1})
        assert_problem(answer, 405, f"/collect takes POST, not {method}")
        assert answer.headers["allow"] == "POST"
    head = await front.http.head("/collect")
    assert (head.status_code, head.headers["allow"], head.content) == (405, "POST", b"")
    await front.assert_nothing_happened()


@pytest.mark.parametrize("path", ["/get", "/health", "/ready", "/metrics", "/docs", "/"])
async def test_what_can_be_got_takes_get_and_head_only(front: Front, path: str) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        answer = await front.http.request(method, path, params={"id": 1})
        assert_problem(answer, 405, f"{path} takes GET, HEAD, not {method}")
        assert answer.headers["allow"] == "GET, HEAD"


async def test_head_answers_as_get_without_the_body(front: Front) -> None:
    await front.collect(1, cities=[1])
    front.settle("1", [observation(1)])
    for path in ("/get?id=1", "/get?id=2", "/get", "/health", "/metrics", "/docs", "/", "/nope"):
        head, get = await front.http.head(path), await front.http.get(path)
        assert head.content == b""
        assert (head.status_code, dict(head.headers)) == (get.status_code, dict(get.headers))


async def test_not_even_the_server_sees_a_body_in_answer_to_head() -> None:
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["method"] == "GET"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"all", "more_body": True})

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await Head(app)({"type": "http", "method": "HEAD"}, receive, send)
    assert [message.get("body") for message in sent] == [None, b""]


async def test_head_knows_tags_too(front: Front) -> None:
    await front.collect(1)
    tag = (await front.http.head("/get?id=1")).headers["etag"]
    assert (await front.http.head("/get?id=1", headers={"If-None-Match": tag})).status_code == 304


async def test_a_body_at_the_limit_is_taken(front: Front) -> None:
    assert (await front.http.post("/collect", content=bytes_of(LIMIT), headers=JSON)).status_code == 202


@pytest.mark.parametrize("path", ["/collect", "/collect/", "/get"])
async def test_a_body_that_says_it_is_too_long_is_refused_unread(front: Front, path: str) -> None:
    answer = await front.http.post(path, content=bytes_of(LIMIT + 1), headers=JSON)
    assert assert_problem(answer, 413, TOO_LONG)["title"] == "Content Too Large"
    assert answer.headers["connection"] == "close"
    await front.assert_nothing_happened()


async def test_a_length_of_absurdly_many_digits_is_too_long(front: Front) -> None:
    answer = await front.http.post("/collect", content=b"{}", headers=JSON | {"Content-Length": "9" * 5000})
    assert_problem(answer, 413, TOO_LONG)


@pytest.mark.parametrize("size", [1, 1000, LIMIT * 2])
async def test_a_body_in_chunks_is_refused_once_it_is_too_long(front: Front, size: int) -> None:
    answer = await front.http.post("/collect", content=chunks(bytes_of(LIMIT + 1), size), headers=JSON)
    assert "content-length" not in answer.request.headers
    assert_problem(answer, 413, TOO_LONG)
    assert answer.headers["connection"] == "close"
    await front.assert_nothing_happened()


async def test_a_body_that_is_longer_than_it_says_is_refused(front: Front) -> None:
    headers = JSON | {"Content-Length": "10"}
    answer = await front.http.post("/collect", content=chunks(bytes_of(LIMIT + 1)), headers=headers)
    assert_problem(answer, 413, TOO_LONG)


async def test_a_body_in_chunks_within_the_limit_is_taken(front: Front) -> None:
    answer = await front.http.post("/collect", content=chunks(b'{"id": 1, "cities": [1, 2]}', 3), headers=JSON)
    assert (answer.status_code, answer.json()["total"]) == (202, 2)


async def _ask_everything(http: httpx.AsyncClient) -> dict[str, httpx.Response]:
    answers = await asyncio.gather(http.post("/collect", json={"id": 1}), http.get("/get?id=1"), http.get("/ready"))
    return dict(zip(("collect", "get", "ready"), answers, strict=True))


async def test_while_the_database_is_away_everything_says_so_and_when_to_try_again(front: Front) -> None:
    with failing(front, DatabaseUnavailable("(secret) host db.internal")) as http:
        answers = await _ask_everything(http)
    assert {answer.headers["retry-after"] for answer in answers.values()} == {"2"}
    assert_problem(answers["collect"], 503, AWAY)
    assert_problem(answers["get"], 503, AWAY)
    assert answers["ready"].status_code == 503
    await front.assert_nothing_happened()


async def test_a_database_that_hangs_is_reported_in_time_and_forgotten_when_it_is_back(front: Front) -> None:
    clock = SystemClock()
    with hanging(front.database) as away, closing(Threads(1, "test")) as threads:
        http = client(front.settings, desk.Desk(away, threads, front.settings.terms, front.account), front.relay)
        begun = clock.monotonic()
        answers = await asyncio.gather(_ask_everything(http), _ask_everything(http))
        took_s = clock.monotonic() - begun
        alive = await http.get("/health")
        away.let_go.set()
        await threads(lambda: None)
        back = await http.get("/ready")
    assert [answer.status_code for each in answers for answer in each.values()] == [503] * 6
    assert desk.DEADLINE_S < 0.9
    assert took_s < desk.DEADLINE_S + 1
    assert (alive.status_code, back.status_code) == (200, 200)


async def test_what_timed_out_before_it_began_is_never_done(front: Front) -> None:
    with hanging(front.database) as away, closing(Threads(1, "test")) as threads:
        counter = desk.Desk(away, threads, front.settings.terms, front.account, deadline_s=0.1)
        http = client(front.settings, counter, front.relay)
        _, posted = await asyncio.gather(http.get("/ready"), http.post("/collect", json={"id": 1, "cities": [1]}))
        away.let_go.set()
        await threads(lambda: None)
    assert posted.status_code == 503
    await front.assert_nothing_happened()


async def test_an_unforeseen_error_is_a_problem_that_says_nothing_of_itself(front: Front) -> None:
    with failing(front, RuntimeError("appid=secret at /srv/raingauge.db")) as http:
        for answer in (await http.post("/collect", json={"id": 1, "cities": [1]}), await http.get("/get?id=1")):
            problem = assert_problem(answer, 500, "an unexpected error; it is in the log")
            assert problem["title"] == "Internal Server Error"
            assert "secret" not in answer.text + str(answer.headers)


async def test_without_its_tables_the_service_is_not_ready_and_says_so(tmp_path: Path) -> None:
    with closing(open_database(f"sqlite:///{tmp_path}/empty.db")) as database:
        answers = await _ask_everything(Front(database).http)
    assert_problem(answers["collect"], 503, AWAY)
    assert_problem(answers["get"], 503, AWAY)
    assert (answers["ready"].status_code, answers["ready"].headers["retry-after"]) == (503, "2")
    assert answers["ready"].json()["status"].startswith("The database does not answer: it has no tables")


async def test_with_its_database_and_its_tables_it_is_ready(front: Front) -> None:
    answer = await front.http.get("/ready")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


async def test_without_its_database_the_service_lives_but_is_not_ready() -> None:
    nowhere = "mysql+pymysql://raingauge:very-secret@127.0.0.1:1/raingauge"  # pragma: allowlist secret
    with closing(open_database(nowhere)) as database:
        http = Front(database).http
        assert (await http.get("/health")).status_code == 200
        for answer in (await http.get("/ready"), await http.get("/get?id=1")):
            assert answer.status_code == 503
            assert "very-secret" not in answer.text


async def test_health_says_what_the_parts_are_about(front: Front) -> None:
    answer = await front.http.get("/health")
    assert answer.json() == {"status": "ok", "details": {"publishing": 0}}


async def test_metrics_are_prometheus_text_and_count_what_was_accepted(front: Front) -> None:
    def samples(text: str) -> dict[str, Any]:
        families = text_string_to_metric_families(text)
        return {sample.name: sample.value for family in families for sample in family.samples}

    before = samples((await front.http.get("/metrics")).text)
    for id in (1, 2, 2):  # noqa: A001
        await front.collect(id, cities=[1])
    answer = await front.http.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    after = samples(answer.text)
    assert before == {"raingauge_collections_accepted_total": 0.0, "raingauge_relay_pending_batches": 0.0}
    assert after == before | {"raingauge_collections_accepted_total": 2.0}
