"""The endpoint of the newest observations: `GET /readings/latest`. It speaks HTTP."""

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final
from urllib.parse import urlencode

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import AfterValidator, BaseModel
from pydantic_core import PydanticCustomError
from sqlalchemy import Row
from starlette.exceptions import HTTPException

from producer.api.answers import JSON, UnitsAre, link
from producer.api.docs import link_to
from producer.api.parts import ReadingsDep
from producer.api.problems import UNAVAILABLE, Invalid, responses
from producer.api.requests import StrictRoute
from producer.api.schemas import Time, example_of, field
from producer.readings import MAX_LATEST, Latest
from raingauge.contracts import COLLECTION_ID, MAX_CITY_ID, utc_text
from raingauge.storage.cities import LATEST
from raingauge.units import Units, converted
from raingauge.web import UNEXPECTED, shown

router = APIRouter(tags=["readings"], route_class=StrictRoute)

NEXT: Final = "/readings/latest?id=1&after=50"
EITHER: Final = "give either city_id or id"


class LatestReading(BaseModel):
    """The newest observation of a city."""

    city_id: int = field("The provider's id of the city.", 3439525)
    name: str | None = field("The city's name as the provider spells it.", "Young")
    country: str | None = field("Country code.", "UY")
    latitude: float | None = field("Degrees north.", -32.698)
    longitude: float | None = field("Degrees east.", -57.627)
    temperature: float | None = field("°C, or as `units` says.", 19.4)
    feels_like: float | None = field("°C, or as `units` says.", 18.9)
    humidity: float | None = field("Relative humidity, %.", 55)
    pressure: float | None = field("hPa.", 1016)
    wind_speed: float | None = field("m/s, or as `units` says.", 1.5)
    wind_deg: float | None = field("Degrees it blows from.", 220)
    clouds: float | None = field("% of the sky.", 0)
    visibility: float | None = field("m.", 10000)
    rain_1h: float | None = field("mm in the last hour.", 0.3)
    snow_1h: float | None = field("mm in the last hour.", 0.1)
    condition_id: int | None = field("Weather code.", 800)
    description: str | None = field("In words.", "clear sky")
    utc_offset_s: int | None = field("Seconds local time is ahead of UTC.", -10800)
    observed_at: Time = field("When it was so, as the provider says, ISO 8601 in UTC.", "2026-11-20T15:50:00.000Z")
    fetched_at: Time = field("When it was fetched from the provider, ISO 8601 in UTC.", "2026-11-20T15:59:00.000Z")
    age_s: float = field("Seconds since `observed_at`, by the database's clock.", 600.1)


class LatestBody(BaseModel):
    """The newest observations of cities."""

    readings: list[LatestReading] = field("In the order of city ids.", [example_of(LatestReading)])
    missing: list[int] = field("Ids of those cities that were never observed.", [99])
    next: str | None = field("Where the next page of a collection's cities is; null on the last one.", NEXT)


def named_cities(given: list[str], most: int) -> list[int]:
    """Ids, whether they are given with commas, one by one, or both; at most `most`."""
    words = dict.fromkeys(word for text in given for word in text.split(","))
    wrong = next((word for word in words if not _is_city_id(word)), None)
    if wrong is not None:
        raise PydanticCustomError("city_id", "{id} is not a city id", {"id": shown(wrong) or "nothing"})
    if len(words) > most:
        raise PydanticCustomError("too_many", f"at most {most} cities, not {len(words)}")
    return [int(word) for word in words]


def _is_city_id(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= 10 and 1 <= int(word) <= MAX_CITY_ID


NAMED: Final = {"items": {"type": "string", "pattern": r"^[1-9][0-9]{0,8}(,[1-9][0-9]{0,8})*$"}}
"""What a parameter of city ids looks like."""
CityIds = Annotated[
    list[str],
    AfterValidator(partial(named_cities, most=MAX_LATEST)),
    Query(
        alias="city_id",
        description=f"Cities, with commas or one by one, at most {MAX_LATEST}.",
        examples=[["3439525", "3439781"]],
        json_schema_extra=NAMED,
    ),
]
RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"headers": {"Link": link_to(NEXT)}},
    **responses(s404="there is no collection 7", s422=f"city_id: {EITHER}", s500=UNEXPECTED, s503=UNAVAILABLE),
}


@router.get(
    "/readings/latest",
    operation_id="latest_readings",
    summary="The newest observation of each city",
    response_model=LatestBody,
    response_description="The newest observations.",
    responses=RESPONSES,
)
async def latest(
    request: Request,
    readings: ReadingsDep,
    city_ids: CityIds = [],  # noqa: B006
    collection_id: Annotated[
        str, Query(alias="id", description="The cities of this collection instead.", examples=["1"])
    ] = "",
    after: Annotated[
        int,
        Query(ge=0, le=2**31 - 1, description="Where a page of a collection begins, as `next` has it.", examples=[50]),
    ] = 0,
    units: UnitsAre = "metric",
) -> Response:
    """Answers what was observed last in each city, for whichever collection. Nothing is fetched for it.

    The cities are those of `city_id`, or those of the collection `id`, whose own readings may be older. A page has
    at most 1,000 cities; `next` and the `Link` header lead to the next page.
    """
    if bool(city_ids) == bool(collection_id):
        raise Invalid(EITHER, "query", "city_id")
    found: Latest | None = None
    if not collection_id:
        found = await readings.latest([int(city_id) for city_id in city_ids])
    elif COLLECTION_ID.fullmatch(collection_id):
        found = await readings.latest_of(collection_id, after)
    if found is None:
        raise HTTPException(404, f"there is no collection {shown(collection_id)}")
    headers = {"Cache-Control": "no-cache"}
    body = _body(found, units)
    if found.go_on is not None:
        chosen = {} if units == "metric" else {"units": units}
        query = urlencode({"id": collection_id, "after": found.go_on, **chosen})
        body["next"] = f"{request.scope['root_path']}/readings/latest?{query}"
        headers["Link"] = link(body["next"])
    return Response(orjson.dumps(body), headers=headers, media_type=JSON)


def _body(found: Latest, units: Units) -> dict[str, Any]:
    there = {row.id for row in found.rows}
    return {
        "readings": [_reading(row, found.now, units) for row in found.rows],
        "missing": sorted(set(found.city_ids) - there),
        "next": None,
    }


def _reading(row: Row[Any], now: datetime, units: Units) -> Mapping[str, Any]:
    observed: dict[str, Any] = {name: converted(name, getattr(row, name), units) for name in LATEST}
    observed_at = row.observed_at or row.fetched_at
    observed |= {"observed_at": utc_text(observed_at), "fetched_at": utc_text(row.fetched_at)}
    age_s = max(0.0, round((now - observed_at).total_seconds(), 3))
    return {"city_id": row.id, **observed, "age_s": age_s}
