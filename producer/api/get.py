"""`GET /get`: how far a collection is, and its readings."""

import hashlib
from typing import Annotated, ClassVar, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError
from starlette.exceptions import HTTPException

from producer.api.get_body import MORE, ROW, CollectionBody, Datum, head, rows
from producer.api.problems import UNAVAILABLE, UNEXPECTED, refuse_repeated, responses, shown
from producer.desk import Desk, Page, View
from raingauge.contracts import COLLECTION_ID, MAX_CITY_ID

MOST_ROWS: Final = 10_000


def _fields(given: list[str]) -> list[str]:
    """Names, whether they came with commas, one by one, or both."""
    names = [name for text in given for name in text.split(",") if name]
    for name in names:
        if name not in Datum.model_fields:
            what = "there is no field {name}; there are: {names}"
            raise PydanticCustomError("unknown_field", what, {"name": shown(name), "names": ", ".join(MORE)})
    return names


class Question(BaseModel):
    """What a client wants to see."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    id: str = Field(min_length=1, description="The collection's id, for example `1`.", examples=["1"])
    data: bool = Field(True, description="false: leave the rows out.", examples=[False])
    limit: int = Field(1000, ge=1, le=MOST_ROWS, description="Rows of a page.", examples=[1000])
    after: int = Field(0, ge=0, le=MAX_CITY_ID, description="Only cities with ids above this.", examples=[3439781])
    fields: Annotated[list[str], AfterValidator(_fields)] = Field(
        [],
        description=f"What else to show, as `fields=country,pressure`: {', '.join(MORE)}.",
        examples=[["country", "pressure"]],
        json_schema_extra={"items": {"type": "string", "enum": [*Datum.model_fields]}},
    )

    @property
    def extra(self) -> tuple[str, ...]:
        """The columns that `fields` adds, each once."""
        return tuple(name for name in MORE if name in self.fields)

    def page(self) -> Page | None:
        """Which readings to read: one more than are shown, which tells whether there is a next page."""
        return Page((*ROW, *self.extra), self.after, self.limit + 1) if self.data else None


HEADERS: Final = {
    "ETag": {
        "description": "Names what this answer says; send it back in `If-None-Match`.",
        "schema": {"type": "string"},
        "example": 'W/"0f3a9c5d2b7e4a618c9d0e1f"',
    },
    "Link": {
        "description": 'Where the next page is (`rel="next"`), as in `next`; left out on the last one.',
        "schema": {"type": "string"},
        "example": '</get?id=1&limit=1000&after=3441481>; rel="next"',
    },
}


def router(desk: Desk) -> APIRouter:
    """The front door."""
    api = APIRouter(tags=["collections"])

    @api.get(
        "/get",
        operation_id="get",
        summary="Progress and readings of a collection",
        response_model=CollectionBody,
        response_description="The collection as it stands.",
        responses={
            200: {"headers": HEADERS},
            304: {
                "description": "Nothing has changed since the `ETag` that `If-None-Match` names.",
                "headers": {"ETag": HEADERS["ETag"]},
            },
            **responses(
                s404="there is no collection 7",
                s422="limit: Input should be less than or equal to 10000",
                s500=UNEXPECTED,
                s503=UNAVAILABLE,
            ),
        },
    )
    async def get(request: Request, question: Annotated[Question, Query()]) -> Response:
        """Answers at any time, while the collection is under way too.

        The rows come in pages, in the order of city ids; `next` and the `Link` header lead from one to the next. An
        `If-None-Match` with the last `ETag` is answered 304 without reading rows.
        """
        refuse_repeated((name for name, _ in request.query_params.multi_items() if name != "fields"), "query")

        def page_of(view: View) -> Page | None:
            return None if _is_named(_etag(view, request), request) else question.page()

        found = await desk.read(question.id, page_of) if COLLECTION_ID.fullmatch(question.id) else None
        if found is None:
            raise HTTPException(404, f"there is no collection {shown(question.id)}")
        view, readings = found
        headers = {"ETag": _etag(view, request), "Cache-Control": "no-cache"}
        if _is_named(headers["ETag"], request):
            return Response(status_code=304, headers=headers)
        body = head(view) | rows(readings[: question.limit], question.extra)
        if len(readings) > question.limit:
            body["next"] = _next(question, readings[question.limit - 1]["city_id"])
            headers["Link"] = f'<{body["next"]}>; rel="next"'
        return JSONResponse(body, headers=headers)

    return api


def _next(question: Question, after: int) -> str:
    fields = {"fields": ",".join(question.extra)} if question.extra else {}
    return f"/get?{urlencode({'id': question.id, 'limit': question.limit, 'after': after} | fields, safe=',')}"


def _etag(view: View, request: Request) -> str:
    """Weak: over what a client sees change, and the question."""
    state, now = view.state, view.progress
    parts = (state.id, state.requested_at, state.collected, state.failed, now.status, now.reason, request.url.query)
    return f'W/"{hashlib.sha256(repr(parts).encode()).hexdigest()[:24]}"'


def _is_named(etag: str, request: Request) -> bool:
    """Whether `If-None-Match` names it, by weak comparison (RFC 9110, 8.8.3.2 and 13.1.2)."""
    named = {tag.strip().removeprefix("W/") for tag in ",".join(request.headers.getlist("if-none-match")).split(",")}
    return etag.removeprefix("W/") in named or "*" in named
