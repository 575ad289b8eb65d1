"""What holds for every request: who may change anything, a limit on its body, a path prefix, slashes."""

from typing import Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producer.api.problems import ELSEWHERE
from raingauge.web import problem

READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class TrailingSlash:
    """Takes `/get/` for `/get`, without a redirect."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].endswith("/"):
            scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
        await self._app(scope, receive, send)


class RootPath:
    """Serves below a path prefix, whether or not the proxy in front removes it."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            if path == self._prefix or path.startswith(f"{self._prefix}/"):
                path = path.removeprefix(self._prefix) or "/"
            scope = {**scope, "path": self._prefix + path, "root_path": self._prefix}
        await self._app(scope, receive, send)


class SameOrigin:
    """Refuses with 403 what a browser sends for a page of another site, unless it only reads.

    Programs send neither header. The rule is that of Go's `http.CrossOriginProtection`: `Sec-Fetch-Site` where there is
    one (Fetch Metadata), else `Origin` (RFC 6454) against `Host`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in READS and _from_elsewhere(Headers(scope=scope)):
            await problem(403, ELSEWHERE)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _from_elsewhere(headers: Headers) -> bool:
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site not in {"same-origin", "none"}
    return origin is not None and origin.partition("://")[2] != headers.get("host")


class BodyLimit:
    """Refuses bodies over `limit` bytes with 413, whether or not they say how long they are."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        detail = f"the body is longer than {self._limit} bytes"
        headers = {"Connection": "close"}
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and (len(length) > 18 or int(length) > self._limit):
            await problem(413, detail, headers=headers)(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._limit:
                # An HTTPException, because that alone passes unchanged through whoever reads the body.
                raise HTTPException(413, detail, headers)
            return message

        await self._app(scope, counted, send)
