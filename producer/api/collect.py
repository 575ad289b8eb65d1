"""`POST /collect`: accepts a collection."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Response
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from producer.api.problems import responses
from producer.desk import Desk, View
from raingauge.contracts import BATCH_SIZE, CityId, utc_text
from raingauge.storage.collections import CollectionRequest

ID_PATTERN = r"^[A-Za-z0-9._-]{1,64}$"


def _as_text(value: int | str) -> str:
    text = str(value)
    if len(text) > 64:
        raise PydanticCustomError("id_too_long", "an id has at most 64 characters")
    return text


CollectionId = Annotated[
    Annotated[int, Field(strict=True, ge=-(10**62), le=10**63)] | Annotated[str, Field(strict=True, pattern=ID_PATTERN)],
    AfterValidator(_as_text),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string", "pattern": ID_PATTERN}]}),
]


class CollectBody(BaseModel):
    """What to collect."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    id: CollectionId = Field(
        description="Your name for the collection: an integer, or 1 to 64 of `A-Za-z0-9._-`. `1` and `\"1\"` are the same.",
        examples=[1, "uruguay-2026-11-20"],
    )
    cities: list[CityId] | None = Field(
        None,
        description="City ids of the provider. Left out: the default cities. Duplicates are dropped.",
        min_length=1,
        examples=[[3439525, 3439781]],
    )
    max_age_s: Annotated[int, Field(strict=True, ge=0, le=86_400)] | None = Field(
        None,
        description="How old, in seconds, an observation may be at the time of this request to be used again; "
        "0: only newer ones. Left out: the service's setting.",
        examples=[600],
    )


class Accepted(BaseModel):
    """A collection that is accepted."""

    id: str = Field(description="The collection's id, as text.", examples=["1"])
    status: str = Field(
        description="queued, collecting, waiting, done or cancelled.", examples=["queued"]
    )
    total: int = Field(description="Distinct cities to collect.", examples=[167])
    batches: int = Field(description="Messages of at most 20 cities that they travel in.", examples=[9])
    expected_at: str | None = Field(
        description="When the last city will have been asked for, ISO 8601 in UTC; null when nobody knows.",
        examples=["2026-11-20T16:02:40.000Z"],
    )


def accepted(view: View) -> dict[str, Any]:
    """The body that answers a POST."""
    expected = view.progress.expected_at
    return {
        "id": view.state.id,
        "status": view.progress.status,
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
        named = body.cities is not None
        city_ids = tuple(dict.fromkeys(body.cities)) if body.cities is not None else self.default_cities
        if len(city_ids) > self.max_cities:
            what = f"List should have at most {self.max_cities} distinct cities, not {len(city_ids)}"
            raise RequestValidationError([{"type": "too_long", "loc": ("body", "cities"), "msg": what, "input": None}])
        max_age_s = self.max_age_s if body.max_age_s is None else body.max_age_s
        return CollectionRequest(str(body.id), city_ids, max_age_s, named)


def router(desk: Desk, collecting: Collecting, accepted_one: Callable[[], None]) -> APIRouter:
    """The front door; `accepted_one` is called when there is something new to publish."""
    api = APIRouter(tags=["collections"])

    @api.post(
        "/collect",
        summary="Collect the weather of cities",
        status_code=202,
        response_model=Accepted,
        response_description="Accepted: every city of it will end as collected or failed.",
        responses={
            200: {"model": Accepted, "description": "The same request was accepted before: this is how it stands."},
            **responses(
                s409="a collection 1 exists already, with other cities or another max_age_s",
                s413="the body is longer than 4004096 bytes",
                s422="id: Field required",
                s503="the database does not answer; nothing is half-done, try again",
            ),
        },
    )
    async def collect(body: CollectBody, response: Response) -> dict[str, Any]:
        """Accepts a collection and answers at once, whatever its size; the collecting goes on by itself.

        Sending the same request again collects nothing twice: it answers 200 and the state as it stands. The same id with
        other cities or another `max_age_s` is refused with 409.
        """
        request = collecting.request(body)
        view, created = await desk.accept(request)
        if created:
            accepted_one()
        response.status_code = 202 if created else 200
        response.headers["Location"] = f"/get?id={view.state.id}"
        return accepted(view)

    return api
