"""Limits on HTTP connections: headers and bodies have deadlines and sizes, and there are only so many connections."""

import asyncio
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvloop
from fastapi import FastAPI, Request

from raingauge import connections, process
from raingauge.connections import connection_limit, raise_file_limit
from raingauge.process import listening, serving

REQUEST = b"GET /ok HTTP/1.1\r\nHost: here\r\n"
UPLOAD = b"POST /body HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\n"


def an_app() -> FastAPI:
    app = FastAPI()

    @app.get("/ok")
    async def ok() -> str:
        return "ok"

    @app.post("/body")
    async def body(request: Request) -> int:
        return len(await request.body())

    return app


@pytest.fixture
def _short_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADERS_S", 0.1)
    monkeypatch.setattr(connections, "BODY_S", 0.1)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    try:
        yield reader, writer
    finally:
        writer.close()


async def response(reader: asyncio.StreamReader) -> bytes:
    """The status line; the body is read, so that the connection can be used again."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
    )
    await reader.readexactly(length)
    return head.partition(b"\r\n")[0]


@pytest.mark.usefixtures("_short_deadlines")
@pytest.mark.parametrize(
    ("before", "sent"), [(0, b""), (0, b"GET /ok HT"), (0, REQUEST), (0, UPLOAD), (0, UPLOAD + b"1234"), (1, REQUEST)]
)
async def test_a_client_that_does_not_finish_its_request_is_disconnected(before: int, sent: bytes) -> None:
    async with serving(an_app(), "127.0.0.1", 0) as url, connected(url) as (reader, writer):
        for _ in range(before):
            writer.write(REQUEST + b"\r\n")
            assert await response(reader) == b"HTTP/1.1 200 OK"
        writer.write(sent)
        assert b" 200 " not in await asyncio.wait_for(reader.read(), 5)


async def test_endless_headers_are_cut_off() -> None:
    async with serving(an_app(), "127.0.0.1", 0) as url, connected(url) as (reader, writer):
        writer.write(REQUEST)
        with pytest.raises(ConnectionError):  # noqa: PT012
            for _ in range(1000):
                writer.write(b"X-Header: " + b"x" * 10_000 + b"\r\n")
                await writer.drain()
            await reader.read()
            raise AssertionError("ten megabytes of headers were accepted")


@pytest.mark.parametrize("name", ["asyncio", "uvloop"])
def test_a_body_of_megabytes_is_accepted_on_either_event_loop(name: str) -> None:
    async def post() -> bytes:
        async with serving(an_app(), "127.0.0.1", 0) as url, connected(url) as (reader, writer):
            for _ in range(2):
                writer.write(UPLOAD.replace(b"9", b"8000000") + bytes(8_000_000))
                status = await response(reader)
            return status

    factory = uvloop.new_event_loop if name == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(post()) == b"HTTP/1.1 200 OK"


async def test_requests_above_the_limit_of_connections_get_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "connection_limit", lambda: 2)
    async with (
        serving(an_app(), "127.0.0.1", 0) as url,
        connected(url) as (first, one),
        connected(url) as (second, two),
    ):
        two.write(REQUEST + b"\r\n")
        assert await response(second) == b"HTTP/1.1 503 Service Unavailable"
        two.close()
        await two.wait_closed()
        one.write(REQUEST + b"\r\n")
        assert await response(first) == b"HTTP/1.1 200 OK"


def test_the_file_limit_is_raised_and_half_of_it_serves_connections() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
        assert connection_limit() == 256
        raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_event_loop_recognises_connections_as_tcp_and_sends_small_responses_at_once() -> None:
    with listening("127.0.0.1", 0, "http") as listener, socket.create_connection(listener.getsockname()):
        listener.setblocking(True)
        connection, _ = listener.accept()
        with connection:
            assert connection.proto == socket.IPPROTO_TCP
