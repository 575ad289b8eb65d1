"""`POST /collect`: accepts a collection, or tells what it would cost."""

import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Annotated, Any, ClassVar, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import (
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from producer.api.described import described
from producer.api.get_body import Time
from producer.api.json_body import read_body
from producer.api.problems import ELSEWHERE, MOST_VIOLATIONS, UNAVAILABLE, UNEXPECTED, invalid, responses
from producer.desk import Desk, Estimate
from producer.outlook import View
from producer.progress import Status
from raingauge.contracts import BATCH_SIZE, CityId, utc_text
from raingauge.storage.collections import CollectionRequest

ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
CITY: Final[TypeAdapter[int]] = TypeAdapter(CityId)
NO_CITY_ID: Final = (
    "a city is given by its OpenWeather id, an integer; bulk.openweathermap.org/sample/city.list.json.gz lists them"
)


def _collection_id(value: object) -> str:
    """The id as text: 1 and "1" are the same."""
    if isinstance(value, str | int) and not isinstance(value, bool) and ID.fullmatch(str(value)):
        return str(value)
    raise PydanticCustomError("collection_id", "an id is an integer, or 1 to 64 of A-Z a-z 0-9 . _ -")


CollectionId = Annotated[
    str,
    PlainValidator(_collection_id),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string", "pattern": f"^{ID.pattern}$"}]}),
]


class CollectBody(BaseModel):
    """What to collect."""

    # The factories only keep a default out of the schema: null is no value of these, to leave them out is.
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    id: CollectionId = Field(
        description="Your name for the collection: an integer, or 1 to 64 of `A-Za-z0-9._-`; "
        '`1` and `"1"` are the same.',
        examples=[1, "uruguay-2026-11-20"],
    )
    cities: Annotated[list[CityId], FailFast()] = Field(
        default_factory=list,
        description="City ids of the provider. Left out: the default cities. Duplicates are dropped.",
        min_length=1,
        examples=[[3439525, 3439781]],
    )
    max_age_s: int = Field(
        default_factory=int,
        strict=True,
        ge=0,
        le=86_400,
        description="How old, in seconds, an observation may be at the time of this request to be used again; "
        "0: only newer ones. Left out: the service's setting.",
        examples=[600],
    )

    @field_validator("cities", mode="wrap")
    @classmethod
    def _name_wrong_cities(cls, value: Any, validate: ValidatorFunctionWrapHandler) -> list[int]:
        """Name the first wrong cities instead of one: pydantic would look at all, and there may be a million."""
        try:
            checked: list[int] = validate(value)
        except ValidationError:
            if not isinstance(value, list) or not value:
                raise
            wrong = islice(_wrong_cities(value), MOST_VIOLATIONS)
            raise ValidationError.from_exception_data(cls.__name__, list(wrong)) from None
        return checked


def _wrong_cities(cities: list[Any]) -> Iterator[InitErrorDetails]:
    for index, city in enumerate(cities):
        try:
            CITY.validate_python(city)
        except ValidationError as error:
            (first,) = error.errors(include_url=False, include_context=False, include_input=False)
            message = NO_CITY_ID if first["type"] == "int_type" else first["msg"]
            yield InitErrorDetails(
                type=PydanticCustomError("city_id", "{why}", {"why": message}), loc=(index,), input=None
            )


class Question(BaseModel):
    """How a client asks."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    dry_run: bool = Field(False, description="true: answer what it would cost, and accept nothing.", examples=[False])


class Accepted(BaseModel):
    """A collection that is accepted."""

    id: str = Field(description="The collection's id, as text.", examples=["1"])
    status: Status = Field(description="How it stands, as in `GET /get`.", examples=["queued"])
    total: int = Field(description="Distinct cities to collect.", examples=[167])
    batches: int = Field(description="Messages of at most 20 cities that they travel in.", examples=[9])
    expected_at: Time | None = Field(
        description="When the last city will be settled, if all goes on as it is, ISO 8601 in UTC; null when nobody "
        "knows.",
        examples=["2026-11-20T16:02:40.000Z"],
    )


class EstimateBody(BaseModel):
    """What a collection would cost, or costs still: `settled`, `fresh` and `cost` make `total`."""

    id: str = Field(description="The collection's id, as text.", examples=["1"])
    total: int = Field(description="Distinct cities to collect.", examples=[167])
    batches: int = Field(description="Messages of at most 20 cities that they travel in.", examples=[9])
    settled: int = Field(
        description="Cities collected or failed already; 0 unless the same request was accepted before.", examples=[0]
    )
    fresh: int = Field(
        description="Cities that need no call: observed late enough for `max_age_s`, or known to be unknown.",
        examples=[27],
    )
    cost: int = Field(
        description="Cities to ask the provider for, each one unit of the quota: fewer where other collections have "
        "the same ones fetched first; 0 when the collection is done or cancelled.",
        examples=[140],
    )
    expected_at: Time | None = Field(
        description="When it would be done if it was accepted now, ISO 8601 in UTC; of a collection that is done, when "
        "it was; null when nobody knows, and of a cancelled one.",
        examples=["2026-11-20T16:02:20.000Z"],
    )


def accepted(view: View) -> dict[str, Any]:
    """The body that answers a POST."""
    return _in_order(Accepted, {"status": view.progress.status} | _size(view))


def estimated(estimate: Estimate) -> dict[str, Any]:
    """The body that answers a dry run."""
    settled = estimate.view.state.settled
    body = {"settled": settled, "fresh": estimate.fresh, "cost": estimate.cost} | _size(estimate.view)
    return _in_order(EstimateBody, body)


def _in_order(model: type[BaseModel], body: dict[str, Any]) -> dict[str, Any]:
    return {name: body[name] for name in model.model_fields}


def _size(view: View) -> dict[str, Any]:
    expected = view.progress.expected_at
    return {
        "id": view.state.id,
        "total": view.state.total,
        "batches": -(-view.state.total // BATCH_SIZE),
        "expected_at": None if expected is None else utc_text(expected),
    }


class Collecting:
    """What accepting needs to know besides the desk."""

    def __init__(self, default_cities: tuple[int, ...], max_cities: int, max_age_s: int) -> None:
        self.default_cities = default_cities
        self.max_cities = max_cities
        self.max_age_s = max_age_s

    def request(self, body: CollectBody) -> CollectionRequest:
        """The request behind a body."""
        named = "cities" in body.model_fields_set
        city_ids = tuple(dict.fromkeys(body.cities)) if named else self.default_cities
        if len(city_ids) > self.max_cities:
            what = f"a collection has at most {self.max_cities} distinct cities, not {len(city_ids)}"
            raise invalid(what, "body", "cities")
        any_age = "max_age_s" not in body.model_fields_set
        max_age_s = self.max_age_s if any_age else body.max_age_s
        return CollectionRequest(body.id, city_ids, max_age_s, named, any_age)


REQUEST_BODY: Final[dict[str, Any]] = {
    "required": True,
    "description": "What to collect, as `application/json`. Only `id` is needed; unknown fields are refused.",
    "content": {
        "application/json": {
            "schema": CollectBody.model_json_schema(),
            "examples": {
                "the default cities": {"value": {"id": 1}},
                "cities of your own": {
                    "value": {"id": "uruguay-2026-11-20", "cities": [3439525, 3439781], "max_age_s": 600}
                },
            },
        }
    },
}
LOCATION: Final[dict[str, Any]] = {
    "headers": {
        "Location": {
            "description": "Where the collection can be watched and read; left out by a dry run.",
            "schema": {"type": "string"},
            "example": "/get?id=1",
        }
    }
}
LEADS_ON: Final[dict[str, Any]] = {
    "links": {
        "watch": {
            "operationId": "get",
            "parameters": {"id": "$response.body#/id"},
            "description": "Its progress and its readings.",
        },
        "cancel": {
            "operationId": "cancel",
            "parameters": {"id": "$response.body#/id"},
            "description": "Ends it before it is done.",
        },
    },
}


def router(desk: Desk, collecting: Collecting, accepted_one: Callable[[str], None]) -> APIRouter:
    """The front door; `accepted_one` is called with the id of each new collection."""
    api = APIRouter(tags=["collections"], route_class=described(Question))

    @api.post(
        "/collect",
        operation_id="collect",
        summary="Collect the weather of cities",
        status_code=202,
        response_model=Accepted,
        response_description="Accepted: every city of it will end as collected or failed.",
        openapi_extra={"requestBody": REQUEST_BODY},
        responses={
            202: LOCATION | LEADS_ON,
            200: LOCATION
            | {"model": Accepted | EstimateBody, "description": "The same request was accepted before; or a dry run."},
            **responses(
                s403=ELSEWHERE,
                s409="a collection 1 exists already, with other cities or another max_age_s",
                s413="the body is longer than 4004096 bytes",
                s422="id: it is missing",
                s500=UNEXPECTED,
                s503=UNAVAILABLE,
            ),
        },
    )
    async def collect(request: Request, question: Annotated[Question, Query()]) -> Response:
        """Accepts a collection and answers at once, whatever its size; the collecting goes on by itself.

        Sending the same request again collects nothing twice: it answers 200 and the state as it stands. The same id
        with other cities or another `max_age_s` is refused with 409; a request that says nothing of `max_age_s` is not
        another one for it.

        `dry_run=true` checks the same and answers what it would cost and when it would be done, or, of a collection
        that stands, what it costs still. Nothing is accepted and no city is asked for.
        """
        wanted = collecting.request(await read_body(request, CollectBody))
        if question.dry_run:
            return JSONResponse(estimated(await desk.estimate(wanted)))
        view, created = await desk.accept(wanted)
        if created:
            accepted_one(wanted.id)
        location = {"Location": f"/get?id={view.state.id}"}
        return JSONResponse(accepted(view), 202 if created else 200, location)

    return api
