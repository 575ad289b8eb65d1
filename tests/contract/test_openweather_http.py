"""OpenWeather's client over real sockets: a scripted server on loopback sends any bytes at any pace."""

import gzip
import http.client
import json
import logging
import queue
import resource
import select
import socket
import ssl
import struct
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from urllib3 import HTTPConnectionPool

from consumer.provider.connections import AddressOrder, Exchange, current_exchange
from consumer.provider.http import MAX_BODY_BYTES
from consumer.provider.openweather import OpenWeather
from consumer.provider.port import Provider, Reason, Refusal, Reply, Weather
from raingauge.clock import SystemClock
from raingauge.errors import NotSent, ProviderUnavailable
from tests.support.certificates import Certificates

KEY = "0123456789abcdef0123456789abcdef"
ODD_KEY = "s3cr3t/with +%&=things"
SHORT_S = 0.2
"""A deadline that a test waits for."""
LONG_S = 20.0
"""A deadline that no test reaches, and how long the server waits before it gives a test up."""
PROMPT_S = 3.0
CITY = {"id": 7, "dt": 1700012345, "main": {"temp": 12.5}}
SINGLE = json.dumps(CITY | {"cod": 200}).encode()
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def answer(body: bytes = SINGLE, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Peer:
    """The server's end of one connection. An OSError ends its script: the client has gone."""

    def __init__(self, sock: socket.socket, server: "Server") -> None:
        self.sock = sock
        self._server = server
        self._read = b""

    def request(self) -> bytes:
        """The head of the next request; what a client sends is counted only when it is whole."""
        while b"\r\n\r\n" not in self._read:
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionError("closed")
            self._read += data
        head, _, self._read = self._read.partition(b"\r\n\r\n")
        self._server.requests.append(head)
        return head

    def say(self, data: bytes) -> None:
        self.sock.sendall(data)

    def drip(self, data: bytes) -> None:
        """One byte every few milliseconds, over and over until the client has gone."""
        while True:
            for i in range(len(data)):
                self.say(data[i : i + 1])
                self._server.stopping.wait(0.01)

    def end(self) -> str:
        """How the client went: "closed" or "reset", and with what it still had to say."""
        left = self._read
        with suppress(ConnectionError):
            while data := self.sock.recv(65536):
                left += data
        # A deadline shuts the connection before it resets it; after an orderly close it stays half open for our part.
        poll = select.poll()
        poll.register(self.sock, 0)
        looks = (bool(poll.poll(50)) for _ in range(20) if not self._server.stopping.is_set())
        how = "reset" if any(looks) else "closed"
        return f"{how} after {left!r}" if left else how


Script = Callable[[Peer], None]


class Server:
    """Runs its script for each connection, in a thread of its own."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.accepted = threading.Event()
        self.stopping = threading.Event()
        self.ends: queue.Queue[str] = queue.Queue()
        self._script = script
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(LONG_S)
            assert not thread.is_alive()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                self.accepted.set()
                thread = threading.Thread(target=self._converse, args=(sock,))
                self._threads.append(thread)
                thread.start()

    def _converse(self, sock: socket.socket) -> None:
        sock.settimeout(LONG_S)
        with ExitStack() as stack, suppress(OSError):
            stack.enter_context(sock)
            peer = Peer(self._tls.wrap_socket(sock, server_side=True) if self._tls else sock, self)
            stack.enter_context(peer.sock)
            with suppress(OSError):
                self._script(peer)
            self.ends.put(peer.end())

    def ended(self) -> str:
        """How the next connection to end has ended."""
        return self.ends.get(timeout=LONG_S)


class SetClock(SystemClock):
    """A clock whose monotonic time the test says."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic

    def monotonic(self) -> float:
        return self._monotonic()


class Lab:
    """Servers, and clients of them."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack

    def serve(self, script: Script, tls: ssl.SSLContext | None = None) -> Server:
        return self.stack.enter_context(Server(script, tls))

    def connect(
        self,
        server: Server | str,
        timeout_s: float = LONG_S,
        key: str = KEY,
        monotonic: Callable[[], float] = lambda: 0.0,
        connections: int = 4,
        ca_file: str | None = None,
    ) -> OpenWeather:
        url = server if isinstance(server, str) else server.url
        return self.stack.enter_context(OpenWeather(url, key, timeout_s, SetClock(monotonic), connections, ca_file))


@pytest.fixture
def lab() -> Iterator[Lab]:
    with ExitStack() as stack:
        yield Lab(stack)


def saying(*answers: bytes) -> Script:
    """Answers the requests of each connection in order, then waits for its end."""

    def script(peer: Peer) -> None:
        for data in answers:
            peer.request()
            peer.say(data)

    return script


def always(peer: Peer) -> None:
    while True:
        peer.request()
        peer.say(answer())


once = saying(answer(SINGLE, "200 OK", "Connection: close"))


def ending_with(data: bytes) -> Script:
    """Answers with these bytes and closes its side."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.say(data)
        peer.sock.shutdown(socket.SHUT_WR)

    return script


cut = ending_with(b"")


def is_reading(reply: Reply) -> bool:
    return isinstance(reply, Weather) and reply.observations[7].temperature == 12.5


def fails(client: OpenWeather, send_by: float = 0.0) -> ProviderUnavailable:
    """The error of a call that must fail, promptly."""
    clock = SystemClock()
    begun = clock.monotonic()
    with pytest.raises(ProviderUnavailable) as raised:
        client.single(7, send_by)
    assert clock.monotonic() - begun < PROMPT_S
    return raised.value


# What is asked


def test_the_requests_are_the_documented_ones(lab: Lab) -> None:
    server = lab.serve(saying(answer(json.dumps({"cnt": 1, "list": [CITY]}).encode()), answer()))
    client: Provider = lab.connect(server.url + "/")
    assert is_reading(client.group([7, 8, 9], 0.0))
    assert is_reading(client.single(7, 0.0))
    group, single = (request.decode().split("\r\n") for request in server.requests)
    assert group[0] == f"GET /data/2.5/group?id=7,8,9&units=metric&appid={KEY} HTTP/1.1"
    assert single[0] == f"GET /data/2.5/weather?id=7&units=metric&appid={KEY} HTTP/1.1"
    assert sorted(group[1:]) == [
        "Accept-Encoding: identity",
        "Accept: application/json",
        f"Host: 127.0.0.1:{server.port}",
        "User-Agent: raingauge",
    ]


def test_a_base_url_may_have_a_path_and_the_key_any_character(lab: Lab) -> None:
    server = lab.serve(always)
    assert is_reading(lab.connect(f"http://localhost:{server.port}/owm", key=ODD_KEY).single(7, 0.0))
    target = "/owm/data/2.5/weather?id=7&units=metric&appid=s3cr3t%2Fwith%20%2B%25%26%3Dthings"
    assert server.requests[0].startswith(f"GET {target} HTTP/1.1\r\n".encode())


@pytest.mark.parametrize(("direct", "warnings"), [("", 1), ("127.0.0.1", 0)])
def test_neither_password_nor_proxy_is_taken_from_the_environment_and_a_proxy_is_warned_of(
    lab: Lab,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    direct: str,
    warnings: int,
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password x\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, direct)
    server = lab.serve(always)
    assert is_reading(lab.connect(server).single(7, 0.0))
    assert [record.message for record in caplog.records].count("provider.proxy_ignored") == warnings
    assert b"Authorization" not in server.requests[0]


def test_cookies_are_not_kept_and_an_answer_that_is_compressed_anyway_is_understood(lab: Lab) -> None:
    packed = answer(gzip.compress(SINGLE), "200 OK", "Content-Encoding: gzip")
    server = lab.serve(saying(answer(SINGLE, "200 OK", "Set-Cookie: a=b; Path=/"), packed))
    client = lab.connect(server)
    assert all(is_reading(client.single(7, 0.0)) for _ in range(2))
    assert b"ookie" not in server.requests[1]


def test_a_refusal_comes_through_the_wire_with_its_retry_after(lab: Lab) -> None:
    moment = datetime.now(UTC) + timedelta(hours=1)  # noqa: TID251
    date = moment.strftime("%a, %d %b %Y %H:%M:%S GMT")
    body = b'{"cod":429, "message": "over"}'
    server = lab.serve(saying(*(answer(body, "429 No", f"retry-after: {after}") for after in ("9", date))))
    client = lab.connect(server)
    assert client.single(7, 0.0) == Refusal(Reason.QUOTA, "over", 9.0)
    reply = client.group([7, 8], 0.0)
    assert isinstance(reply, Refusal)
    assert reply.retry_after_s == pytest.approx(3600, abs=60)


def test_an_unreadable_answer_is_logged_with_its_shape(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    foreign = json.dumps({"list": [{"id": 9, "name": KEY}]}).encode()
    with pytest.raises(ProviderUnavailable):
        lab.connect(lab.serve(saying(answer(foreign)))).group([7, 8], 0.0)
    [line] = [vars(record) for record in caplog.records if record.message == "provider.unreadable"]
    assert line["shape"] == "{list: [1 of {id: int, name: str}]}"
    assert "any of the requested" in line["problem"]


# One write for each call


@pytest.mark.parametrize(
    "data",
    [
        answer(b'{"cod":"500","message":"Internal error: 500000"}', "500 Internal Server Error"),
        answer(b"<html>", "503 Service Unavailable", "Retry-After: 0"),
        answer(b"", "301 Moved", "Location: /data/2.5/weather?id=8"),
        answer(b"", "302 Found", "Location: http://[nonsense"),
        answer(b"", "307 Moved", "Location: /elsewhere"),
        answer(b"slow down", "429 Too Many Requests", "Retry-After: 0"),
    ],
)
def test_neither_errors_nor_redirects_make_a_second_request(lab: Lab, data: bytes) -> None:
    server = lab.serve(saying(data, data))
    with suppress(ProviderUnavailable):
        lab.connect(server).single(7, 0.0)
    assert len(server.requests) == 1


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"])
def test_a_connection_that_the_server_closed_while_idle_is_not_written_to(lab: Lab, said: bytes) -> None:
    closed = threading.Event()

    def script(peer: Peer) -> None:
        saying(answer())(peer)
        if server.connections == 1:
            peer.say(said)
            peer.sock.shutdown(socket.SHUT_WR)
            closed.set()

    server = lab.serve(script)
    client = lab.connect(server)
    assert is_reading(client.single(7, 0.0))
    assert closed.wait(LONG_S)
    assert is_reading(client.single(7, 0.0))
    assert "after" not in server.ended()
    assert (server.connections, len(server.requests)) == (2, 2)


def reset(peer: Peer) -> None:
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.sock.close()


@pytest.mark.parametrize("ends", [lambda peer: peer.sock.close(), reset], ids=["close", "reset"])
def test_a_connection_that_closes_on_the_request_fails_the_call_and_is_not_written_again(
    lab: Lab, ends: Script
) -> None:
    def script(peer: Peer) -> None:
        saying(answer())(peer)
        peer.request()
        ends(peer)

    server = lab.serve(script)
    client = lab.connect(server)
    assert is_reading(client.single(7, 0.0))
    fails(client)
    assert (server.connections, len(server.requests)) == (1, 2)


def test_a_write_into_a_dead_connection_fails_the_call(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    # The server's close arrives between urllib3's look at the connection and the write.
    monkeypatch.setattr("urllib3.connectionpool.is_connection_dropped", lambda conn: False)
    closed = threading.Event()

    def script(peer: Peer) -> None:
        saying(answer())(peer)
        reset(peer)
        closed.set()

    server = lab.serve(script)
    client = lab.connect(server)
    assert is_reading(client.single(7, 0.0))
    assert closed.wait(LONG_S)
    fails(client)
    assert (server.connections, len(server.requests)) == (1, 1)


def test_many_threads_call_at_once_and_each_gets_its_own_answer(lab: Lab) -> None:
    everyone = threading.Barrier(8, timeout=LONG_S)

    def script(peer: Peer) -> None:
        while True:
            city_id = int(peer.request().partition(b"?id=")[2].partition(b"&")[0])
            everyone.wait()
            peer.say(answer(json.dumps({**CITY, "id": city_id}).encode()))

    server = lab.serve(script)
    # More calls than connections are kept: none waits for another, or the barrier would break.
    client = lab.connect(server, connections=3)
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda city_id: client.single(city_id, 0.0), range(1, 41)))
    assert [list(r.observations) for r in replies if isinstance(r, Weather)] == [[i] for i in range(1, 41)]
    assert len(server.requests) == 40


# Not after send_by


def test_send_by_is_checked_when_the_connection_stands_and_nothing_is_written_later(lab: Lab) -> None:
    server = lab.serve(always)
    looks = count()

    def monotonic() -> float:
        before_connecting = next(looks) == 0
        return 0.0 if before_connecting or not server.accepted.wait(LONG_S) else 10.0

    client = lab.connect(server, monotonic=monotonic)
    error = fails(client, send_by=9.0)
    assert "too late" in str(error)
    assert isinstance(error, NotSent)
    assert server.ended() == "reset"
    assert server.requests == []


def test_send_by_holds_for_a_connection_that_stands_already(lab: Lab) -> None:
    server = lab.serve(always)
    now = [0.0]
    client = lab.connect(server, monotonic=lambda: now[0])
    assert is_reading(client.single(7, send_by=0.0))
    now[0] = 1.0
    assert is_reading(client.single(7, send_by=1.0))
    fails(client, send_by=0.999)
    assert len(server.requests) == 2


# Over by the deadline


def silent(peer: Peer) -> None:
    peer.request()
    peer.end()


def dripping(head: bytes, drops: bytes = b" ") -> Script:
    def script(peer: Peer) -> None:
        peer.request()
        peer.say(head)
        peer.drip(drops)

    return script


SLOW: dict[str, Script] = {
    "no answer": silent,
    "a status line that drips": dripping(b"HTTP/1.1 200 ", b"O"),
    "headers that drip": dripping(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
    "a header that drips": dripping(b"HTTP/1.1 200 OK\r\nX-A: ", b"b"),
    "100 Continue for ever": dripping(b"", CONTINUE),
    "a body that drips": dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"),
    "a body without a length": dripping(b"HTTP/1.1 200 OK\r\n\r\n" + SINGLE),
    "a body until the close": dripping(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1000000\r\n\r\n"),
    "chunks that drip": dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "trailers that drip": dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n"),
    "an error that drips": dripping(b"HTTP/1.1 500 No\r\nContent-Length: 1000000\r\n\r\n"),
}


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("script", SLOW.values(), ids=SLOW.keys())
def test_the_deadline_ends_an_answer_that_takes_too_long_and_resets_its_connection(
    lab: Lab, tls: ssl.SSLContext, issued: Certificates, script: Script, secure: bool
) -> None:
    server = lab.serve(script, tls if secure else None)
    fails(lab.connect(server, timeout_s=SHORT_S, ca_file=str(issued.ca)))
    assert secure or server.ended() == "reset"
    assert len(server.requests) == 1


@pytest.fixture
def full_backlog() -> Iterator[tuple[str, int]]:
    """An address that answers no SYN: its queue of connections is full, and nobody accepts any."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the addresses of every host."""

    def resolve(*addresses: tuple[str, int]) -> None:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)

    return resolve


@pytest.mark.parametrize("addresses", [1, 30])
def test_one_deadline_covers_connecting_to_all_addresses_of_the_host(
    full_backlog: tuple[str, int], lab: Lab, resolve: Callable[..., None], addresses: int
) -> None:
    resolve(*[full_backlog] * addresses)
    fails(lab.connect("http://nowhere.test", timeout_s=SHORT_S))


def test_closing_closes_idle_connections_at_once_even_after_an_error(lab: Lab) -> None:
    def script(peer: Peer) -> None:
        (cut if server.connections == 1 else always)(peer)

    server = lab.serve(script)
    client = lab.connect(server)
    error = fails(client)
    client.single(7, 0.0)
    assert server.ended() == "reset"
    client.close()
    assert server.ended() == "closed"
    assert error


@pytest.mark.parametrize(("timeout_s", "send_by"), [(1.0, 0.0), (LONG_S, 1.0)])
def test_an_address_that_swallows_connections_takes_its_share_once(
    full_backlog: tuple[str, int], lab: Lab, resolve: Callable[..., None], timeout_s: float, send_by: float
) -> None:
    server, clock, took = lab.serve(once), SystemClock(), []
    resolve(full_backlog, ("127.0.0.1", server.port))
    client = lab.connect("http://nowhere.test", timeout_s=timeout_s)
    for _ in range(2):
        begun = clock.monotonic()
        assert is_reading(client.single(7, send_by))
        took.append(clock.monotonic() - begun)
    assert server.connections == 2
    assert 0.4 < took[0] < 0.9
    assert took[1] < 0.3


def test_when_the_preferred_address_dies_or_never_answers_the_others_are_tried(
    lab: Lab, resolve: Callable[..., None]
) -> None:
    mute, sound = lab.serve(silent), lab.serve(once)
    with Server(once) as dying:
        resolve(*(("127.0.0.1", server.port) for server in (mute, dying, sound)))
        client = lab.connect("http://nowhere.test", timeout_s=SHORT_S)
        fails(client)
        assert is_reading(client.single(7, 0.0))
    assert is_reading(client.single(7, 0.0))
    assert (mute.connections, dying.connections, sound.connections) == (1, 1, 1)


def test_without_a_file_for_the_socket_nothing_is_sent(lab: Lab) -> None:
    server = lab.serve(always)
    client = lab.connect(server)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        error = fails(client)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert isinstance(error, NotSent)
    assert "Too many open files" in str(error)
    assert server.requests == []


@pytest.mark.parametrize(
    ("found", "message"), [(socket.gaierror(socket.EAI_NONAME, "Name not known"), "not known"), ([], "no address")]
)
def test_a_host_without_an_address_is_unavailable(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, found: socket.gaierror | list[object], message: str
) -> None:
    def look_up(*args: object, **kwargs: object) -> list[object]:
        if isinstance(found, socket.gaierror):
            raise found
        return found

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert message in str(fails(lab.connect("http://nowhere.test")))


def test_without_a_thread_for_the_deadline_nothing_is_sent(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    server = lab.serve(always)
    client = lab.connect(server)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        assert isinstance(fails(client), NotSent)
    assert is_reading(client.single(7, 0.0))
    assert len(server.requests) == 1


def test_close_leaves_neither_a_deadline_nor_a_log_filter_behind(lab: Lab) -> None:
    logger = logging.getLogger("urllib3.connection")
    before = list(logger.filters)
    client = lab.connect(lab.serve(always))
    client.single(7, 0.0)
    assert len(logger.filters) == len(before) + 1
    watching = [thread for thread in threading.enumerate() if thread.name == "http-watchdog"]
    client.close()
    client.close()
    assert logger.filters == before
    for thread in watching:
        thread.join(PROMPT_S)
        assert not thread.is_alive()


@pytest.fixture
def exchange(lab: Lab) -> tuple[Exchange, socket.socket, socket.socket]:
    """An exchange, and both ends of its connection."""
    ours, theirs = map(lab.stack.enter_context, socket.socketpair())
    theirs.settimeout(LONG_S)
    exchange = Exchange("", SystemClock(), float("inf"), AddressOrder())
    exchange.attach(ours)
    return exchange, ours, theirs


OnPair = tuple[Exchange, socket.socket, socket.socket]


def test_a_deadline_that_comes_after_the_answer_spares_the_connection(exchange: OnPair) -> None:
    it, ours, theirs = exchange
    it.complete()
    it.abort()
    it.release()
    assert not it.aborted
    ours.sendall(b"x")
    assert theirs.recv(1) == b"x"


@pytest.mark.parametrize("aborted", [False, True])
def test_a_call_that_fails_shuts_its_connection_whoever_holds_it_and_a_late_answer_does_not_count(
    exchange: OnPair, aborted: bool
) -> None:
    it, ours, theirs = exchange
    if aborted:
        it.abort()
        it.complete()
        for use in (it.start_sending, lambda: it.attach(ours)):
            with pytest.raises(ProviderUnavailable):
                use()
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == struct.pack("ii", 1, 0)
    it.release()
    assert (it.aborted, theirs.recv(1)) == (aborted, b"")


def test_a_connection_is_free_of_its_exchange_before_another_call_can_take_it(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = HTTPConnectionPool._put_conn
    completed = []

    def watched(pool: HTTPConnectionPool, conn: Any) -> None:
        completed.append(current_exchange.get()._completed)
        put(pool, conn)

    monkeypatch.setattr(HTTPConnectionPool, "_put_conn", watched)
    assert is_reading(lab.connect(lab.serve(always)).single(7, 0.0))
    assert completed == [True]


# Broken answers

BROKEN: dict[str, bytes] = {
    "nothing": b"",
    "no HTTP": b"hello\r\n\r\n",
    "half a status line": b"HTTP/1.1 2",
    "no status": b"HTTP/1.1 abc OK\r\n\r\n",
    "another protocol": b"HTTP/9.9 200 OK\r\n\r\n" + SINGLE,
    "a body cut off": answer()[:-5],
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n" + SINGLE,
    "a chunk's length that is none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + SINGLE,
    "a chunk cut off": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{",
    "an endless header": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
    "too many headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    "gzip that is none": answer(SINGLE, "200 OK", "Content-Encoding: gzip"),
    "encodings without end": answer(SINGLE, "200 OK", "Content-Encoding: " + ",".join(["gzip"] * 50)),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_answer_is_unavailable(lab: Lab, data: bytes) -> None:
    server = lab.serve(ending_with(data))
    fails(lab.connect(server))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "data",
    [
        answer(b" " * (MAX_BODY_BYTES + 1)),
        b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (2 * MAX_BODY_BYTES),
        answer(gzip.compress(b" " * (MAX_BODY_BYTES + 1)), "200 OK", "Content-Encoding: gzip"),
    ],
    ids=["declared", "undeclared", "compressed"],
)
def test_a_body_of_more_than_4_mib_is_unavailable(lab: Lab, data: bytes) -> None:
    assert "4194304 bytes" in str(fails(lab.connect(lab.serve(saying(data)))))


HEADS = (b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 404 \r\n", b"HTTP/1.1 101 \r\n", b"HTTP/1.1 204 \r\n")
FIELDS = (b"Content-Length: 3", b"Content-Length: -3", b"Transfer-Encoding: chunked", b"Content-Encoding: deflate",
          b"Transfer-Encoding: chunked, gzip", b"Connection: keep-alive", b"Set-Cookie: \xff\x00=;;=", b"no colon",
          b"\x00: \xff")  # fmt: skip
RESPONSES = st.tuples(
    st.sampled_from(HEADS),
    st.lists(st.sampled_from([field + b"\r\n" for field in FIELDS])).map(b"".join),
    st.sampled_from([b"\r\n", b"\n", b""]),
    st.binary() | st.just(SINGLE) | st.just(b"3\r\nabc\r\n0\r\n\r\n"),
).map(b"".join)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary() | RESPONSES)
def test_no_bytes_raise_anything_but_unavailable(data: bytes) -> None:
    with Server(ending_with(data)) as server, OpenWeather(server.url, KEY, LONG_S, SetClock(lambda: 0.0), 1) as client:
        with suppress(ProviderUnavailable):
            assert isinstance(client.single(7, 0.0), Weather | Refusal)
        assert len(server.requests) == 1


# TLS


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls") / "issued")


@pytest.fixture
def tls(issued: Certificates) -> ssl.SSLContext:
    """Of a server with a certificate for 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*issued.issue_server())
    return context


def test_the_same_goes_over_tls_by_the_named_authorities(lab: Lab, tls: ssl.SSLContext, issued: Certificates) -> None:
    server = lab.serve(always, tls)
    client = lab.connect(server, ca_file=str(issued.ca))
    assert all(is_reading(client.single(7, 0.0)) for _ in range(3))
    fails(client, send_by=-1.0)
    assert (server.connections, len(server.requests)) == (1, 3)
    assert f"appid={KEY}".encode() in server.requests[0]


def test_a_server_without_a_trusted_certificate_gets_no_request(lab: Lab, tls: ssl.SSLContext) -> None:
    server = lab.serve(always, tls)
    assert "certificate" in str(fails(lab.connect(server))).lower()
    assert server.requests == []


@pytest.mark.parametrize("drops", [b"", b"\x16\x03\x03\x3f\xff" + b"\x00" * 60])
def test_the_deadline_ends_a_handshake(lab: Lab, drops: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.sock.recv(65536)
        if drops:
            peer.drip(drops)

    server = lab.serve(script)
    fails(lab.connect(server.url.replace("http:", "https:"), timeout_s=SHORT_S))
    assert server.ended() == "reset"


# The key appears nowhere


def everything(error: BaseException | None) -> str:
    """All that can be printed of an error and of what it hangs on to."""
    texts = []
    while error is not None:
        texts += ["".join(traceback.format_exception(error)), str(error), repr(error), repr(vars(error))]
        texts += [repr(error.args), repr(getattr(error, "__notes__", ""))]
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


def echoing(before: bytes, after: bytes = b"\r\n\r\n") -> Script:
    """Sends back what was asked for, as a proxy's error pages do."""

    def script(peer: Peer) -> None:
        target = peer.request().split()[1]
        peer.say(before + target + after)
        peer.sock.shutdown(socket.SHUT_WR)

    return script


TELLTALES: dict[str, Script] = {
    "no answer": silent,
    "the connection cut": cut,
    "in the status line": echoing(b""),
    "in the status": echoing(b"HTTP/1.1 ", b" OK\r\n\r\n"),
    "in the protocol": echoing(b"HTTP/", b" 200 OK\r\n\r\n"),
    "in a location": echoing(b"HTTP/1.1 302 Found\r\nLocation: http://[", b"\r\nContent-Length: 0\r\n\r\n"),
    "in a header that is none": echoing(b"HTTP/1.1 500 No\r\nX: y\r\n", b"\r\nContent-Length: 0\r\n\r\n"),
    "in lengths": echoing(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: ", b"\r\n\r\n"),
    "in a chunk's length": echoing(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "in an encoding": echoing(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip, ", b"\r\n\r\n"),
    "in a page": echoing(b"HTTP/1.1 502 Bad\r\n\r\nCannot GET "),
    "in a message": echoing(b'HTTP/1.1 500 No\r\n\r\n{"cod":500,"message":"', b'"}'),
}


@pytest.mark.parametrize("key", [KEY, ODD_KEY])
@pytest.mark.parametrize("script", TELLTALES.values(), ids=TELLTALES.keys())
def test_the_key_is_in_no_error_and_no_log(
    lab: Lab,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    script: Script,
    key: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    client = lab.connect(lab.serve(script), timeout_s=SHORT_S, key=key)
    error = fails(client)
    logged = "\n".join(logging.Formatter("%(message)s").format(record) for record in caplog.records)
    assert "urllib3" in {record.name.partition(".")[0] for record in caplog.records}
    everywhere = everything(error) + logged + "".join(capfd.readouterr()) + repr(client) + repr(vars(client))
    for form in (KEY, "s3cr3t"):
        assert form not in everywhere
    assert error.__cause__ is None
    assert error.__context__ is None


def test_a_refusal_that_echoes_the_key_is_redacted(lab: Lab) -> None:
    script = echoing(b'HTTP/1.1 401 No\r\n\r\n{"cod":401,"message":"', b'"}')
    reply = lab.connect(lab.serve(script), key=ODD_KEY).single(7, 0.0)
    assert reply == Refusal(Reason.KEY, "/data/2.5/weather?id=7&units=metric&appid=***")
