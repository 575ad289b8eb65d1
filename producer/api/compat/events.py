"""`/compat/events`: events for clients that know no pages: the list of them is a plain one."""

from typing import Final

from fastapi import APIRouter

from producer.api.events import EventBody, add_events, add_ping, describe
from producer.api.requests import StrictRoute
from producer.events import Events
from raingauge.clock import Clock
from raingauge.contracts import event_body

PREFIX: Final = "/compat/events"
TAG: Final = "compat: events"


def router(events: Events, clock: Clock) -> APIRouter:
    """The front door."""
    api = APIRouter(prefix=PREFIX, tags=[TAG], route_class=StrictRoute)
    add_events(api, events)

    @api.get("/events", summary="All events", response_description="The oldest first.", responses=describe())
    async def everything() -> list[EventBody]:
        """Lists all events at once. `/events` has them page by page."""
        return [EventBody.model_validate(event_body(event)) async for event in events.everything()]

    add_ping(api, clock)
    return api
