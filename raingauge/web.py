"""What every HTTP service does alike: errors are `application/problem+json` (RFC 9457), and HEAD is answered as GET.

No message ever carries a secret.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MEDIA_TYPE: Final = "application/problem+json"
MAX_SHOWN: Final = 64
METHODS: Final = ("DELETE", "GET", "PATCH", "POST", "PUT")
UNEXPECTED: Final = "an unexpected error; it is in the log"
TITLES: Final = {413: "Content Too Large", 422: "Unprocessable Content"}
"""Where RFC 9110 has another phrase than Python before 3.13."""


def about(status: int, detail: str) -> dict[str, Any]:
    """The body of a problem."""
    title = TITLES.get(status, HTTPStatus(status).phrase)
    return {"type": "about:blank", "title": title, "status": status, "detail": detail}


def problem(status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> JSONResponse:
    """A problem as a response."""
    return JSONResponse(about(status, detail) | more, status, headers=headers, media_type=MEDIA_TYPE)


def shown(text: str) -> str:
    """What a client sent, fit to be answered: not long, and encodable (JSON allows halves of surrogate pairs)."""
    return text[:MAX_SHOWN].encode("utf-8", "backslashreplace").decode()


def install(api: FastAPI, paths: str) -> None:
    """Answer HEAD, and HTTP and unexpected errors as problems. `paths`: a sentence that says which paths there are."""

    async def http(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        detail = str(error.detail)
        if error.status_code == 404 and detail == HTTPStatus(404).phrase:
            detail = f"there is nothing at {shown(request.url.path)}; {paths}"
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_methods(request))
            detail = f"{shown(request.url.path)} takes {headers['Allow']}, not {shown(request.method)}"
        return problem(error.status_code, detail, headers=headers)

    async def unexpected(_request: Request, _error: Exception) -> JSONResponse:
        return problem(500, UNEXPECTED)

    api.add_exception_handler(HTTPException, http)  # type: ignore[arg-type]
    api.add_exception_handler(Exception, unexpected)
    api.add_middleware(Head)


def _methods(request: Request) -> list[str]:
    """The methods that the path takes. Starlette names those of one of its routes."""

    def takes(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    methods = {method for method in METHODS if takes(method)}
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))


class Head:
    """Answers HEAD as GET, without the body (RFC 9110, 9.3.2). What would be a long body ends with its first part."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        has_ended = False

        async def without_body(message: Message) -> None:
            nonlocal has_ended
            if message["type"] != "http.response.body":
                await send(message)
            elif not has_ended:
                has_ended = True  # the server says so by `http.disconnect`, which ends a response that is streamed
                await send({"type": "http.response.body", "body": b""})

        await self._app({**scope, "method": "GET"}, receive, without_body)
