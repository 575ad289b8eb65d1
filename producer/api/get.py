"""`GET /get`: how far a collection is, and its readings."""

import hashlib
from collections.abc import AsyncIterator
from typing import Annotated, ClassVar, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError
from starlette.exceptions import HTTPException

from producer.api.described import described
from producer.api.get_body import MORE, ROW, CollectionBody, Datum, head_text, tail_text
from producer.api.problems import UNAVAILABLE, UNEXPECTED, responses, shown
from producer.desk import Desk
from producer.outlook import View
from producer.paging import Page, read_page
from raingauge.contracts import COLLECTION_ID, MAX_CITY_ID
from raingauge.storage.pages import Part

MOST_ROWS: Final = 10_000
JSON: Final = "application/json"


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

    def part(self) -> Part:
        """Which readings to read."""
        fields = (*ROW.items(), *((name, name) for name in self.extra))
        return Part(self.id, fields, self.after, MAX_CITY_ID, self.limit)


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
    api = APIRouter(tags=["collections"], route_class=described(Question))

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
        until = desk.until()
        conditional = "if-none-match" in request.headers
        view, page = None, None
        if COLLECTION_ID.fullmatch(question.id) and (conditional or not question.data):
            view = await desk.view(question.id, until)
        if view is not None and conditional and _is_named(tag := _etag(view, request), request):
            return Response(status_code=304, headers=_headers(tag))
        if COLLECTION_ID.fullmatch(question.id) and question.data:
            found = await read_page(desk, question.part(), until)
            view, page = found or (None, None)
        if view is None:
            raise HTTPException(404, f"there is no collection {shown(question.id)}")
        headers = _headers(_etag(view, request))
        if page is None:
            return _whole(view, b"", tail_text([], None), headers)
        following = _next(question, page.next_after) if page.next_after is not None else None
        if following is not None:
            headers["Link"] = f'<{following}>; rel="next"'
        if page.is_whole:
            return _whole(view, page.first.data, tail_text([page.first.errors], following), headers)
        return StreamingResponse(_in_parts(view, page, following), headers=headers, media_type=JSON)

    return api


def _headers(tag: str) -> dict[str, str]:
    return {"ETag": tag, "Cache-Control": "no-cache"}


def _whole(view: View, data: bytes, tail: bytes, headers: dict[str, str]) -> Response:
    return Response(b'%b,"data":[%b%b' % (head_text(view), data, tail), headers=headers, media_type=JSON)


async def _in_parts(view: View, page: Page, following: str | None) -> AsyncIterator[bytes]:
    """A long page as it is read: what failed is kept for the end, it stands behind what was collected."""
    yield head_text(view) + b',"data":['
    errors: list[bytes] = []
    some = False
    async for written in page.parts():
        if written.errors:
            errors.append(written.errors)
        if written.data:
            yield b"," + written.data if some else written.data
            some = True
    yield tail_text(errors, following)


def _next(question: Question, after: int) -> str:
    fields = {"fields": ",".join(question.extra)} if question.extra else {}
    return f"/get?{urlencode({'id': question.id, 'limit': question.limit, 'after': after} | fields, safe=',')}"


def _etag(view: View, request: Request) -> str:
    """Weak: over what a client sees change, and the question."""
    query: bytes = request.scope["query_string"]
    if query not in view.written:
        state, now = view.state, view.progress
        parts = (state.id, state.requested_at, state.collected, state.failed, now.status, now.reason, query)
        view.written[query] = b'W/"%b"' % hashlib.sha256(repr(parts).encode()).hexdigest()[:24].encode()
    return view.written[query].decode()


def _is_named(etag: str, request: Request) -> bool:
    """Whether `If-None-Match` names it, by weak comparison (RFC 9110, 8.8.3.2 and 13.1.2)."""
    named = {tag.strip().removeprefix("W/") for tag in ",".join(request.headers.getlist("if-none-match")).split(",")}
    return etag.removeprefix("W/") in named or "*" in named
