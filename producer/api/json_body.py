"""Reading a request's JSON strictly: whatever could be understood in two ways is refused. Knows no collections."""

import asyncio
import json
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final, NoReturn, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from producer.api.problems import MOST_VIOLATIONS, invalid, refuse_repeated, shown

Body = TypeVar("Body", bound=BaseModel)

EXPECTED: Final = "a JSON object is expected"
QUICK: Final = 50_000
"""Bytes that are read so fast that others do not notice."""


async def read_body(request: Request, shape: type[Body]) -> Body:
    """The request's body in its shape.

    Only `application/json` is taken: a page in a browser cannot send that to another site unasked, and would otherwise
    spend the quota of whoever opens it.

    Raises:
        RequestValidationError: it is something else, not JSON (RFC 8259, UTF-8), or not of this shape.
    """
    body = await request.body()
    if not body:
        raise invalid(f"it is empty; {EXPECTED}", "body")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise invalid(f"its Content-Type is {shown(kind) or 'missing'}; send application/json", "body")
    if len(body) <= QUICK:
        return _understood(body, shape)
    # In a thread of the event loop's own: those of the database may all hang.
    return await asyncio.to_thread(_understood, body, shape)


def _understood(body: bytes, shape: type[Body]) -> Body:
    raw = _parse(body)
    if not isinstance(raw, dict):
        raise invalid(EXPECTED, "body")
    try:
        return shape.model_validate(_few_unknown(raw, shape))
    except ValidationError as error:
        violations = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError([{**e, "loc": ("body", *e["loc"])} for e in violations]) from None


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8-sig"), object_pairs_hook=_once, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise invalid("it is not UTF-8", "body") from None
    except json.JSONDecodeError as error:
        raise invalid(f"it is not JSON: {error}", "body") from None
    except RecursionError:
        raise invalid("it is nested too deeply", "body") from None
    except ValueError:
        # Python reads no integers of more than 4,300 digits.
        raise invalid("it has a number of too many digits", "body") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses a field that is given twice: which one counts differs from parser to parser (RFC 8259, 4)."""
    refuse_repeated((name for name, _ in pairs), "body")
    return dict(pairs)


def _refuse_constant(name: str) -> NoReturn:
    raise invalid(f"it is not JSON: {name} is no value there", "body")


def _few_unknown(raw: Mapping[str, Any], shape: type[BaseModel]) -> dict[str, Any]:
    """The same, with as many unknown fields as are answered at most: a body could have a million of them."""
    known = {name: value for name, value in raw.items() if name in shape.model_fields}
    unknown = ((name, value) for name, value in raw.items() if name not in known)
    return known | dict(islice(unknown, MOST_VIOLATIONS))
