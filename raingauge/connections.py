"""Limits on HTTP connections: their number, and the time and size of what a client sends before it gets a response.

Without them, silent connections use up the process's file descriptors. It must not know what is served.
"""

import asyncio
import resource
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS_S: Final = 10.0
"""From the connection, or from the first byte of a further request, to the end of the headers."""
BODY_S: Final = 60.0
"""For the body of a request."""
HEADER_BYTES: Final = 65_536
"""Of headers that are not complete yet."""


def raise_file_limit() -> None:
    """Raise the soft limit on open files to the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connection_limit() -> int:
    """Connections that are served; further requests get 503. Half of the open files are left for everything else."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, min(soft, 65_536) // 2)


def bounded_protocol() -> type[asyncio.Protocol]:
    """Uvicorn's HTTP protocol with limits. Imported late: it loads httptools, which only one extra includes."""
    from uvicorn.protocols.http.auto import AutoHTTPProtocol  # noqa: PLC0415

    return type("BoundedProtocol", (Bounded, AutoHTTPProtocol), {})


class Bounded(asyncio.Protocol):
    """Gives Uvicorn's HTTP protocols deadlines for headers and bodies; a client that misses one is disconnected."""

    app: ASGIApp
    transport: Any
    connections: Any
    config: Any
    cycle: Any

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._serve = self.app
        self.app = self._serve_one
        self._deadline: asyncio.TimerHandle | None = None
        self._in_request = False
        self._received = 0

    def connection_made(self, transport: Any) -> None:
        """Start the deadline of the first request; above one and a half times the limit, close at once."""
        super().connection_made(transport)
        self._expect_headers()
        if len(self.connections) > 1.5 * self.config.limit_concurrency:
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Count what precedes a request, and start the deadline of a further one."""
        if self._in_request:
            super().data_received(data)
            return
        if self._deadline is None:
            self._expect_headers()
        self._received += len(data)
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._headers_complete()
        elif self._received > HEADER_BYTES:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadline."""
        self._headers_complete()
        super().connection_lost(exc)

    def _expect_headers(self) -> None:
        self._deadline = asyncio.get_running_loop().call_later(HEADERS_S, self.transport.close)

    def _headers_complete(self) -> None:
        self._in_request = True
        self._received = 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    async def _serve_one(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._headers_complete()
        try:
            await self._serve(scope, self._with_deadline(receive), send)
        finally:
            self._in_request = False

    def _with_deadline(self, receive: Receive) -> Receive:
        loop = asyncio.get_running_loop()
        until, complete = loop.time() + BODY_S, False

        async def within() -> Message:
            nonlocal complete
            if complete:  # what follows the body is the disconnection, which may take its time
                return await receive()
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                self.transport.close()
                return {"type": "http.disconnect"}
            complete = not message.get("more_body", False)
            return message

        return within
