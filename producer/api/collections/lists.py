"""The endpoint of the list of collections: `GET /collections`. It speaks HTTP."""

from typing import Annotated, Any, Final
from urllib.parse import urlencode

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from producer.api.answers import JSON, is_named, link, weak_etag
from producer.api.docs import HEADERS, link_to
from producer.api.parts import CollectionsDep
from producer.api.problems import UNAVAILABLE, Invalid, responses
from producer.api.requests import StrictRoute
from producer.api.schemas import ListedCollection, example_of, field, listed
from producer.collections import ListedStatus
from raingauge.contracts import COLLECTION_ID
from raingauge.web import UNEXPECTED, shown

router = APIRouter(tags=["collections"], route_class=StrictRoute)

MAX_LISTED: Final = 1000


class CollectionList(BaseModel):
    """Collections, newest first."""

    collections: list[ListedCollection] = field("Each as `GET /get` shows it.", [example_of(ListedCollection)])
    next: str | None = field("Where the next page is; null on the last one.", "/collections?limit=100&after=1")


RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"headers": {"ETag": HEADERS["ETag"], "Link": link_to("/collections?limit=100&after=1")}},
    304: {
        "description": "Nothing has changed since the `ETag` that `If-None-Match` names.",
        "headers": {"ETag": HEADERS["ETag"]},
    },
    **responses(s422="after: there is no collection 7", s500=UNEXPECTED, s503=UNAVAILABLE),
}


@router.get(
    "/collections",
    operation_id="collections",
    summary="Collections, newest first",
    response_model=CollectionList,
    response_description="A page of them.",
    responses=RESPONSES,
)
async def list_collections(
    request: Request,
    collections: CollectionsDep,
    status: Annotated[
        ListedStatus,
        Query(description="Only these; `open`: queued, collecting or waiting.", examples=["open"]),
    ] = "all",
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED, description="Collections of a page.", examples=[100])] = 100,
    after: Annotated[str, Query(description="Only collections older than the one with this id.", examples=["1"])] = "",
) -> Response:
    """Lists collections without their readings. `next` and the `Link` header lead to the next page.

    A page costs the same however many collections there are. With `status=queued`, `collecting` or `waiting` a
    page can have fewer than `limit`, or none, and a `next` still.
    """
    page = None
    if not after or COLLECTION_ID.fullmatch(after):
        page = await collections.newest(status, after or None, limit)
    if page is None:
        raise Invalid(f"there is no collection {shown(after)}", "query", "after")
    next_url, headers = None, {"Cache-Control": "no-cache"}
    if page.next_after is not None:
        chosen = {} if status == "all" else {"status": status}
        query = urlencode({**chosen, "limit": limit, "after": page.next_after})
        next_url = f"{request.scope['root_path']}/collections?{query}"
        headers["Link"] = link(next_url)
    body = orjson.dumps({"collections": [listed(view) for view in page.views], "next": next_url})
    headers["ETag"] = weak_etag(body)
    if is_named(headers["ETag"], request):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=JSON)
