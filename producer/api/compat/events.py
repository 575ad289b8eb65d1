"""`/compat/events`: events for clients that know no pages: the list of them is a plain one."""

from typing import ClassVar, Final

from fastapi import APIRouter
from pydantic import ConfigDict

from producer.api.events import EventBody, EventChange, NewEventBody, add_events, add_ping, describe
from producer.api.requests import StrictRoute
from producer.events import Events
from raingauge.clock import Clock
from raingauge.contracts import event_body

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
        responses=describe(),
    )
    async def everything() -> list[EventBody]:
        """Lists all events at once. `/events` has them page by page."""
        return [EventBody.model_validate(event_body(event)) async for event in events.everything()]

    add_ping(api, clock, ID_PREFIX)
    return api
