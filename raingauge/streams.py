"""The streams: readings and the latest weather of each city as messages that anyone may read.

Each is a CloudEvent 1.0. On Kafka it is in binary mode: its attributes are headers, its data is the value. The binding:
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md. In a file it is in
structured mode: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md. Pure: no I/O, no
clock.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import Any, ClassVar, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

from raingauge.contracts import utc_text
from raingauge.errors import Permanent
from raingauge.model import EPOCH, StreamFormat

CONTENT_TYPE: Final = "application/json"
SOURCE: Final = "/raingauge"
REQUIRED: Final = frozenset({"specversion", "id", "source", "type"})
"""The attributes that every CloudEvent has."""
CONNECT_TYPES: Final[Mapping[tuple[str, str | None], Mapping[str, Any]]] = {
    ("integer", None): {"type": "int32"},
    ("number", None): {"type": "double"},
    ("string", None): {"type": "string"},
    ("string", "date-time"): {"type": "int64", "name": "org.apache.kafka.connect.data.Timestamp", "version": 1},
}
"""Types of JSON Schema in Connect's words: org.apache.kafka.connect.json.JsonSchema. A timestamp is in milliseconds."""


class CityWeather(BaseModel):
    """A city and its weather. What the provider left out is null; readers ignore fields that they do not know."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, use_attribute_docstrings=True)

    city_id: int
    """The provider's id of the city."""
    name: str | None
    country: str | None
    """ISO 3166 code of two letters."""
    latitude: float | None
    longitude: float | None
    fetched_at: AwareDatetime | None
    """When it was fetched from the provider."""
    observed_at: AwareDatetime | None
    """When it was so, as the provider says."""
    temperature: float | None
    """°C."""
    humidity: float | None
    """Relative humidity, %."""
    feels_like: float | None
    """°C."""
    pressure: float | None
    """hPa."""
    wind_speed: float | None
    """m/s."""
    wind_deg: float | None
    """Degrees it blows from."""
    clouds: float | None
    """% of the sky."""
    visibility: float | None
    """m."""
    rain_1h: float | None
    """mm in the last hour."""
    snow_1h: float | None
    """mm in the last hour."""
    condition_id: int | None
    """Weather code of the provider."""
    description: str | None
    utc_offset_s: int | None
    """Seconds that local time is ahead of UTC."""

    @property
    def key(self) -> bytes:
        """The message's key: all of a city is in one partition."""
        return str(self.city_id).encode()


class ReadingMessage(CityWeather):
    """What was stored for one city of one collection. It is final unless a failover loses it."""

    collection_id: str
    status: Literal["collected", "failed"]
    reason: str | None
    """Why it failed."""

    @property
    def subject(self) -> str:
        """Whose reading it is. A later collection may have the same id."""
        return f"{self.collection_id}/{self.city_id}"


class LatestMessage(CityWeather):
    """The latest weather of a city."""

    fetched_at: AwareDatetime
    """When it was fetched from the provider."""

    @property
    def subject(self) -> str:
        """Whose weather it is."""
        return str(self.city_id)


def headers(message: ReadingMessage | LatestMessage, time: datetime) -> tuple[tuple[str, bytes], ...]:
    """The attributes of a CloudEvent that happened at that time: its id is the same whenever it is published."""
    attributes = {
        "ce_specversion": "1.0",
        "ce_id": f"{message.subject}/{time.isoformat()}",
        "ce_source": SOURCE,
        "ce_type": type_of(type(message)),
        "ce_time": utc_text(time),
        "content-type": CONTENT_TYPE,
    }
    return tuple((name, value.encode()) for name, value in attributes.items())


def structured(headers: Iterable[tuple[str, bytes]], value: bytes | None) -> bytes:
    """The same CloudEvent in structured mode: one JSON object on one line, with the value as `data`.

    Raises:
        Permanent: it is no CloudEvent, or its value is not JSON.
    """
    attributes = {name.removeprefix("ce_"): text.decode() for name, text in headers if name.startswith("ce_")}
    if missing := REQUIRED - attributes.keys():
        raise Permanent(f"the message is no CloudEvent: it has no {', '.join(sorted(missing))}")
    if value is None:
        return json.dumps(attributes).encode()
    try:
        data = json.loads(value)
    except ValueError as error:
        raise Permanent("the value is not JSON") from error
    event = {**attributes, "datacontenttype": CONTENT_TYPE, "data": data}
    return json.dumps(event, separators=(",", ":")).encode()


def type_of(model: type[CityWeather]) -> str:
    """The CloudEvents type: `raingauge.reading` or `raingauge.latest`."""
    return f"raingauge.{model.__name__.removesuffix('Message').lower()}"


def encode(message: CityWeather, form: StreamFormat) -> bytes:
    """The message's value."""
    if form == "json":
        return message.model_dump_json().encode()
    payload = {name: _milliseconds(value) for name, value in message.model_dump().items()}
    return json.dumps({"schema": connect_schema(type(message)), "payload": payload}, separators=(",", ":")).encode()


def _milliseconds(value: Any) -> Any:
    return (value - EPOCH) // timedelta(milliseconds=1) if isinstance(value, datetime) else value


@cache
def connect_schema(model: type[CityWeather]) -> Mapping[str, Any]:
    """The schema of a message in the words of Kafka Connect."""
    properties = model.model_json_schema(mode="serialization")["properties"]
    fields = []
    for name, described in properties.items():
        kinds = [kind for kind in described.get("anyOf", [described]) if kind["type"] != "null"]
        optional = len(kinds) < len(described.get("anyOf", kinds))
        fields.append({"field": name, "optional": optional, **CONNECT_TYPES[kinds[0]["type"], kinds[0].get("format")]})
    return {"type": "struct", "name": type_of(model), "optional": False, "fields": fields}


def value_schema(model: type[CityWeather], form: StreamFormat) -> dict[str, Any]:
    """The JSON Schema of a message's value in this format."""
    schema = model.model_json_schema(mode="serialization")
    if form == "json":
        return schema
    for described in schema["properties"].values():
        for kind in described.get("anyOf", [described]):
            if kind.pop("format", None) == "date-time":
                kind |= {"type": "integer", "description": "Milliseconds since 1970."}
    return {
        "type": "object",
        "title": schema["title"],
        "required": ["schema", "payload"],
        "properties": {"schema": {"const": connect_schema(model)}, "payload": schema},
    }
