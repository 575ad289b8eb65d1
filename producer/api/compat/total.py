"""`GET /compat/total`: the sum of all temperatures, as an older service answers it."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from producer.api.parts import ReadingsDep
from producer.api.problems import WORDS
from producer.api.readings.summary import described, summary_of
from producer.api.requests import StrictRoute
from raingauge.storage.readings import Selection

router = APIRouter(tags=["compat: total"], route_class=StrictRoute)


class TotalBody(BaseModel):
    """The sum of all temperatures."""

    total: float = Field(
        description="°C, over all collected readings; exact to the thousandth. 0 when there are none.",
        examples=[3239.8],
    )


@router.get(
    "/compat/total",
    operation_id="compat_total",
    summary="The sum of all temperatures",
    response_description="The sum.",
    responses=described(s422=f"at: {WORDS['extra_forbidden']}"),
)
async def total(readings: ReadingsDep) -> TotalBody:
    """Adds up the temperatures of all collected readings. `/readings/summary` selects some of them."""
    return TotalBody(total=(await summary_of(readings, Selection())).total)
