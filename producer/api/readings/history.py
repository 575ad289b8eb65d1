"""The endpoint of histories: `GET /readings`. It speaks HTTP."""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode

import orjson
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator, BaseModel
from sqlalchemy import Row

from producer.api.answers import ID_IS, JSON, UnitsAre, is_named, link, weak_etag
from producer.api.collections.export import MEDIA_TYPES
from producer.api.collections.one import MAX_ROWS, Fields
from producer.api.docs import HEADERS, link_to
from producer.api.parts import ReadingsDep
from producer.api.periods import Since, Until, period
from producer.api.problems import UNAVAILABLE, Invalid, responses
from producer.api.readings.latest import NAMED, named_cities
from producer.api.requests import StrictRoute
from producer.api.schemas import Datum, Time, example_of, field
from producer.exports.columns import as_text
from producer.exports.text import Csv
from producer.readings import Readings
from raingauge.storage.history import Period, Place
from raingauge.units import Units, converted
from raingauge.web import UNEXPECTED

router = APIRouter(tags=["readings"], route_class=StrictRoute)

MAX_CITIES: Final = 20
FILE_ROWS: Final = 1000
"""Rows of a CSV file that are read at once."""
ROW: Final = ("city_id", "collection_id", "fetched_at", "observed_at", "temperature", "humidity")
"""What every observation shows."""
NEXT: Final = "/readings?city_id=3439525&limit=1000&after=2026-11-20T15:59:00.123456Z,3439525"
PLACE: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6})Z,([1-9]\d{0,9})")
ALL_ROWS: Final = "a CSV file has all rows; choose them by `from` and `to`"

CityIds = Annotated[
    list[str],
    AfterValidator(partial(named_cities, most=MAX_CITIES)),
    Query(
        alias="city_id",
        description=f"Cities, with commas or one by one, at most {MAX_CITIES}.",
        examples=[["3439525"]],
        json_schema_extra=NAMED,
    ),
]
LimitIs = Annotated[
    int, Query(default_factory=lambda: 1000, ge=1, le=MAX_ROWS, description="Rows of a page.", examples=[1000])
]
FormatIs = Annotated[
    Literal["json", "csv"],
    Query(
        alias="format",
        description="json: a page; csv: a file of all rows, whose columns say their units.",
        examples=["csv"],
    ),
]


class HistoryDatum(Datum):
    """The weather of a city at one time."""

    collection_id: str = field(f"{ID_IS} Of several that share the observation, the first by name.", "1")
    name: str | None = field("The city's name; with `fields=name`.", "Young", default=None)
    datetime: Time = field("The same as `fetched_at`; with `fields=datetime`.", "2026-11-20T15:59:00.123Z", default="")


class HistoryBody(BaseModel):
    """Observations of cities, oldest first."""

    data: list[HistoryDatum] = field("In the order of `fetched_at`.", [example_of(HistoryDatum)])
    next: str | None = field("Where the next page is; null on the last one.", NEXT)


RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "content": {"text/csv": {"schema": {"type": "string"}, "example": "city_id,collection_id,fetched_at,…\r\n"}},
        "headers": {"ETag": HEADERS["ETag"], "Link": link_to(NEXT)},
    },
    304: {
        "description": "Nothing has changed since the `ETag` that `If-None-Match` names.",
        "headers": {"ETag": HEADERS["ETag"]},
    },
    **responses(s422="city_id: it is missing", s500=UNEXPECTED, s503=UNAVAILABLE),
}


@dataclass(frozen=True, slots=True)
class _History:
    """What is requested."""

    readings: Readings
    period: Period
    more: tuple[str, ...]
    """Columns beside `ROW`."""
    units: Units

    @property
    def columns(self) -> tuple[str, ...]:
        """Those shown, in their order."""
        return (*ROW, *self.more)

    async def page(self, after: Place | None, limit: int) -> Sequence[Row[Any]]:
        """Up to `limit` rows behind `after`."""
        # `datetime` is another name of what each row has.
        read = tuple(name for name in self.columns[3:] if name != "datetime")
        return await self.readings.history(self.period, read, after, limit)

    def values(self, row: Row[Any]) -> list[Any]:
        """A row's values, in the order of `columns`, in metric units."""
        return [row.fetched_at if name == "datetime" else getattr(row, name) for name in self.columns]

    def shown(self, row: Row[Any]) -> dict[str, Any]:
        """A row as JSON shows it."""
        values = zip(self.columns, self.values(row), strict=True)
        return {name: converted(name, as_text(value), self.units) for name, value in values}

    async def file(self, rows: Sequence[Row[Any]]) -> AsyncIterator[bytes]:
        """All rows as CSV; `rows`: the first `FILE_ROWS` of them."""
        encoder = Csv(self.units, self.columns)
        yield encoder.begin()
        while rows:
            yield encoder.encode([self.values(row) for row in rows])
            rows = await self.page(_place(rows[-1]), FILE_ROWS) if len(rows) == FILE_ROWS else ()


def _place(row: Row[Any]) -> Place:
    return Place(row.fetched_at, row.city_id)


def _read_place(text: str) -> Place | None:
    if not text:
        return None
    found = PLACE.fullmatch(text)
    try:
        return Place(datetime.fromisoformat(f"{found[1]}+00:00"), int(found[2])) if found else _refuse_place()
    except ValueError:
        return _refuse_place()


def _refuse_place() -> Place:
    raise Invalid("it is not a place in a history, as `next` has it", "query", "after")


@router.get(
    "/readings",
    operation_id="history",
    summary="The history of cities",
    response_model=HistoryBody,
    response_description="A page of it, or a CSV file.",
    responses=RESPONSES,
)
async def history(  # noqa: PLR0913  each is a parameter of the query
    request: Request,
    readings: ReadingsDep,
    *,
    city_ids: CityIds,
    since: Since,
    until: Until,
    limit: LimitIs,
    fields: Fields = [],  # noqa: B006
    units: UnitsAre = "metric",
    after: Annotated[str, Query(description="Where the page begins, as `next` has it.", examples=[""])] = "",
    form: FormatIs = "json",
) -> Response:
    """Answers what was observed in these cities, oldest first, and nothing of what failed.

    An observation that several collections share is one row. A page costs the same wherever it begins; `next` and
    the `Link` header lead to the next one. Readings that were deleted are not in it: see `retention`.
    """
    first, last = period(since, until)
    more = tuple(dict.fromkeys(name for name in fields if name not in ROW))
    chosen = _History(readings, Period([int(city_id) for city_id in city_ids], first, last), more, units)
    place = _read_place(after)
    if form == "csv":
        if "limit" in request.query_params:
            raise Invalid(ALL_ROWS, "query", "limit")
        return _file(chosen, await chosen.page(place, FILE_ROWS))
    rows = await chosen.page(place, limit + 1)
    return _page(request, [chosen.shown(row) for row in rows[:limit]], rows[limit - 1] if rows[limit:] else None)


def _page(request: Request, data: list[dict[str, Any]], last: Row[Any] | None) -> Response:
    """A page; `last`: its last row, if there is a next page."""
    next_url, headers = None, {"Cache-Control": "no-cache"}
    if last is not None:
        place = f"{last.fetched_at:%Y-%m-%dT%H:%M:%S.%f}Z,{last.city_id}"
        kept = [(name, value) for name, value in request.query_params.multi_items() if name != "after"]
        next_url = f"{request.scope['root_path']}/readings?{urlencode([*kept, ('after', place)], safe=',:')}"
        headers["Link"] = link(next_url)
    body = orjson.dumps({"data": data, "next": next_url})
    headers["ETag"] = weak_etag(body)
    if is_named(headers["ETag"], request):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=JSON)


def _file(chosen: _History, rows: Sequence[Row[Any]]) -> StreamingResponse:
    headers = {"Content-Disposition": 'attachment; filename="raingauge-history.csv"', "Cache-Control": "no-cache"}
    return StreamingResponse(chosen.file(rows), headers=headers, media_type=MEDIA_TYPES["csv"])
