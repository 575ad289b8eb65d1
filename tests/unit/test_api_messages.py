"""`/asyncapi.json` and `/schemas/…`: what is on Kafka, as its readers see it."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import jsonschema
import pytest

from producer.api.messages import asyncapi, schemas
from raingauge.contracts import BatchMessage, EventMessage
from raingauge.database import Database
from raingauge.settings import Settings, StreamSettings
from raingauge.streams import CityWeather, LatestMessage, encode, headers
from tests.api_support import NOON, Front, assert_problem

ON = Settings(streams=StreamSettings(enabled=True, latest_topic="newest"))
BATCH = BatchMessage(collection_id="1", batch=0, batches=1, total=2, max_age_s=0, requested_at=NOON, city_ids=(7, 8))
EVENT = EventMessage(event_id=UUID(int=7), type="message", user_id="1234", description="rain", created_at=NOON)
LATEST = LatestMessage(**dict.fromkeys(CityWeather.model_fields) | {"city_id": 7, "fetched_at": NOON})


def resolved(document: dict[str, Any], reference: str) -> Any:
    node: Any = document
    for name in reference.removeprefix("#/").split("/"):
        node = node[name]
    return node


def references(node: Any) -> Iterator[str]:
    for name, value in node.items() if isinstance(node, dict) else enumerate(node if isinstance(node, list) else ()):
        if name == "$ref":
            yield value
        else:
            yield from references(value)


def test_the_document_has_the_parts_that_asyncapi_3_needs_and_the_topics_that_exist() -> None:
    document = asyncapi(ON, "Raingauge", "0.1.0")
    info = document["info"]
    assert (document["asyncapi"], info["title"], info["version"]) == ("3.0.0", "Raingauge", "0.1.0")
    topics = {"batches": "cities", "events": "events", "readings": "readings", "latest": "newest"}
    assert {name: channel["address"] for name, channel in document["channels"].items()} == topics
    assert asyncapi(Settings(), "", "")["channels"].keys() == {"batches", "events"}
    published = {operation["channel"]["$ref"]: operation["action"] for operation in document["operations"].values()}
    assert published == {f"#/channels/{name}": "send" for name in document["channels"]}
    for channel in document["channels"].values():
        for message in channel["messages"].values():
            payload = resolved(document, resolved(document, message["$ref"])["payload"]["$ref"])
            jsonschema.Draft7Validator.check_schema(payload)
    assert len(list(references(document))) == 12
    for reference in references(document):
        assert resolved(document, reference)


def test_the_headers_of_a_message_are_those_of_the_document() -> None:
    described = asyncapi(ON, "", "")["components"]["messages"]["latest"]["headers"]
    written = {name: value.decode() for name, value in headers(LATEST, NOON)}
    jsonschema.validate(written, described)
    assert not jsonschema.Draft202012Validator(described).is_valid(written | {"ce_type": "raingauge.reading"})
    assert set(described["required"]) == written.keys()


@pytest.mark.parametrize(
    ("name", "value"),
    [("batch", BATCH.encode()), ("event", EVENT.model_dump_json().encode()), ("latest", encode(LATEST, "json"))],
)
def test_real_messages_are_as_their_schemas_say(name: str, value: bytes) -> None:
    message = json.loads(value)
    validator = jsonschema.Draft202012Validator(schemas(ON)[name])
    validator.validate(message)
    for field in message:
        assert not validator.is_valid({key: other for key, other in message.items() if key != field}), field


async def test_document_and_schemas_are_served(sqlite: Database) -> None:
    front = Front(sqlite, settings=ON)
    assert (await front.http.get("/asyncapi.json")).json() == asyncapi(ON, "Raingauge", "0.1.0")
    for name, schema in schemas(ON).items():
        served = (await front.http.get(f"/schemas/{name}.json")).json()
        assert served == {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    answer = await front.http.get("/schemas/weather.json")
    assert_problem(answer, 404, "there is no schema weather; there are batch, event, reading, latest")
