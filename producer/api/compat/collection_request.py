"""`/compat/collection-request`: requests by number, their progress from 0 to 1, and all their weather in one answer."""

from typing import Any, Literal

import orjson
from fastapi import APIRouter, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from producer.api.answers import JSON
from producer.api.collections.acceptance import CollectBody, CollectionId
from producer.api.compat.default_collections import IdInPath, describe_get, describe_post, find, rows
from producer.api.parts import AcceptanceDep, CollectionsDep
from producer.api.requests import StrictRoute
from producer.api.schemas import Time
from raingauge.contracts import NUMERIC_ID, utc_text
from raingauge.storage.collections import OtherRequest

router = APIRouter(
    prefix="/compat/collection-request/collection-request", tags=["compat: collection-request"], route_class=StrictRoute
)


class CollectionRequestBody(BaseModel):
    """What to start. Other fields are ignored."""

    id: CollectionId = Field(
        description="The request's id, never used before: an integer, or 1 to 64 of `A-Za-z0-9._-`, not `.` or `..`.",
        examples=[1],
    )


class CollectionRequestAccepted(BaseModel):
    """The request is accepted."""

    value: Literal["OK"] = Field("OK", description="Always the same.", examples=["OK"])


class CollectionRequestProgress(BaseModel):
    """How far the request is."""

    result: float = Field(description="Settled cities / total, 0 to 1.", ge=0, le=1, examples=[0.3592814371257485])


class CityWeather(BaseModel):
    """The weather of one city."""

    city_id: int = Field(description="The provider's id of the city.", examples=[3439525])
    humidity: float | None = Field(description="%; null when the provider left it out.", examples=[55])
    temperature: float = Field(description="°C.", examples=[19.4])


class CollectionRequestInfo(BaseModel):
    """A request and all that is collected."""

    id: int | str = Field(description="The request's id; a number if it is written as one in JSON.", examples=[1])
    created_at: Time = Field(description="When it was accepted, ISO 8601 in UTC.")
    city_weather_info: list[CityWeather] = Field(
        description="All collected cities, in the order of city ids.",
        examples=[[{"city_id": 3439525, "humidity": 55, "temperature": 19.4}]],
    )


@router.post(
    "",
    operation_id="compat_collection_request_start",
    summary="Collect the default cities under a new id",
    status_code=201,
    response_description="Accepted: every city of it will end as collected or failed.",
    responses=describe_post("id", s400="a collection 1 exists already"),
)
async def start(acceptance: AcceptanceDep, body: CollectionRequestBody) -> CollectionRequestAccepted:
    """Starts a collection of the default cities and answers at once. An id that was used before is refused."""
    try:
        _, is_new = await acceptance.accept(CollectBody(id=body.id))
    except OtherRequest:
        is_new = False
    if not is_new:
        raise HTTPException(400, f"a collection {body.id} exists already")
    return CollectionRequestAccepted()


@router.get(
    "/{id}/progress",
    operation_id="compat_collection_request_progress",
    summary="Progress of a request",
    response_description="The request's progress.",
    responses=describe_get(),
)
async def progress(collections: CollectionsDep, id: IdInPath) -> CollectionRequestProgress:  # noqa: A002
    """Answers the share of the cities that are settled: collected, or failed for good."""
    state = await find(collections, id)
    return CollectionRequestProgress(result=state.settled / state.total)


@router.get(
    "/{id}",
    operation_id="compat_collection_request",
    summary="A request and its weather",
    response_model=CollectionRequestInfo,
    response_description="All that is collected.",
    responses=describe_get(),
)
async def info(collections: CollectionsDep, id: IdInPath) -> Response:  # noqa: A002
    """Answers at any time, in one piece, while the request is under way too."""
    state = await find(collections, id)
    body: dict[str, Any] = {
        "id": orjson.Fragment(state.id) if NUMERIC_ID.fullmatch(state.id) else state.id,  # of any length
        "created_at": utc_text(state.requested_at),
        "city_weather_info": [
            {name: row[name] for name in CityWeather.model_fields} async for row in rows(collections, state)
        ],
    }
    return Response(orjson.dumps(body), media_type=JSON)
