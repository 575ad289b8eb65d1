"""What `GET /get` answers: the shapes that OpenAPI tells of, and how they are filled."""

from collections.abc import Iterable
from json import JSONEncoder
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field

from producer.outlook import View
from producer.progress import Reason, Status
from raingauge.contracts import utc_text
from raingauge.storage.models import WEATHER_COLUMNS

ROW: Final = {
    "name": "name",
    "temperature": "temperature",
    "humidity": "humidity",
    "datetime": "fetched_at",
    "observed_at": "observed_at",
}
"""What a row shows, and which columns that is."""
MORE: Final = (*(name for name in WEATHER_COLUMNS if name not in ROW.values()), "country", "latitude", "longitude")
"""What `fields=` can add."""

_ENCODE: Final = JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

Time = Annotated[str, Field(examples=["2026-11-20T16:00:00.123Z"], json_schema_extra={"format": "date-time"})]

_DATUM: Final = {
    "city_id": 3439525,
    "name": "Young",
    "temperature": 19.4,
    "humidity": 55.0,
    "datetime": "2026-11-20T16:00:00.123Z",
    "observed_at": "2026-11-20T15:53:20.000Z",
}


class Datum(BaseModel):
    """The weather of one city."""

    city_id: int = Field(description="The provider's id of the city.", examples=[3439525])
    name: str | None = Field(description="The city's name as the provider spells it.", examples=["Young"])
    temperature: float | None = Field(description="°C.", examples=[19.4])
    humidity: float | None = Field(
        description="Relative humidity, %; null when the provider left it out.", examples=[55]
    )
    datetime: Time = Field(description="When it was fetched, ISO 8601 in UTC.")
    observed_at: Time = Field(description="When it was so, as the provider says, ISO 8601 in UTC.")
    country: str | None = Field(None, description="Country code; with `fields=country`.", examples=["UY"])
    latitude: float | None = Field(None, description="Degrees north; with `fields=latitude`.", examples=[-32.698])
    longitude: float | None = Field(None, description="Degrees east; with `fields=longitude`.", examples=[-57.627])
    feels_like: float | None = Field(None, description="°C; with `fields=feels_like`.", examples=[18.9])
    pressure: float | None = Field(None, description="hPa; with `fields=pressure`.", examples=[1016])
    wind_speed: float | None = Field(None, description="m/s; with `fields=wind_speed`.", examples=[1.5])
    wind_deg: float | None = Field(None, description="Degrees it blows from; with `fields=wind_deg`.", examples=[220])
    clouds: float | None = Field(None, description="% of the sky; with `fields=clouds`.", examples=[0])
    visibility: float | None = Field(None, description="m; with `fields=visibility`.", examples=[10000])
    rain_1h: float | None = Field(None, description="mm in the last hour; with `fields=rain_1h`.", examples=[0.3])
    snow_1h: float | None = Field(None, description="mm in the last hour; with `fields=snow_1h`.", examples=[0.1])
    condition_id: int | None = Field(None, description="Weather code; with `fields=condition_id`.", examples=[800])
    description: str | None = Field(None, description="In words; with `fields=description`.", examples=["clear sky"])
    utc_offset_s: int | None = Field(
        None, description="Seconds local time is ahead of UTC; with `fields=utc_offset_s`.", examples=[-10800]
    )


class Failure(BaseModel):
    """A city that could not be collected."""

    city_id: int = Field(description="The id as it was asked for.", examples=[99])
    reason: str = Field(description="Why.", examples=["unknown city"])


class CollectionBody(BaseModel):
    """A collection as it stands."""

    id: str = Field(description="The collection's id.", examples=["1"])
    status: Status = Field(
        description="queued: nothing is settled yet; collecting; waiting: see `reason`; done; cancelled.",
        examples=["collecting"],
    )
    reason: Reason | None = Field(
        description="What a waiting collection waits for: the next month's budget (month), a key that the provider "
        "accepts (key), the provider, the database's clock (database), or a consumer that runs (no consumer).",
        examples=[None],
    )
    progress: float = Field(description="Settled cities / total, 0 to 1.", ge=0, le=1, examples=[0.24])
    total: int = Field(description="Distinct cities.", examples=[167])
    collected: int = Field(description="Cities with their weather.", examples=[40])
    failed: int = Field(description="Cities that could not be collected; see `errors`.", examples=[0])
    requested_at: Time = Field(description="When it was accepted, ISO 8601 in UTC.")
    finished_at: Time | None = Field(
        description="When the last city was settled, or it was cancelled; null before.", examples=[None]
    )
    expected_at: Time | None = Field(
        description="When the last city will be settled; null when nobody knows.",
        examples=["2026-11-20T16:02:40.000Z"],
    )
    data: list[Datum] = Field(
        description="Readings in the order of city ids; empty with `data=false`.", examples=[[_DATUM]]
    )
    errors: list[Failure] = Field(
        description="Cities of this page that failed.", examples=[[{"city_id": 99, "reason": "unknown city"}]]
    )
    next: str | None = Field(
        description="Where the next page is; null on the last one.", examples=["/get?id=1&limit=1000&after=3441481"]
    )


def head(view: View) -> dict[str, Any]:
    """The collection without its rows."""
    state, now = view.state, view.progress
    return {
        "id": state.id,
        "status": now.status,
        "reason": now.reason,
        "progress": state.settled / state.total,
        "total": state.total,
        "collected": state.collected,
        "failed": state.failed,
        "requested_at": utc_text(state.requested_at),
        "finished_at": None if state.finished_at is None else utc_text(state.finished_at),
        "expected_at": None if now.expected_at is None else utc_text(now.expected_at),
    }


def head_text(view: View) -> bytes:
    """The same as JSON, open for what is added."""
    if b"" not in view.written:
        view.written[b""] = _ENCODE(head(view)).encode()[:-1]
    return view.written[b""]


def tail_text(errors: Iterable[bytes], following: str | None) -> bytes:
    """What stands behind the collected rows: those that failed, and where the next page is."""
    return b'],"errors":[%b],"next":%b}' % (b",".join(errors), _ENCODE(following).encode())
