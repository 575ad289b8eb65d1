"""Errors as `application/problem+json` (RFC 9457). No message ever carries a secret or the internals of an error."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from raingauge.errors import DatabaseUnavailable
from raingauge.storage.collections import OtherRequest

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 2


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
        None, description="For 422: each thing that is wrong.", examples=[[{"where": "id", "what": "Field required"}]]
    )


def problem(status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> JSONResponse:
    """A problem as a response."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}
    return JSONResponse(body, status, headers=headers, media_type=MEDIA_TYPE)


def responses(**details: str) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI entries of problems: keyword `s404` for status 404, the value is its sentence."""
    return {
        int(name.removeprefix("s")): {
            "description": sentence,
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "example": {
                        "type": "about:blank",
                        "title": HTTPStatus(int(name[1:])).phrase,
                        "status": int(name[1:]),
                        "detail": sentence,
                    },
                }
            },
        }
        for name, sentence in details.items()
    }


def install(api: FastAPI) -> None:
    """Have every error of this API answered as a problem."""
    api.add_exception_handler(RequestValidationError, _invalid)  # type: ignore[arg-type]
    api.add_exception_handler(HTTPException, _http)  # type: ignore[arg-type]
    api.add_exception_handler(DatabaseUnavailable, _unavailable)
    api.add_exception_handler(OtherRequest, _conflict)
    api.add_exception_handler(Exception, _unexpected)


async def _invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
    errors = [
        {"where": ".".join(str(part) for part in e["loc"][1:]) or str(e["loc"][0]), "what": e["msg"]}
        for e in error.errors()[:20]
    ]
    detail = "; ".join(f"{e['where']}: {e['what']}" for e in errors[:3])
    return problem(422, detail, errors=errors)


async def _http(_request: Request, error: HTTPException) -> JSONResponse:
    return problem(error.status_code, str(error.detail), headers=error.headers)


async def _unavailable(_request: Request, _error: Exception) -> JSONResponse:
    detail = "the database does not answer; nothing is half-done, try again"
    return problem(503, detail, headers={"Retry-After": str(RETRY_AFTER_S)})


async def _conflict(_request: Request, error: Exception) -> JSONResponse:
    return problem(409, str(error))


async def _unexpected(_request: Request, _error: Exception) -> JSONResponse:
    return problem(500, "an unexpected error; it is in the log")
