"""Errors of the API as problems, and their description for OpenAPI. No message ever carries a secret."""

import logging
from collections.abc import Sequence
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

from producer.access.open_cities import TooManyOpen
from raingauge import web
from raingauge.errors import DatabaseUnavailable
from raingauge.storage.collections import BeingDeleted, OtherRequest
from raingauge.web import MEDIA_TYPE, about, problem, shown

log = logging.getLogger("raingauge.producer")

RETRY_AFTER_S: Final = 2
MAX_VIOLATIONS: Final = 20
UNAVAILABLE: Final = "the database cannot be used now: no answer in time; nothing is half-done, try again"
ELSEWHERE: Final = "a page of another site sent this"

MEANINGS: Final = {
    400: "The id was used before; nothing was changed.",
    401: "This is no valid token; nothing was changed.",
    403: "A page of another site sent it; nothing was changed.",
    404: "There is no such collection.",
    409: "The id belongs to another request; nothing was changed.",
    410: "The readings were deleted because of their age.",
    413: "The body is too long; nothing was changed.",
    422: "The request is not as described here: `errors` says what is wrong with it; nothing was changed.",
    500: "Something unexpected went wrong; the service's log says what.",
    501: "This format needs a package that is not installed here.",
    503: "The database cannot be used now; nothing is half-done. Try again after `Retry-After` seconds.",
}
RETRY_AFTER: Final = {
    "description": "Seconds to wait before the next try.",
    "schema": {"type": "integer"},
    "example": RETRY_AFTER_S,
}

WORDS: Final = {
    "missing": "it is missing",
    "extra_forbidden": "it is not known here",
    "too_short": "at least one is needed",
    "string_too_short": "it is empty",
    "string_unicode": "it has text that is not Unicode",
}
"""Clearer words for some of pydantic's messages."""


class Violation(BaseModel):
    """One thing that is wrong with a request."""

    where: str = Field(description="The field or parameter, for example `cities.3`.", examples=["cities.3"])
    what: str = Field(description="What is wrong with it.", examples=["Input should be greater than or equal to 1"])


class Problem(BaseModel):
    """Why a request could not be answered (RFC 9457)."""

    model_config = ConfigDict(json_schema_extra={"required": ["type", "title", "status", "detail"]})

    type: str = Field("about:blank", description="The kind of problem.", examples=["about:blank"])
    title: str = Field(description="The HTTP status in words.", examples=["Not Found"])
    status: int = Field(description="The HTTP status.", examples=[404])
    detail: str = Field(description="What happened.", examples=["there is no collection 7"])
    errors: list[Violation] | None = Field(
        None, description="For 422: each thing that is wrong.", examples=[[{"where": "id", "what": "it is missing"}]]
    )


class Invalid(HTTPException):
    """A request that is wrong at one place, for example `Invalid("it is empty", "body", "cities")`."""

    def __init__(self, what: str, *where: str) -> None:
        super().__init__(422)
        self.error = {"type": "value_error", "loc": where, "msg": what}


def responses(**details: str) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI entries of problems: keyword `s404` for status 404, the value is the detail of its example."""
    return {int(name.removeprefix("s")): _response(int(name.removeprefix("s")), text) for name, text in details.items()}


def _response(status: int, detail: str) -> dict[str, Any]:
    example = about(status, detail)
    if status == 422:
        where, _, what = detail.partition(": ")
        example["errors"] = [{"where": where, "what": what}]
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}}
    described: dict[str, Any] = {"description": MEANINGS[status], "content": content}
    return described | ({"headers": {"Retry-After": RETRY_AFTER}} if status == 503 else {})


def schemas() -> dict[str, Any]:
    """The OpenAPI components that `responses` refers to."""
    _, definitions = models_json_schema([(Problem, "serialization")], ref_template="#/components/schemas/{model}")
    shapes: dict[str, Any] = definitions["$defs"]
    return shapes


def install(api: FastAPI) -> None:
    """Answer every error of this API as a problem."""
    web.install(api, "/docs shows what there is")
    api.add_exception_handler(RequestValidationError, _not_valid)  # type: ignore[arg-type]
    api.add_exception_handler(Invalid, _invalid)  # type: ignore[arg-type]
    api.add_exception_handler(DatabaseUnavailable, _unavailable)  # type: ignore[arg-type]
    api.add_exception_handler(OtherRequest, _conflict)
    api.add_exception_handler(TooManyOpen, _too_many_open)  # type: ignore[arg-type]


async def _not_valid(_request: Request, error: RequestValidationError) -> JSONResponse:
    return _violations(error.errors())


async def _invalid(_request: Request, error: Invalid) -> JSONResponse:
    return _violations([error.error])


def _violations(found: Sequence[Any]) -> JSONResponse:
    errors = [
        {
            "where": ".".join(shown(str(part)) for part in e["loc"][1:]) or e["loc"][0],
            "what": WORDS.get(e["type"], e["msg"]),
        }
        for e in found[:MAX_VIOLATIONS]
    ]
    detail = "; ".join(f"{e['where']}: {e['what']}" for e in errors[:3])
    return problem(422, detail, errors=errors)


async def _unavailable(_request: Request, error: DatabaseUnavailable) -> JSONResponse:
    log.warning("database.unavailable", extra={"error": str(error)})
    detail = f"the database cannot be used now: {error.shown}; nothing is half-done, try again"
    return problem(503, detail, headers={"Retry-After": str(RETRY_AFTER_S)})


async def _conflict(_request: Request, error: Exception) -> JSONResponse:
    passes = isinstance(error, BeingDeleted)
    return problem(409, str(error), headers={"Retry-After": str(RETRY_AFTER_S)} if passes else None)


async def _too_many_open(_request: Request, error: TooManyOpen) -> JSONResponse:
    if error.retry_after_s is None:
        return problem(422, str(error), errors=[{"where": "cities", "what": str(error)}])
    return problem(429, str(error), headers={"Retry-After": str(error.retry_after_s)})
