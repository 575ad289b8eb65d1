"""The endpoints of one collection: `POST /collect`, `GET /get`, `POST /collections/{id}/cancel`. They speak HTTP."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Final
from urllib.parse import urlencode

import orjson
from fastapi import APIRouter, Body, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError
from starlette.exceptions import HTTPException

from producer.api.answers import ID_IS, JSON, UnitsAre, is_named, link, weak_etag
from producer.api.collections.acceptance import CollectBody
from producer.api.docs import CANCEL_RESPONSES, COLLECT_RESPONSES, EXAMPLES, GET_RESPONSES
from producer.api.parts import CollectionsDep, parts_of
from producer.api.requests import StrictRoute
from producer.api.schemas import MORE, AcceptedBody, CollectionBody, CollectionHead, Datum, accepted, estimated, head
from producer.pages import EMPTY_PAGE, Page, PageQuery
from producer.views import View
from raingauge.contracts import COLLECTION_ID, MAX_CITY_ID
from raingauge.web import shown

log = logging.getLogger("raingauge.producer")

router = APIRouter(tags=["collections"], route_class=StrictRoute)

MAX_ROWS: Final = 10_000


def _fields(given: list[str]) -> list[str]:
    """Names, whether they came with commas, one by one, or both."""
    names = [name for text in given for name in text.split(",") if name]
    for name in names:
        if name not in Datum.model_fields:
            what = "there is no field {name}; there are: {names}"
            raise PydanticCustomError("unknown_field", what, {"name": shown(name), "names": ", ".join(MORE)})
    return names


Fields = Annotated[
    list[str],
    AfterValidator(_fields),
    Query(
        description="What else to show, with commas or one by one, as in `fields=country,pressure`.",
        examples=[["country", "pressure"]],
        json_schema_extra={"items": {"type": "string", "enum": [*Datum.model_fields]}},
    ),
]


@router.post(
    "/collect",
    operation_id="collect",
    summary="Collect the weather of cities",
    status_code=202,
    response_model=AcceptedBody,
    response_description="Accepted: every city of it will end as collected or failed.",
    responses=COLLECT_RESPONSES,
)
async def collect(
    request: Request,
    body: Annotated[CollectBody, Body(openapi_examples=EXAMPLES)],
    dry_run: Annotated[
        bool, Query(description="true: answer what it would cost, and accept nothing.", examples=[False])
    ] = False,
) -> Response:
    """Accepts a collection and answers at once, whatever its size; the collecting goes on by itself.

    Sending the same request again collects nothing twice: it answers 200 and the state as it stands. The same id
    with other cities or another `max_age_s` is refused with 409; a request without `max_age_s` matches whatever
    value the collection was created with.

    `dry_run=true` makes the same checks and answers what the collection would cost and when it would be done or, if
    it exists, what it will still cost. Nothing is stored and no city is requested.
    """
    acceptance = parts_of(request).acceptance
    if dry_run:
        return JSONResponse(estimated(await acceptance.estimate(body)).model_dump())
    view, is_new = await acceptance.accept(body)
    location = {"Location": f"{request.scope['root_path']}/get?id={view.state.id}"}
    return Response(accepted(view).model_dump_json(), 202 if is_new else 200, location, media_type=JSON)


@router.get(
    "/get",
    operation_id="get",
    summary="Progress and readings of a collection",
    response_model=CollectionBody,
    response_description="The collection as it stands.",
    responses=GET_RESPONSES,
)
async def get(
    request: Request,
    # Swagger UI fills in `example`, not `examples`.
    collection_id: Annotated[
        str, Query(alias="id", min_length=1, description=ID_IS, examples=["1"], json_schema_extra={"example": "1"})
    ],
    data: Annotated[bool, Query(description="false: leave the rows out.", examples=[False])] = True,
    limit: Annotated[int, Query(ge=1, le=MAX_ROWS, description="Rows of a page.", examples=[1000])] = 1000,
    after: Annotated[
        int, Query(ge=0, le=MAX_CITY_ID, description="Only cities with ids above this.", examples=[3439781])
    ] = 0,
    # A plain default: with a factory of C code pydantic inspects its signature in each request.
    fields: Fields = [],  # noqa: B006
    units: UnitsAre = "metric",
) -> Response:
    """Answers at any time, while the collection is under way too.

    The rows come in pages, in the order of city ids; `next` and the `Link` header lead from one to the next. An
    `If-None-Match` with the last `ETag` is answered 304 without reading rows.
    """
    collections = parts_of(request).collections
    deadline = collections.deadline()
    is_id = COLLECTION_ID.fullmatch(collection_id) is not None
    query: bytes = request.scope["query_string"]
    is_conditional = "if-none-match" in request.headers
    page, view, next_url = EMPTY_PAGE, None, None
    if is_id and (is_conditional or not data):
        view = await collections.view(collection_id, deadline)
        if is_conditional and view is not None and is_named(tag := _etag(view, query), request):
            return Response(status_code=304, headers={"ETag": tag, "Cache-Control": "no-cache"})
    if is_id and data:
        wanted = PageQuery(collection_id, tuple(name for name in MORE if name in fields), after, limit, units)
        view, page = await collections.read(wanted, deadline) or (None, EMPTY_PAGE)
        if page.next_after is not None:
            next_url = request.scope["root_path"] + _path_of(replace(wanted, after=page.next_after))
    if view is None:
        raise HTTPException(404, f"there is no collection {shown(collection_id)}")
    headers = {"ETag": _etag(view, query), "Cache-Control": "no-cache"}
    if next_url is not None:
        headers["Link"] = link(next_url)
    return Response(_body(view, page, next_url), headers=headers, media_type=JSON)


@router.post(
    "/collections/{id}/cancel",
    operation_id="cancel",
    summary="Cancel a collection",
    response_model=CollectionHead,
    response_model_exclude_unset=True,
    response_description="The collection as it stands: cancelled, unless it was done before.",
    responses=CANCEL_RESPONSES,
)
async def cancel(
    collections: CollectionsDep,
    collection_id: Annotated[str, Path(alias="id", description=ID_IS, examples=["1"])],
) -> Mapping[str, Any]:
    """Ends a collection: no further city of it is stored, and none is asked for soon after.

    What is collected stays readable. Calls under way are finished, and their quota is spent. Cancelling what is
    done or cancelled already changes nothing and answers how it stands. No body is needed.
    """
    found = await collections.cancel(collection_id) if COLLECTION_ID.fullmatch(collection_id) else None
    if found is None:
        raise HTTPException(404, f"there is no collection {shown(collection_id)}")
    view, was_open = found
    if was_open:
        counts = {"collected": view.state.collected, "failed": view.state.failed, "total": view.state.total}
        at = view.state.cancelled_at
        log.info("collection.cancelled", extra={"collection_id": collection_id, **counts, "at": at})
    return head(view)


def _path_of(page: PageQuery) -> str:
    """The path and query that ask for a page."""
    parameters = {"id": page.collection_id, "limit": page.limit, "after": page.after}
    fields = {"fields": ",".join(page.more)} if page.more else {}
    units = {"units": page.units} if page.units != "metric" else {}
    return f"/get?{urlencode(parameters | fields | units, safe=',')}"


def _body(view: View, page: Page, next_url: str | None) -> bytes:
    rows = {"data": orjson.Fragment(page.data), "errors": orjson.Fragment(page.errors), "next": next_url}
    return orjson.dumps(head(view) | rows)


def _etag(view: View, query: bytes) -> str:
    """A weak ETag: of what a client sees change, and of the query."""
    state, progress = view.state, view.progress
    counts = (state.id, state.requested_at, state.collected, state.failed, state.last_progress_at)
    parts = (*counts, state.readings_pruned_at, progress.status, progress.reason, query)
    return weak_etag(repr(parts).encode())
