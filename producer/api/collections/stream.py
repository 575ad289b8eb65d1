"""`GET /collections/stream`: collections and quota as they change, as server-sent events."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from typing import Any, Final

import orjson
from fastapi import APIRouter
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sqlalchemy import Connection

from producer.api.parts import AdmissionDep, LiveDep
from producer.api.problems import WORDS, responses
from producer.api.requests import StrictRoute
from producer.api.schemas import listed, quota_body
from producer.collections import Collections
from producer.live import Change, Overview
from producer.quota import QuotaReports
from raingauge.contracts import utc_text
from raingauge.storage import retention
from raingauge.web import UNEXPECTED, about

router = APIRouter(tags=["collections"], route_class=StrictRoute)

DELETED_FOR: Final = timedelta(seconds=15)
"""How far back to look: a deletion may be committed ten seconds after its time."""
MAX_DELETED: Final = 1_000
"""More than are deleted within that time."""
EXAMPLE: Final = 'event: quota\ndata: {"held":40,"free":20}\n\n'
RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Events until the client or the service ends.",
        "content": {"text/event-stream": {"example": EXAMPLE}},
    },
    **responses(s422=f"at: {WORDS['extra_forbidden']}", s500=UNEXPECTED),
}


def overview_of(collections: Collections, quota: QuotaReports, connection: Connection) -> Overview:
    """What watchers see: the newest collections, those that are open or just ended or deleted, and the quota."""
    since = collections.transactions.now(connection) - DELETED_FOR
    gone = retention.deleted_since(connection, since, MAX_DELETED)  # first: none of these is listed below
    views = collections.watched(connection)
    standing = quota.read_standing(connection)
    bodies = {view.state.id: listed(view) for view in views}
    deleted = tuple({"id": name, "requested_at": utc_text(requested_at)} for name, requested_at in gone)
    return Overview(bodies, None if standing is None else quota_body(standing), deleted)


@router.get(
    "/collections/stream",
    operation_id="collections_stream",
    summary="Collections and quota as they change",
    response_class=EventSourceResponse,
    responses=RESPONSES,
)
async def stream(live: LiveDep, admission: AdmissionDep) -> AsyncIterator[ServerSentEvent]:
    """Sends what changed, each second, as server-sent events.

    `collections` first has the newest 100 collections, the newest 100 open ones and those that just ended, and `all`
    is true; then what changed, each as in `GET /collections`. `deleted` has `id` and `requested_at` of those that were
    deleted since; `quota` is the answer of `GET /quota`, or null before a consumer has started; `problem` says why
    nothing could be read. After it, and when the client was too slow for some events, the next `collections` is as
    the first. The stream ends when the service stops, or the token is revoked.
    """
    async with aclosing(live.watch()) as changes:
        async for change in changes:
            if not await admission.still_admits():
                return
            for event in events_of(change):
                yield event


def events_of(change: Change) -> list[ServerSentEvent]:
    """The events that describe a change."""
    if change.unavailable is not None:
        return [_event("problem", about(503, change.unavailable))]
    events = [_event("quota", change.quota)]
    if change.collections is not None:
        whole = {"all": True} if change.is_everything else {}
        events.insert(0, _event("collections", {"collections": change.collections, **whole}))
    if change.deleted:
        events.insert(0, _event("deleted", {"collections": change.deleted}))
    return events


def _event(name: str, data: Any) -> ServerSentEvent:
    return ServerSentEvent(event=name, raw_data=orjson.dumps(data).decode())
