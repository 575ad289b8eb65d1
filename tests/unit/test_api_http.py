"""Every path alike: slashes, methods and limits."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Final

import pytest
from starlette.responses import StreamingResponse
from starlette.types import Message

from raingauge.clock import SystemClock
from raingauge.database import Database
from raingauge.settings import HttpSettings, Settings
from raingauge.web import Head
from tests.api_support import JSON, Front, assert_problem, observation, settings_for

LIMIT: Final = 4096 + 16 * 167
TOO_LONG: Final = f"the body is longer than {LIMIT} bytes"


@pytest.fixture
def front(sqlite: Database) -> Front:
    return Front(sqlite, settings=settings_for(167))


def bytes_of(length: int) -> bytes:
    """A request for collection 1 of that length."""
    return b'{"id": 1' + b" " * (length - 9) + b"}"


async def chunks(body: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


PATHS: Final = (
    *("/get?id=1", "/quota", "/quota/proof", "/health", "/ready", "/metrics"),
    *("/docs", "/openapi.json", "/docs/assets/swagger-ui.css"),
)


async def test_paths_work_with_and_without_the_trailing_slash(front: Front) -> None:
    front.open_gate()
    posted = await front.http.post("/collect/", json={"id": 1, "cities": [1]})
    assert (posted.status_code, posted.headers["location"]) == (202, "/get?id=1")
    for path in PATHS:
        name, question, query = path.partition("?")
        for slashes in ("", "/", "//"):
            assert (await front.http.get(f"{name}{slashes}{question}{query}")).status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_an_unknown_path_is_a_problem_that_names_its_beginning(front: Front, method: str) -> None:
    within = ("/collections/1/nope", "/get/1", "/collect/1", "/docs/nope")
    for path in ("/nope", *within, "/redoc", "/GET", "/ñ", "/" + "x" * 5000):
        answer = await front.http.request(method, path)
        assert_problem(answer, 404, f"there is nothing at {path[:64]}; /docs shows what there is")


async def test_a_file_of_the_documentation_that_is_not_there_is_not_found(front: Front) -> None:
    for path in ("/docs/assets/nope", "/docs/assets", "/docs/assets/%2e%2e/main.py"):
        answer = await front.http.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


async def test_collect_takes_nothing_but_post(front: Front) -> None:
    for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"):
        answer = await front.http.request(method, "/collect", json={"id": 1})
        assert_problem(answer, 405, f"/collect takes POST, not {method}")
        assert answer.headers["allow"] == "POST"
    head = await front.http.head("/collect")
    assert (head.status_code, head.headers["allow"], head.content) == (405, "POST", b"")
    await front.assert_nothing_happened()


async def test_what_can_be_got_takes_get_and_head_only(front: Front) -> None:
    for path in ["/get", "/quota", "/quota/proof", "/health", "/ready", "/metrics", "/docs", "/"]:
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            answer = await front.http.request(method, path, params={"id": 1})
            assert_problem(answer, 405, f"{path} takes GET, HEAD, not {method}")
            assert answer.headers["allow"] == "GET, HEAD"


async def test_head_answers_as_get_without_the_body(front: Front) -> None:
    await front.collect(1, cities=[1])
    front.settle("1", [observation(1)])
    for path in ("/get?id=1", "/get?id=2", "/get", "/health", "/docs", "/", "/nope"):
        head, get = await front.http.head(path), await front.http.get(path)
        assert head.content == b""
        assert (head.status_code, dict(head.headers)) == (get.status_code, dict(get.headers))
    tag = (await front.http.head("/get?id=1")).headers["etag"]
    assert (await front.http.head("/get?id=1", headers={"If-None-Match": tag})).status_code == 304


async def test_a_long_body_is_not_made_in_answer_to_head() -> None:
    sent: list[Message] = []
    made = []
    ended = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            made.append(b"part")
            yield made[-1]
            await SystemClock().sleep(0)

    async def receive() -> Message:
        await ended.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            ended.set()  # as a server does

    async with asyncio.timeout(10):
        await Head(StreamingResponse(endless()))({"type": "http", "method": "HEAD"}, receive, send)
    assert [message.get("body") for message in sent] == [None, b""]
    assert len(made) < 10


async def test_a_body_at_the_limit_or_in_chunks_is_taken(front: Front) -> None:
    assert (await front.http.post("/collect", content=bytes_of(LIMIT), headers=JSON)).status_code == 202
    answer = await front.http.post("/collect", content=chunks(b'{"id": 2, "cities": [1, 2]}', 3), headers=JSON)
    assert (answer.status_code, answer.json()["total"]) == (202, 2)


@pytest.mark.parametrize("path", ["/collect", "/collect/", "/get"])
async def test_a_body_that_says_it_is_too_long_is_refused_unread(front: Front, path: str) -> None:
    answer = await front.http.post(path, content=bytes_of(LIMIT + 1), headers=JSON)
    assert assert_problem(answer, 413, TOO_LONG)["title"] == "Content Too Large"
    assert answer.headers["connection"] == "close"
    absurd = await front.http.post(path, content=b"{}", headers=JSON | {"Content-Length": "9" * 5000})
    assert_problem(absurd, 413, TOO_LONG)
    await front.assert_nothing_happened()


@pytest.mark.parametrize("size", [1, 1000, LIMIT * 2])
@pytest.mark.parametrize("told", [{}, {"Content-Length": "10"}], ids=["no length", "too short a length"])
async def test_a_body_in_chunks_is_refused_once_it_is_too_long(front: Front, size: int, told: dict[str, str]) -> None:
    answer = await front.http.post("/collect", content=chunks(bytes_of(LIMIT + 1), size), headers=JSON | told)
    assert answer.request.headers.get("content-length") == told.get("Content-Length")
    assert_problem(answer, 413, TOO_LONG)
    assert answer.headers["connection"] == "close"
    await front.assert_nothing_happened()


ELSEWHERE: Final = "a page of another site sent this"


async def test_a_page_of_another_site_changes_nothing(front: Front) -> None:
    await front.collect(1, cities=[1])
    before = front.rows()
    for headers in [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://other.raingauge"},
        {"Origin": "http://other"},
        {"Origin": "null"},
    ]:
        assert_problem(await front.http.post("/collections/1/cancel", headers=headers), 403, ELSEWHERE)
        assert_problem(await front.http.post("/collect", json={"id": 2}, headers=headers), 403, ELSEWHERE)
        assert (await front.http.get("/get?id=1", headers=headers)).json()["status"] == "waiting"
        assert front.rows() == before


async def test_a_program_and_a_page_of_its_own_may_change_things(front: Front) -> None:
    own = ({"Origin": f"{scheme}://localhost:8000"} for scheme in ("http", "https"))
    behind_a_proxy = {"Sec-Fetch-Site": "same-origin", "Origin": "http://behind.a.proxy"}
    for number, headers in enumerate(({}, {"Sec-Fetch-Site": "none"}, behind_a_proxy, *own)):
        answer = await front.http.post("/collect", json={"id": number}, headers=headers | {"Host": "localhost:8000"})
        assert answer.status_code == 202, headers


@pytest.mark.parametrize("prefix", ["", "/weather"], ids=["removed by the proxy", "passed on"])
async def test_below_a_path_of_a_proxy_all_works_and_all_links_begin_with_it(sqlite: Database, prefix: str) -> None:
    front = Front(sqlite, settings=Settings(http=HttpSettings(root_path="/weather")))
    posted = await front.http.post(f"{prefix}/collect/", json={"id": 1, "cities": [1, 2]})
    assert (posted.status_code, posted.headers["location"]) == (202, "/weather/get?id=1")
    front.settle("1", [observation(1), observation(2)])
    page = await front.http.get(f"{prefix}/get?id=1&limit=1")
    assert page.json()["next"] == "/weather/get?id=1&limit=1&after=1"
    assert page.headers["link"] == '</weather/get?id=1&limit=1&after=1>; rel="next"'
    assert (await front.http.get(f"{prefix}/openapi.json")).json()["servers"] == [{"url": "/weather"}]
    links = re.findall(r"(?:src|href)=\"([^\"]*)\"|url: '([^']*)'", (await front.http.get(f"{prefix}/docs")).text)
    links += re.findall(r"(?:src|href)=\"([^\"]*)\"|\": \"([^\"]*)\"", (await front.http.get(f"{prefix}/")).text)
    assert len(links) == 15
    for path in map("".join, links):
        assert (await front.http.get(prefix + path.removeprefix("/weather"))).status_code == 200
        assert path.startswith("/weather/")
