"""The endpoint of summaries: `GET /readings/summary`. It speaks HTTP."""

from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from producer.api.answers import ID_IS
from producer.api.parts import ReadingsDep
from producer.api.periods import Since, Until, period
from producer.api.problems import RETRY_AFTER_S, responses
from producer.api.requests import StrictRoute
from producer.readings import SUMMARY_S, Readings
from raingauge.contracts import COLLECTION_ID, MAX_CITY_ID
from raingauge.storage.readings import NumericField, Selection, Summary
from raingauge.web import UNEXPECTED, shown

router = APIRouter(tags=["readings"], route_class=StrictRoute)

TOO_MANY: Final = (
    f"the readings cannot be summed up within {SUMMARY_S:g} s: select one collection by `id`, or try again"
)

CollectionIs = Annotated[
    str,
    Query(alias="id", default_factory=str, min_length=1, description=f"Only this collection. {ID_IS}", examples=["1"]),
]
CityIs = Annotated[
    int,
    Query(default_factory=int, ge=1, le=MAX_CITY_ID, description="Only the city with this id.", examples=[3439525]),
]


class SummaryBody(BaseModel):
    """A field of readings, summed up."""

    total: float = Field(
        description="The sum, exact: each value counts to the thousandth. 0 when there is none.", examples=[3239.8]
    )
    count: int = Field(description="How many collected readings have a value.", examples=[167])
    mean: float | None = Field(description="`total` / `count`; null when there is no value.", examples=[19.4])
    min: float | None = Field(description="The smallest value; null when there is none.", examples=[11.25])
    max: float | None = Field(description="The largest value; null when there is none.", examples=[27.9])


def described(**more: str) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI entries of a summary's problems."""
    problems = responses(**more, s500=UNEXPECTED, s503=TOO_MANY)
    problems[503]["description"] = f"The database cannot be used now, or it takes longer than {SUMMARY_S:g} s."
    return problems


async def summary_of(readings: Readings, selection: Selection) -> Summary:
    """The summary of these readings.

    Raises:
        HTTPException: there is no such collection (404), or it took too long (503).
    """
    try:
        found = await readings.summary(selection)
    except TimeoutError:
        raise HTTPException(503, TOO_MANY, {"Retry-After": str(RETRY_AFTER_S)}) from None
    if found is None:
        raise HTTPException(404, f"there is no collection {shown(selection.collection_id or '')}")
    return found


def _selection(field: NumericField, name: str, city_id: int, since: datetime, until: datetime) -> Selection:
    if name and COLLECTION_ID.fullmatch(name) is None:
        raise HTTPException(404, f"there is no collection {shown(name)}")
    first, last = period(since, until)
    return Selection(
        field=field,
        collection_id=name or None,
        city_id=city_id or None,
        since=first,
        until=last,
    )


@router.get(
    "/readings/summary",
    operation_id="readings_summary",
    summary="Sum, mean, least and greatest of a field",
    response_description="The summary of all that is selected.",
    responses=described(s404="there is no collection 7", s422="from: it must be before `to`"),
)
async def summary(
    readings: ReadingsDep,
    collection_id: CollectionIs,
    city_id: CityIs,
    since: Since,
    until: Until,
    field: Annotated[NumericField, Query(description="What to sum up.", examples=["humidity"])] = "temperature",
) -> SummaryBody:
    """Sums up a field of all collected readings, or of a collection, a city or a time.

    A sum reads every reading that is selected, a million in about a second; it is given up after 10 seconds.
    """
    found = await summary_of(readings, _selection(field, collection_id, city_id, since, until))
    return SummaryBody(total=found.total, count=found.count, mean=found.mean, min=found.min, max=found.max)
