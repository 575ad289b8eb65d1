"""Refuses requests that can be understood in two ways: repeated and unknown parameters, and JSON that is not strict."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute

from producer.api.problems import WORDS, invalid
from raingauge.web import shown

EXPECTED: Final = "a JSON object is expected"
QUICK_BYTES: Final = 50_000
"""A body that is parsed so fast that other requests do not notice."""
MAX_FIELDS: Final = 1000
"""Each unknown field makes an error: a body could have a million of them."""


async def refuse_parameters(request: Request) -> None:
    """A dependency of endpoints without a query.

    Raises:
        InvalidRequest: there is a parameter.
    """
    for name in request.query_params:
        raise invalid(WORDS["extra_forbidden"], "query", name)


def refuse_repeated(*lists: str) -> Callable[[Request], Coroutine[Any, Any, None]]:
    """A dependency that refuses a parameter given twice, except those that are `lists`."""

    async def refuse(request: Request) -> None:
        if request.url.query:
            _once((name for name, _ in request.query_params.multi_items() if name not in lists), "query")

    return refuse


class StrictJsonRoute(APIRoute):
    """A route whose body is strict JSON (RFC 8259, UTF-8) under the Content-Type `application/json`.

    A page of another site cannot send that type unasked, and would otherwise spend the quota of whoever opens it.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return handle_strictly


class _StrictRequest(Request):
    """Its `body` and `json` raise InvalidRequest."""

    async def body(self) -> bytes:
        body = await super().body()
        if not body:
            raise invalid(f"it is empty; {EXPECTED}", "body")
        content_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != "application/json":
            raise invalid(f"its Content-Type is {shown(content_type) or 'missing'}; send application/json", "body")
        return body

    async def json(self) -> Any:
        body = await self.body()
        # A thread of the event loop's own: those of the database may all hang.
        return _parse(body) if len(body) <= QUICK_BYTES else await asyncio.to_thread(_parse, body)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body.decode("utf-8-sig"), object_pairs_hook=_object, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise invalid("it is not UTF-8", "body") from None
    except json.JSONDecodeError as error:
        raise invalid(f"it is not JSON: {error}", "body") from None
    except RecursionError:
        raise invalid("it is nested too deeply", "body") from None
    except ValueError:
        # Python reads no integers of more than 4,300 digits.
        raise invalid("it has a number of too many digits", "body") from None
    if not isinstance(value, dict):
        raise invalid(EXPECTED, "body")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Which of two fields of one name counts differs from parser to parser (RFC 8259, section 4)."""
    _once((name for name, _ in pairs), "body")
    if len(pairs) > MAX_FIELDS:
        raise invalid(f"it has more than {MAX_FIELDS} fields", "body")
    return dict(pairs)


def _refuse_constant(name: str) -> NoReturn:
    raise invalid(f"it is not JSON: {name} is no value there", "body")


def _once(names: Iterable[str], place: str) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise invalid("it is given more than once", place, name)
