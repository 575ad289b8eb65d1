"""The endpoints of events: `/events`, and `/ping`. They speak HTTP."""

from dataclasses import asdict
from typing import Annotated, Any, ClassVar, Final, Literal
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from producer.access.clients import note_subject
from producer.api.answers import link
from producer.api.parts import ClockDep, EventsDep
from producer.api.problems import ELSEWHERE, UNAVAILABLE, WORDS, responses
from producer.api.requests import StrictRoute
from producer.api.schemas import Time
from raingauge.contracts import event_body, utc_text
from raingauge.model import DeliveryState, DeliveryStatus, EventState, EventType
from raingauge.storage.events import DESCRIPTION_LENGTH, USER_LENGTH
from raingauge.web import UNEXPECTED

router = APIRouter(tags=["events"], route_class=StrictRoute)

MAX_EVENTS: Final = 1000
EXAMPLE: Final = "6f9d5b0e-2d0b-4f4e-9d53-0d4a7c1c2b11"
NO_EVENT: Final = f"there is no event {EXAMPLE}"
NO_UUID: Final = "event_id: Input should be a valid UUID"
TEXT: Final = r"^[^\x00]*$"
"""PostgreSQL stores no NUL."""

EventId = Annotated[UUID, Path(description="The event's id, a UUID.", examples=[EXAMPLE])]
UserId = Annotated[
    str,
    Field(min_length=1, max_length=USER_LENGTH, pattern=TEXT, description="Who is to be notified.", examples=["1234"]),
]
Description = Annotated[
    str, Field(max_length=DESCRIPTION_LENGTH, pattern=TEXT, description="Of what.", examples=["Rain is on its way"])
]
Status = Annotated[
    Literal["NotProcessed", "Processed"], Field(description="Whether the user was notified.", examples=["NotProcessed"])
]


class NewEventBody(BaseModel):
    """An event to report."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    user_id: UserId
    description: Description


class EventChange(BaseModel):
    """What is to be changed of an event; what is left out stays."""

    # The factories only keep a default out of the schema: these may be left out, but not be null.
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    user_id: UserId = Field(default_factory=str)
    description: Description = Field(default_factory=str)
    status: Status = Field(default_factory=lambda: "NotProcessed")


class EventBody(BaseModel):
    """An event."""

    number: int = Field(
        description="Its place in the order of events, as `after` takes it; after a failover it may be given again.",
        examples=[1],
    )
    event_id: UUID = Field(description="Its id.", examples=[EXAMPLE])
    type: EventType = Field(
        description="`message`: a client reported it; the others are Raingauge's own.", examples=["message"]
    )
    user_id: str = Field(
        description="Who is to be notified. Of Raingauge's own: the collection's id, the account or the topic.",
        examples=["1234"],
    )
    description: str = Field(description="What happened.", examples=["Rain is on its way"])
    status: Status
    created_at: Time = Field(description="When it was reported, ISO 8601 in UTC.")


class DeliveryBody(BaseModel):
    """The delivery of an event to a webhook."""

    webhook: str = Field(
        description="The webhook's URL, without user, password and query.", examples=["https://example.org/hook"]
    )
    status: DeliveryStatus = Field(
        description="`gone`: the receiver answered 410; `given_up`: the last attempt failed.", examples=["waiting"]
    )
    attempts: int = Field(description="Attempts so far.", examples=[1])
    last_status: int | None = Field(
        description="The HTTP status that answered the last attempt; null if none did.", examples=[503]
    )
    last_error: str | None = Field(description="Why the last attempt failed.", examples=["the receiver answered 503"])
    next_attempt_at: Time | None = Field(
        description="When it is attempted next, ISO 8601 in UTC; null if it is not waiting.",
        examples=["2026-11-21T00:10:06.552Z"],
    )


class EventPage(BaseModel):
    """Events, oldest first."""

    events: list[EventBody] = Field(description="The oldest first.", examples=[[]])
    next: str | None = Field(
        description="The next page; null on the last one.", examples=["/events?after=100&limit=100"]
    )


class Now(BaseModel):
    """The service answers."""

    now: Time = Field(description="The service's clock, ISO 8601 in UTC.")


def delivery_body(delivery: DeliveryState) -> dict[str, Any]:
    """A delivery as it is shown."""
    due_at = delivery.next_attempt_at
    return asdict(delivery) | {"next_attempt_at": None if due_at is None else utc_text(due_at)}


def describe(**more: str) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI entries of problems."""
    described = responses(**({"s422": f"at: {WORDS['extra_forbidden']}"} | more), s500=UNEXPECTED, s503=UNAVAILABLE)
    if 404 in described:
        described[404]["description"] = "There is no such event."
    return described


REPORT: Final[dict[str, Any]] = {
    "summary": "Report an event",
    "status_code": 201,
    "response_description": "The event as it stands.",
    "responses": describe(
        s403=ELSEWHERE, s413="the body is longer than 4004096 bytes", s422=f"user_id: {WORDS['missing']}"
    ),
}
ONE: Final[dict[str, Any]] = {
    "summary": "An event",
    "response_description": "The event as it stands.",
    "responses": describe(s404=NO_EVENT, s422=NO_UUID),
}
CHANGE: Final[dict[str, Any]] = {
    "summary": "Change an event",
    "response_description": "The event afterwards.",
    "responses": describe(s403=ELSEWHERE, s404=NO_EVENT, s413="the body is longer than 4004096 bytes", s422=NO_UUID),
}
PING: Final[dict[str, Any]] = {
    "summary": "Whether the service answers",
    "response_description": "It does.",
    "responses": responses(s422=f"at: {WORDS['extra_forbidden']}", s500=UNEXPECTED),
}
"""How OpenAPI describes these four, here and in `producer.api.compat.events`."""


@router.post("/events", operation_id="report_event", **REPORT)
async def report(request: Request, response: Response, events: EventsDep, body: NewEventBody) -> EventBody:
    """Stores an event and answers at once. Its user is notified soon, and its status becomes `Processed`."""
    event = await events.report(body.user_id, body.description)
    note_subject(event.event_id)
    response.headers["Location"] = f"{request.url.path.rstrip('/')}/{event.event_id}"
    return EventBody.model_validate(event_body(event))


@router.get("/events/{event_id}", operation_id="event", **ONE)
async def one(events: EventsDep, event_id: EventId) -> EventBody:
    """Answers how an event stands."""
    return _found(await events.find(str(event_id)), event_id)


@router.put("/events/{event_id}", operation_id="change_event", **CHANGE)
async def change(events: EventsDep, event_id: EventId, body: EventChange) -> EventBody:
    """Sets what the body names. With `status: NotProcessed` its user is notified once more."""
    return _found(await events.change(str(event_id), body.model_dump(exclude_unset=True)), event_id)


@router.get(
    "/events",
    operation_id="events",
    summary="Events, page by page",
    response_description="A page of them.",
    responses=describe(s422="limit: Input should be less than or equal to 1000"),
)
async def page(
    request: Request,
    response: Response,
    events: EventsDep,
    after: Annotated[
        int, Query(ge=0, le=2**62, description="Only events whose `number` is above this.", examples=[100])
    ] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_EVENTS, description="Events of a page.", examples=[100])] = 100,
) -> EventPage:
    """Lists all events, the oldest first. `next` and the `Link` header lead to the next page."""
    found = await events.page(after, limit + 1)
    shown = found[:limit]
    next_url = None
    if len(found) > limit:
        query = urlencode({"after": shown[-1].number, "limit": limit})
        next_url = f"{request.scope['root_path']}/events?{query}"
        response.headers["Link"] = link(next_url)
    return EventPage.model_validate({"events": [event_body(one) for one in shown], "next": next_url})


@router.get(
    "/events/{event_id}/deliveries",
    operation_id="deliveries",
    summary="Deliveries of an event to webhooks",
    response_description="One for each webhook that receives it.",
    responses=describe(s404=NO_EVENT, s422=NO_UUID),
)
async def deliveries(events: EventsDep, event_id: EventId) -> list[DeliveryBody]:
    """Answers how the deliveries of an event stand, in the order of the webhooks' URLs."""
    found = await events.deliveries(str(event_id))
    if found is None:
        raise HTTPException(404, f"there is no event {event_id}")
    return [DeliveryBody.model_validate(delivery_body(one)) for one in found]


@router.get("/ping", operation_id="ping", **PING)
async def ping(clock: ClockDep) -> Now:
    """Answers with the service's clock; it asks nothing of the database."""
    return Now(now=utc_text(clock.now()))


def _found(event: EventState | None, event_id: UUID) -> EventBody:
    if event is None:
        raise HTTPException(404, f"there is no event {event_id}")
    return EventBody.model_validate(event_body(event))
