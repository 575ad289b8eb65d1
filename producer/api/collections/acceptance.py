"""Accepting a collection: the body of `POST /collect`, the defaults for what it leaves out, and what follows."""

import logging
import re
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, ClassVar, Final

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

from producer.access.clients import requesting
from producer.api.problems import MAX_VIOLATIONS, Invalid
from producer.cities import default_cities
from producer.collections import Accepted, Collections, Estimate
from producer.metrics import ProducerMetrics
from producer.relays.batches import Relay
from raingauge.contracts import CityId
from raingauge.model import CollectionRequest
from raingauge.observability import tracing
from raingauge.settings import Settings

log = logging.getLogger("raingauge.producer")

ID: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,64}")
"""Neither `.` nor `..`: in a path they would mean something else."""
CITY: Final[TypeAdapter[int]] = TypeAdapter(CityId)
NO_CITY_ID: Final = (
    "a city is given by its OpenWeather id, an integer; bulk.openweathermap.org/sample/city.list.json.gz lists them"
)


def _collection_id(value: object) -> str:
    """The id as text: 1 and "1" are the same."""
    if isinstance(value, str | int) and not isinstance(value, bool) and ID.fullmatch(str(value)):
        return str(value)
    what = "an id is an integer, or 1 to 64 characters of A-Z a-z 0-9 . _ -, and neither . nor .."
    raise PydanticCustomError("collection_id", what)


CollectionId = Annotated[
    str,
    PlainValidator(_collection_id),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string", "pattern": f"^{ID.pattern}$"}]}),
]


class CollectBody(BaseModel):
    """What to collect. Only `id` is needed; unknown fields are refused."""

    # The factories only hide the default from the schema: these fields are optional, but not nullable.
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    id: CollectionId = Field(
        description="Your name for the collection: an integer, or 1 to 64 of `A-Za-z0-9._-` but "
        'not `.` or `..`; `1` and `"1"` are the same.',
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
        """Report the first few wrong cities: `FailFast` reports one, and without it pydantic checks up to a million."""
        try:
            checked: list[int] = validate(value)
        except ValidationError:
            if not isinstance(value, list) or not value:
                raise
            wrong = islice(_wrong_cities(value), MAX_VIOLATIONS)
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


class Acceptance:
    """Accepts collections, with the defaults of the settings for what a body leaves out.

    Raises (all methods):
        Invalid: the body has too many cities.
        OtherRequest, TooManyOpen: as `Collections.accept`.
        DatabaseUnavailable: the database did not answer before the deadline.
    """

    def __init__(self, settings: Settings, collections: Collections, relay: Relay, metrics: ProducerMetrics) -> None:
        self._cities = default_cities()
        self._max_cities = settings.collect.max_cities
        self._max_age_s = settings.freshness.max_age_s
        self._collections = collections
        self._relay = relay
        self._metrics = metrics

    async def accept(self, body: CollectBody) -> Accepted:
        """Store the collection, or find it: its view, and whether it is new."""
        view, is_new = await self._collections.accept(self._request(body))
        if is_new:
            log.info("collection.accepted", extra={"collection_id": view.state.id, "cities": view.state.total})
            self._metrics.accepted.inc()
            self._relay.wake()
        return view, is_new

    async def estimate(self, body: CollectBody) -> Estimate:
        """What the collection would cost; nothing is stored."""
        return await self._collections.estimate(self._request(body))

    def _request(self, body: CollectBody) -> CollectionRequest:
        named = "cities" in body.model_fields_set
        city_ids = tuple(dict.fromkeys(body.cities)) if named else self._cities
        if len(city_ids) > self._max_cities:
            what = f"a collection has at most {self._max_cities} distinct cities, not {len(city_ids)}"
            raise Invalid(what, "body", "cities")
        any_age = "max_age_s" not in body.model_fields_set
        max_age_s = self._max_age_s if any_age else body.max_age_s
        trace, client = tracing.current.get(), requesting(body.id)
        return CollectionRequest(body.id, city_ids, max_age_s, named, any_age, trace, *client)
