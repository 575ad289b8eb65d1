"""`GET /get`: how far a collection is, and its readings."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from producer.api.problems import responses
from producer.desk import Desk, Page, View
from producer.progress import Reason, Status
from raingauge.contracts import COLLECTION_ID, MAX_CITY_ID, utc_text
from raingauge.storage.models import WEATHER_COLUMNS

ROW: Final = ("name", "temperature", "humidity", "fetched_at", "observed_at")
MORE: Final = (*(name for name in WEATHER_COLUMNS if name not in ROW), "country", "latitude", "longitude")
"""What `fields=` can add."""
MOST_ROWS: Final = 10_000

Time = Annotated[str, Field(examples=["2026-11-20T16:00:00.123Z"])]


class Datum(BaseModel):
    """The weather of one city."""

    city_id: int = Field(description="The provider's id of the city.", examples=[3439525])
    name: str | None = Field(description="The city's name as the provider spells it.", examples=["Young"])
    temperature: float | None = Field(description="°C.", examples=[19.4])
    humidity: float | None = Field(description="Relative humidity, %; null when the provider left it out.", examples=[55])
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
        description="What a waiting collection waits for: the next month's budget (month), a key that the provider accepts "
        "(key), the provider, the database's clock (database), or a consumer that runs (no consumer).",
        examples=[None],
    )
    progress: float = Field(description="Settled cities / total, 0 to 1.", ge=0, le=1, examples=[0.24])
    total: int = Field(description="Distinct cities.", examples=[167])
    collected: int = Field(description="Cities with their weather.", examples=[40])
    failed: int = Field(description="Cities that could not be collected; see `errors`.", examples=[0])
    requested_at: Time = Field(description="When it was accepted, ISO 8601 in UTC.")
    finished_at: Time | None = Field(description="When the last city was settled, or it was cancelled; null before.")
    expected_at: Time | None = Field(description="When the last city will have been asked for; null when nobody knows.")
    data: list[Datum] = Field(description="Readings in the order of city ids; empty with `data=false`.")
    errors: list[Failure] = Field(description="Cities of this page that failed.")
    next: str | None = Field(
        description="Where the next page is; null on the last one.", examples=["/get?id=1&limit=1000&after=3441481"]
    )


def router(desk: Desk) -> APIRouter:
    """The front door."""
    api = APIRouter(tags=["collections"])

    @api.get(
        "/get",
        summary="Progress and readings of a collection",
        response_model=CollectionBody,
        response_description="The collection as it stands.",
        responses={
            304: {"description": "Nothing has changed since the `ETag` that `If-None-Match` names."},
            **responses(
                s404="there is no collection 7",
                s422="limit: Input should be less than or equal to 10000",
                s503="the database does not answer; nothing is half-done, try again",
            ),
        },
    )
    async def get(
        request: Request,
        id: Annotated[str, Query(description="The collection's id.", examples=["1"])],  # noqa: A002
        data: Annotated[bool, Query(description="false: leave the rows out.", examples=[True])] = True,
        limit: Annotated[int, Query(description="Rows of a page.", ge=1, le=MOST_ROWS, examples=[1000])] = 1000,
        after: Annotated[
            int, Query(description="Only cities with ids above this.", ge=0, le=MAX_CITY_ID, examples=[0])
        ] = 0,
        fields: Annotated[
            str, Query(description=f"What else to show, separated by commas: {', '.join(MORE)}.", examples=["country"])
        ] = "",
    ) -> Response:
        """Answers at any time, while the collection is under way too.

        The rows come in pages, in the order of city ids; `next` and the `Link` header lead from one to the next. An
        `If-None-Match` with the last `ETag` is answered 304 without reading rows.
        """
        extra = _fields(fields)
        view = await desk.view(id) if COLLECTION_ID.fullmatch(id) else None
        if view is None:
            raise HTTPException(404, f"there is no collection {id[:64]}")
        headers = {"ETag": _etag(view, request.url.query), "Cache-Control": "no-cache"}
        if headers["ETag"] in _named_tags(request):
            return Response(status_code=304, headers=headers)
        rows = await desk.page(id, Page((*ROW, *extra), after, limit)) if data else []
        body = _head(view) | _rows(rows, extra)
        if len(rows) == limit:
            query = request.query_params.items()
            following = {**dict(query), "limit": str(limit), "after": str(rows[-1]["city_id"])}
            body["next"] = f"/get?{urlencode(following)}"
            headers["Link"] = f'<{body["next"]}>; rel="next"'
        return JSONResponse(body, headers=headers)

    return api


def _fields(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name for name in text.split(",") if name))
    for name in names:
        if name not in MORE:
            what = f"there is no field {name[:64]}; there are: {', '.join(MORE)}"
            raise RequestValidationError([{"type": "enum", "loc": ("query", "fields"), "msg": what, "input": None}])
    return names


def _etag(view: View, query: str) -> str:
    """Weak: over what a client sees change, and the question."""
    parts = (view.state.id, view.state.collected, view.state.failed, *_words(view), query)
    return f'W/"{hashlib.sha256(repr(parts).encode()).hexdigest()[:24]}"'


def _words(view: View) -> tuple[str, str | None]:
    return view.progress.status, view.progress.reason


def _named_tags(request: Request) -> list[str]:
    return [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]


def _head(view: View) -> dict[str, Any]:
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


def _rows(rows: Sequence[Mapping[str, Any]], extra: Sequence[str]) -> dict[str, Any]:
    data = [_datum(row, extra) for row in rows if row["status"] == "collected"]
    errors = [{"city_id": row["city_id"], "reason": row["reason"]} for row in rows if row["status"] == "failed"]
    return {"data": data, "errors": errors, "next": None}


def _datum(row: Mapping[str, Any], extra: Sequence[str]) -> dict[str, Any]:
    return {
        "city_id": row["city_id"],
        "name": row["name"],
        "temperature": row["temperature"],
        "humidity": row["humidity"],
        "datetime": utc_text(row["fetched_at"]),
        "observed_at": utc_text(row["observed_at"]),
        **{name: row[name] for name in extra},
    }
