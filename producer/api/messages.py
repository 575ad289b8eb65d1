"""What is on Kafka, for its readers: `/asyncapi.json` (AsyncAPI 3.0) and the JSON Schema of each message's value.

All of it is generated from the models that write the messages, so it must not describe anything by hand.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from producer.api.parts import SettingsDep
from raingauge.contracts import BatchMessage, EventMessage
from raingauge.model import StreamFormat
from raingauge.settings import Settings
from raingauge.streams import CONTENT_TYPE, LatestMessage, ReadingMessage, type_of, value_schema
from raingauge.web import shown

router = APIRouter(include_in_schema=False)

JSON_SCHEMA: Final = "https://json-schema.org/draft/2020-12/schema"
ASYNCAPI: Final = "3.0.0"
STREAMS: Final[dict[str, type[ReadingMessage | LatestMessage]]] = {"reading": ReadingMessage, "latest": LatestMessage}


@dataclass(frozen=True, slots=True)
class Channel:
    """A topic, and the message in it."""

    name: str
    address: str
    message: str
    key: str
    """What the key is, in words."""
    summary: str


def schemas(settings: Settings) -> Mapping[str, dict[str, Any]]:
    """The JSON Schema of the value of each message, by the message's name."""
    return _schemas(settings.streams.format)


@cache
def _schemas(form: StreamFormat) -> Mapping[str, dict[str, Any]]:
    own: dict[str, type[BaseModel]] = {"batch": BatchMessage, "event": EventMessage}
    values = {name: model.model_json_schema(mode="serialization") for name, model in own.items()}
    values["batch"]["required"].remove("traceparent")  # a message without one has no such field
    return values | {name: value_schema(model, form) for name, model in STREAMS.items()}


def asyncapi(settings: Settings, title: str, version: str) -> dict[str, Any]:
    """The topics, and what is published in them."""
    channels = _channels(settings)
    values = schemas(settings)
    return {
        "asyncapi": ASYNCAPI,
        "info": {"title": title, "version": version, "description": "What Raingauge publishes on Kafka."},
        "defaultContentType": CONTENT_TYPE,
        "channels": {
            channel.name: {
                "address": channel.address,
                "summary": channel.summary,
                "messages": {channel.message: {"$ref": f"#/components/messages/{channel.message}"}},
            }
            for channel in channels
        },
        "operations": {
            f"publish_{channel.name}": {"action": "send", "channel": {"$ref": f"#/channels/{channel.name}"}}
            for channel in channels
        },
        "components": {
            "messages": {channel.message: _message(channel) for channel in channels},
            "schemas": {channel.message: values[channel.message] for channel in channels},
        },
    }


def _channels(settings: Settings) -> list[Channel]:
    broker, streams = settings.broker, settings.streams
    channels = [
        Channel("batches", broker.topic, "batch", "collection id/batch", "Batches of cities, for the consumers."),
        Channel("events", broker.events_topic, "event", "event id", "What users are notified of."),
    ]
    if streams.enabled:
        channels += [
            Channel("readings", streams.readings_topic, "reading", "city id", "Each stored reading, at least once."),
            Channel("latest", streams.latest_topic, "latest", "city id", "The latest weather of each city, compacted."),
        ]
    return channels


def _message(channel: Channel) -> dict[str, Any]:
    message: dict[str, Any] = {
        "name": channel.message,
        "contentType": CONTENT_TYPE,
        "payload": {"$ref": f"#/components/schemas/{channel.message}"},
        "bindings": {"kafka": {"key": {"type": "string", "description": channel.key}, "bindingVersion": "0.5.0"}},
    }
    if channel.message in STREAMS:
        message["headers"] = _cloud_event(type_of(STREAMS[channel.message]))
    return message


def _cloud_event(kind: str) -> dict[str, Any]:
    """The headers of a CloudEvent of this type."""
    fixed = {"ce_specversion": "1.0", "ce_type": kind, "content-type": CONTENT_TYPE}
    properties: dict[str, Any] = {name: {"type": "string", "const": value} for name, value in fixed.items()}
    properties |= {"ce_id": {"type": "string"}, "ce_source": {"type": "string", "format": "uri-reference"}}
    properties["ce_time"] = {"type": "string", "format": "date-time"}
    return {"type": "object", "required": sorted(properties), "properties": properties}


@router.get("/asyncapi.json")
async def messages(request: Request, settings: SettingsDep) -> dict[str, Any]:
    """The document."""
    return asyncapi(settings, request.app.title, request.app.version)


@router.get("/schemas/{name}.json")
async def schema(name: str, settings: SettingsDep) -> dict[str, Any]:
    """The schema of one message."""
    described = schemas(settings)
    if name not in described:
        raise HTTPException(404, f"there is no schema {shown(name)}; there are {', '.join(described)}")
    return {"$schema": JSON_SCHEMA, **described[name]}
