"""`/compat/weather`: one collection of the default cities for each user, and its progress in percent."""

from typing import Final

from fastapi import APIRouter
from pydantic import BaseModel, Field

from producer.api.collections.acceptance import CollectBody, CollectionId
from producer.api.compat.default_collections import IdInPath, describe_get, describe_post, find
from producer.api.parts import AcceptanceDep, CollectionsDep
from producer.api.requests import StrictRoute

router = APIRouter(prefix="/compat/weather", tags=["compat: weather"], route_class=StrictRoute)

MOST_BEFORE_THE_END: Final = 99.99


class WeatherBody(BaseModel):
    """Whose collection to start. Other fields are ignored."""

    user_id: CollectionId = Field(
        description="The user: an integer, or 1 to 64 of `A-Za-z0-9._-`, not `.` or `..`. It is the collection's id.",
        examples=[1234],
    )


class WeatherStatus(BaseModel):
    """What became of the request."""

    status: str = Field(description="A sentence for people.", examples=["Started: 167 cities are being collected."])


class WeatherProgress(BaseModel):
    """How far the collection is."""

    progress: str = Field(
        description="Settled cities in percent, with at most two decimals; `100%` only when all are settled.",
        examples=["35.93%"],
    )


@router.post(
    "/weather",
    operation_id="compat_weather_start",
    summary="Collect the default cities for a user",
    response_description="The collection has started, or had before.",
    responses=describe_post("user_id", s409="a collection 1234 exists already, with other cities"),
)
async def start(acceptance: AcceptanceDep, body: WeatherBody) -> WeatherStatus:
    """Starts a collection of the default cities and answers at once.

    The same user again gets the state of that collection; nothing is collected twice.
    """
    view, is_new = await acceptance.accept(CollectBody(id=body.user_id))
    state = view.state
    if is_new:
        return WeatherStatus(status=f"Started: {state.total} cities are being collected.")
    if view.progress.status == "done":
        return WeatherStatus(status=f"Done: {state.collected} of {state.total} cities were collected.")
    word = "Cancelled" if view.progress.status == "cancelled" else "Under way"
    return WeatherStatus(status=f"{word}: {percent(state.settled, state.total)} of {state.total} cities.")


@router.get(
    "/weather/{user_id}",
    operation_id="compat_weather_progress",
    summary="Progress of a user's collection",
    response_description="The collection's progress.",
    responses=describe_get(),
)
async def progress(collections: CollectionsDep, user_id: IdInPath) -> WeatherProgress:
    """Answers the share of the cities that are settled: collected, or failed for good."""
    state = await find(collections, user_id)
    return WeatherProgress(progress=percent(state.settled, state.total))


def percent(settled: int, total: int) -> str:
    """For example 35.93%: at most two decimals, no trailing zeros, and 100% only when all are settled."""
    share = round(100 * settled / total, 2)
    return f"{share if settled == total else min(share, MOST_BEFORE_THE_END):g}%"
