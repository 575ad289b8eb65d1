"""`/compat/events`: events for clients that know no pages: the list of them is a plain one."""

from collections.abc import AsyncIterator
from typing import ClassVar, Final

import orjson
from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import ConfigDict

from producer.api.events import EventBody, EventChange, NewEventBody, add_events, add_ping, describe
from producer.api.requests import StrictRoute
from producer.events import PAGE, Events
from raingauge.clock import Clock
from raingauge.contracts import event_body
from raingauge.model import EventState

PREFIX: Final = "/compat/events"
TAG: Final = "compat: events"

ID_PREFIX: Final = "compat_events_"


class OlderNewEvent(NewEventBody):
    """An event to report. Other fields are ignored."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore")


class OlderEventChange(EventChange):
    """What is to be changed of an event; what is left out stays. Other fields are ignored."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore")


def router(events: Events, clock: Clock) -> APIRouter:
    """The routes."""
    api = APIRouter(prefix=PREFIX, tags=[TAG], route_class=StrictRoute)
    add_events(api, events, OlderNewEvent, OlderEventChange, ID_PREFIX)

    @api.get(
        "/events",
        operation_id=f"{ID_PREFIX}events",
        summary="All events",
        response_description="The oldest first.",
        response_model=list[EventBody],
        responses=describe(),
    )
    async def everything() -> StreamingResponse:
        """Lists all events at once. `/events` has them page by page."""
        first = await events.page(0, PAGE)  # before the answer begins: if the database is away, that is its status
        return StreamingResponse(_listed(events, first), media_type="application/json")

    add_ping(api, clock, ID_PREFIX)
    return api


async def _listed(events: Events, page: list[EventState]) -> AsyncIterator[bytes]:
    """The JSON list of all events, beginning with this page, page by page."""
    separator = b"["
    while page:
        yield separator + b",".join(orjson.dumps(event_body(event)) for event in page)
        separator = b","
        page = await events.page(page[-1].number, PAGE)
    yield b"[]" if separator == b"[" else b"]"
