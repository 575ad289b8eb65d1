"""Checks of every request: its path, its origin, its length, and no parameter or JSON field with two meanings.

It knows no endpoint.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import cache, wraps
from typing import Any, Final, NoReturn, get_origin

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producer.access.rules import READS
from producer.api.problems import ELSEWHERE, WORDS, Invalid
from raingauge.web import problem, shown

TWICE: Final = "it is given more than once"
EXPECTED: Final = "a JSON object is expected"
QUICK_BYTES: Final = 50_000
"""A body that is parsed so fast that other requests do not notice."""
MAX_FIELDS: Final = 1000
"""Each unknown field makes an error: a body could have a million of them."""


class Entrance:
    """Middleware that takes `/get/` for `/get`, serves below a path prefix, and refuses what no endpoint may see.

    The prefix counts whether or not the proxy in front removes it. 403: a browser sends it for a page of another site,
    and it does not only read. 413: its body is over `limit` bytes, whether or not it says how long it is.
    """

    def __init__(self, app: ASGIApp, prefix: str, limit: int) -> None:
        self._app = app
        self._prefix = prefix
        self._limit = limit
        self._too_long = (413, f"the body is longer than {limit} bytes", {"Connection": "close"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].rstrip("/") or "/"
        if path == self._prefix or path.startswith(f"{self._prefix}/"):
            path = path.removeprefix(self._prefix) or "/"
        scope = {**scope, "path": self._prefix + path, "root_path": self._prefix}
        if scope["method"] in READS:  # their bodies are not read
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        if _from_elsewhere(headers):
            await problem(403, ELSEWHERE)(scope, receive, send)
        elif length.isdigit() and (len(length) > 18 or int(length) > self._limit):
            status, detail, closing = self._too_long
            await problem(status, detail, headers=closing)(scope, receive, send)
        else:
            await self._app(scope, self._counted(receive), send)

    def _counted(self, receive: Receive) -> Receive:
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._limit:
                # An HTTPException, because that alone passes unchanged through whoever reads the body.
                raise HTTPException(*self._too_long)
            return message

        return counted


def _from_elsewhere(headers: Headers) -> bool:
    """The rule of Go's `http.CrossOriginProtection`; programs send neither header.

    `Sec-Fetch-Site` where there is one (Fetch Metadata), else `Origin` (RFC 6454) against `Host`.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site not in {"same-origin", "none"}
    return origin is not None and origin.partition("://")[2] != headers.get("host")


class StrictRoute(APIRoute):
    """A route that takes each query parameter of its endpoint once (lists: often) and no other.

    A body must be strict JSON (RFC 8259, UTF-8) under the Content-Type `application/json`: a page of another site
    cannot send that type unasked, and would otherwise spend the quota of whoever opens it.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, behind these checks."""
        handle = super().get_route_handler()

        @wraps(self.endpoint)
        async def nothing(**_: Any) -> None:
            """Checks the same request, and does nothing."""

        @cache
        def checker() -> Callable[[Request], Coroutine[Any, Any, Response]]:
            return APIRoute(self.path, nothing, methods=self.methods, response_model=None).get_route_handler()

        known = {field.alias: get_origin(field.field_info.annotation) is list for field in self.dependant.query_params}

        async def handle_strictly(request: Request) -> Response:
            strict = _StrictRequest(request.scope, request.receive)
            wrong = _wrong_parameters([name for name, _ in strict.query_params.multi_items()], known)
            if not wrong:
                return await handle(strict)
            try:
                await checker()(strict)
            except RequestValidationError as error:
                wrong += error.errors()
            except Invalid as error:
                wrong.append(error.error)
            raise RequestValidationError(wrong)

        return handle_strictly


def _wrong_parameters(names: Sequence[str], known: Mapping[str, bool]) -> list[dict[str, Any]]:
    """What is wrong with them; `known`: whether each parameter may be given more than once."""
    distinct = set(names)
    if len(distinct) == len(names) and distinct <= known.keys():
        return []
    times = Counter(names)
    unknown = [Invalid(WORDS["extra_forbidden"], "query", name).error for name in times if name not in known]
    twice = [Invalid(TWICE, "query", name).error for name in times if times[name] > 1 and not known.get(name, True)]
    return unknown + twice


class _StrictRequest(Request):
    """Its `body` and `json` raise Invalid."""

    async def body(self) -> bytes:
        body = await super().body()
        if not body:
            raise Invalid(f"it is empty; {EXPECTED}", "body")
        content_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != "application/json":
            raise Invalid(f"its Content-Type is {shown(content_type) or 'missing'}; send application/json", "body")
        return body

    async def json(self) -> Any:
        body = await self.body()
        # A thread of the event loop's own: those of the database may all hang.
        return _parse(body) if len(body) <= QUICK_BYTES else await asyncio.to_thread(_parse, body)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body.decode("utf-8-sig"), object_pairs_hook=_object, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise Invalid("it is not UTF-8", "body") from None
    except json.JSONDecodeError as error:
        raise Invalid(f"it is not JSON: {error}", "body") from None
    except RecursionError:
        raise Invalid("it is nested too deeply", "body") from None
    except ValueError:
        # Python reads no integers of more than 4,300 digits.
        raise Invalid("it has a number of too many digits", "body") from None
    if not isinstance(value, dict):
        raise Invalid(EXPECTED, "body")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Which of two fields of one name counts differs from parser to parser (RFC 8259, section 4)."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise Invalid(TWICE, "body", name)
    if len(fields) > MAX_FIELDS:
        raise Invalid(f"it has more than {MAX_FIELDS} fields", "body")
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise Invalid(f"it is not JSON: {name} is not a JSON value", "body")
