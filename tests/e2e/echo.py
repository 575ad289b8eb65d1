"""A provider that fails in every way there is, and puts whatever it was sent into its answers.

The first answer for a city is the failure of that city's id; all later ones are good.
"""

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final
from urllib.parse import parse_qs, unquote, unquote_plus, urlsplit

from raingauge.clock import SystemClock


class Request:
    """What was asked for, and what can be echoed of it."""

    def __init__(self, head: bytes) -> None:
        self.target = head.split(b" ")[1].decode("latin-1")
        query = parse_qs(urlsplit(self.target).query)
        self.city_ids = [int(text) for text in query["id"][0].split(",")]
        self.key = query["appid"][0]
        plain = unquote(self.target)
        texts = [self.target, plain, unquote_plus(self.target), self.key, repr(self.key), json.dumps(self.key)]
        self.echo = " ".join(texts)

    @property
    def raw(self) -> bytes:
        """The echo on one line, in UTF-8."""
        return self.echo.encode()


def answer(status: int, body: bytes, *headers: bytes) -> bytes:
    lines = (b"HTTP/1.1 %d Echo" % status, b"Content-Length: %d" % len(body), *headers, b"Connection: close", b"", body)
    return b"\r\n".join(lines)


def refusal(status: int, *headers: bytes, message: str = "Invalid") -> Callable[[Request], bytes]:
    """In the provider's own JSON."""
    return lambda request: answer(
        status, json.dumps({"cod": status, "message": f"{message} {request.echo}"}).encode(), *headers
    )


def weather(request: Request, name: str = "City", description: str = "clear sky") -> bytes:
    body = {
        "id": request.city_ids[0],
        "name": name,
        "dt": int(SystemClock().now().timestamp()),
        "main": {"temp": 20.5, "humidity": 50},
        "weather": [{"id": 800, "description": description}],
        "sys": {"country": "UY"},
        "cod": 200,
    }
    return answer(200, json.dumps(body).encode())


SILENCE: Final = b"silence"
"""Stands for no answer and no end."""
GOOD: Final = range(101, 121)
THROTTLED: Final = (41, 42)
REFUSED: Final = 51
UNKNOWN: Final = 14
FAILURES: Final[dict[int, Callable[[Request], bytes]]] = {
    2: refusal(500),
    3: lambda r: answer(500, r.raw),
    4: lambda r: answer(502, b"<html><title>502</title>" + r.raw + b"</html>", b"Content-Type: text/html"),
    5: lambda r: answer(200, b'{"id": 5, "name": "' + r.raw),
    6: lambda r: b"HTTX/1.1 " + r.raw + b"\r\n\r\n",
    7: lambda r: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + r.raw + b"\r\n\r\n",
    8: lambda r: answer(200, r.raw, b"Content-Encoding: gzip"),
    9: lambda r: b"HTTP/1.1 200 " + r.raw,
    10: lambda r: b"",
    11: lambda r: SILENCE,
    12: lambda r: answer(302, b"", b"Location: http://127.0.0.1:1/" + r.target.encode()),
    13: refusal(200),
    UNKNOWN: refusal(404, message="city not found"),
    15: lambda r: b"HTTP/1.1 500 no\r\nno header " + r.raw + b"\r\nX: " + r.raw + b"\r\n\r\n",
    16: lambda r: answer(403, r.raw),
    17: lambda r: b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + r.raw,
    18: lambda r: weather(r, name=r.key, description=r.target),
    19: lambda r: b"HTTP/1.1 abc " + r.raw + b"\r\n\r\n",
    20: lambda r: answer(200, b"[" * 100_000 + r.raw),
    21: lambda r: b"HTTP/1.1 200 OK\r\nContent-Length: " + r.raw + b"\r\n\r\n",
    THROTTLED[0]: refusal(429, b"Retry-After: 1"),
    THROTTLED[1]: lambda r: refusal(429, b"Retry-After: " + r.raw)(r),
    REFUSED: refusal(401),
}


class Echo:
    """The server. `seen` are the cities that it has failed for; `keys` what it was sent as keys."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.keys: set[str] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ended = threading.Event()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                if not (chunk := client.recv(65_536)):
                    return
                head += chunk
            reply = self._reply(Request(head))
            if reply == SILENCE:
                self._ended.wait(60)
            elif not reply:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                client.sendall(reply)

    def _reply(self, request: Request) -> bytes:
        self.keys.add(request.key)
        if "/group" in request.target:
            return refusal(401)(request)
        (city_id,) = request.city_ids
        if city_id in self.seen or city_id not in FAILURES:
            return weather(request)
        self.seen.add(city_id)
        return FAILURES[city_id](request)


@contextmanager
def echoing() -> Iterator[Echo]:
    """An echo while the block runs."""
    server = Echo()
    try:
        yield server
    finally:
        server.close()
