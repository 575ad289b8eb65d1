"""A webhook's receiver: a real HTTP server that verifies signatures as a receiver would, and can be killed."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from ssl import SSLContext
from typing import Any, Final, Self

from standardwebhooks import Webhook, WebhookVerificationError

SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # pragma: allowlist secret
OTHER_SECRET: Final = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"  # pragma: allowlist secret

Answer = Callable[[BaseHTTPRequestHandler], None]


def status(code: int, **headers: str) -> Answer:
    """Answers with this status."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


class Receiver:
    """Answers 204 unless `answer` is something else, and 401 to what is not signed with its secret."""

    def __init__(self, port: int = 0, secret: str = SECRET, tls: SSLContext | None = None) -> None:
        self.answer: Answer = status(204)
        self.received: list[Any] = []
        """The verified bodies, in their order."""
        self.requests: list[tuple[str, dict[str, str]]] = []
        """Path and headers of every request."""
        self.released = threading.Event()
        """What a request that hangs waits for."""
        self._under_way = 0
        self.most_under_way = 0
        self._lock = threading.Lock()
        self._verifier = Webhook(secret)
        self._server = _Server(("127.0.0.1", port), _handler(self))
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def url(self, path: str = "/hook", host: str = "127.0.0.1", scheme: str = "http", user: str = "") -> str:
        """Where it listens."""
        return f"{scheme}://{user}{host}:{self.port}{path}"

    @property
    def event_ids(self) -> list[str]:
        """Of what was received."""
        return [body["data"]["event_id"] for body in self.received]

    def hang(self, _request: BaseHTTPRequestHandler) -> None:
        """Answers nothing until it is stopped."""
        self.released.wait(60)

    def stop(self) -> None:
        """Connections to its port are refused from now on."""
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self, request: BaseHTTPRequestHandler) -> None:
        """One request."""
        headers = dict(request.headers.items())
        body = request.rfile.read(int(headers["Content-Length"]))
        with self._lock:
            self.requests.append((request.path, headers))
            self._under_way += 1
            self.most_under_way = max(self.most_under_way, self._under_way)
        try:
            self._answer(request, headers, body)
        finally:
            with self._lock:
                self._under_way -= 1

    def _answer(self, request: BaseHTTPRequestHandler, headers: dict[str, str], body: bytes) -> None:
        try:
            verified = self._verifier.verify(body, headers)
        except WebhookVerificationError:
            status(401)(request)
        else:
            self.received.append(verified)
            self.answer(request)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.take(self)

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            """Print nothing."""

    return Handler


def secret_file(folder: Path, secret: str = SECRET) -> str:
    """A file with the secret."""
    file = folder / "webhook-secret"
    file.write_text(f"{secret}\n")
    return str(file)
