"""`/compat/events`: events for clients that know no pages: the list of them is a plain one."""

from collections.abc import AsyncIterator
from typing import ClassVar

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import ConfigDict

from producer.api import events as newer
from producer.api.events import EventBody, EventChange, EventId, NewEventBody, describe
from producer.api.parts import EventsDep
from producer.api.requests import StrictRoute
from producer.events import PAGE, Events
from raingauge.contracts import event_body
from raingauge.model import EventState

router = APIRouter(prefix="/compat/events", tags=["compat: events"], route_class=StrictRoute)


class OlderNewEvent(NewEventBody):
    """An event to report. Other fields are ignored."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore")


class OlderEventChange(EventChange):
    """What is to be changed of an event; what is left out stays. Other fields are ignored."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore")


@router.post("/events", operation_id="compat_events_report_event", **newer.REPORT)
async def report(request: Request, response: Response, events: EventsDep, body: OlderNewEvent) -> EventBody:
    """Stores an event and answers at once. Its user is notified soon, and its status becomes `Processed`."""
    return await newer.report(request, response, events, body)


router.add_api_route("/events/{event_id}", newer.one, operation_id="compat_events_event", **newer.ONE)


@router.put("/events/{event_id}", operation_id="compat_events_change_event", **newer.CHANGE)
async def change(events: EventsDep, event_id: EventId, body: OlderEventChange) -> EventBody:
    """Sets what the body names. With `status: NotProcessed` its user is notified once more."""
    return await newer.change(events, event_id, body)


@router.get(
    "/events",
    operation_id="compat_events_events",
    summary="All events",
    response_description="The oldest first.",
    response_model=list[EventBody],
    responses=describe(),
)
async def everything(events: EventsDep) -> StreamingResponse:
    """Lists all events at once. `/events` has them page by page."""
    first = await events.page(0, PAGE)  # before the answer begins: if the database is away, that is its status
    return StreamingResponse(_listed(events, first), media_type="application/json")


router.add_api_route("/ping", newer.ping, operation_id="compat_events_ping", **newer.PING)


async def _listed(events: Events, page: list[EventState]) -> AsyncIterator[bytes]:
    """The JSON list of all events, beginning with this page, page by page."""
    separator = b"["
    while page:
        yield separator + b",".join(orjson.dumps(event_body(event)) for event in page)
        separator = b","
        page = await events.page(page[-1].number, PAGE)
    yield b"[]" if separator == b"[" else b"]"
