"""The messages of the streams: CloudEvents, JSON as their schema says, and the same in the form of Kafka Connect."""

import json
from datetime import UTC, datetime
from typing import Any

import jsonschema
import pytest

from raingauge.errors import Permanent
from raingauge.model import StreamFormat
from raingauge.streams import (
    CityWeather,
    LatestMessage,
    ReadingMessage,
    connect_schema,
    encode,
    headers,
    structured,
    value_schema,
)

NOON = datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=UTC)
WEATHER: dict[str, Any] = dict.fromkeys(CityWeather.model_fields) | {
    "city_id": 3439525,
    "name": "Young",
    "fetched_at": NOON,
    "temperature": 19.4,
    "condition_id": 800,
}
READING = ReadingMessage(**WEATHER, collection_id="1", status="collected", reason=None)
FAILED = ReadingMessage(
    **dict.fromkeys(CityWeather.model_fields) | {"city_id": 7}, collection_id="a.b", status="failed", reason="née"
)
LATEST = LatestMessage(**WEATHER)
EACH = pytest.mark.parametrize("message", [READING, FAILED, LATEST], ids=["collected", "failed", "latest"])


def test_the_headers_are_those_of_a_cloud_event_in_binary_mode() -> None:
    assert dict(headers(READING, NOON)) == {
        "ce_specversion": b"1.0",
        "ce_id": b"1/3439525/2026-11-20T12:00:00.123456+00:00",
        "ce_source": b"/raingauge",
        "ce_type": b"raingauge.reading",
        "ce_time": b"2026-11-20T12:00:00.123Z",
        "content-type": b"application/json",
    }
    assert dict(headers(LATEST, NOON))["ce_id"] == b"3439525/2026-11-20T12:00:00.123456+00:00"
    assert READING.key == LATEST.key == b"3439525"


@EACH
@pytest.mark.parametrize("form", ["json", "connect-json"])
def test_a_value_is_what_its_schema_says_and_nothing_else_is(message: CityWeather, form: StreamFormat) -> None:
    validator = jsonschema.Draft202012Validator(value_schema(type(message), form))
    validator.check_schema(validator.schema)
    value = json.loads(encode(message, form))
    validator.validate(value)
    weather = value if form == "json" else value["payload"]
    for wrong in ({"city_id": "7"}, {"temperature": "hot"}, {"fetched_at": False}):
        assert not validator.is_valid({**value, **wrong} if weather is value else {**value, "payload": weather | wrong})
    del weather["humidity"]
    assert not validator.is_valid(value)


def test_plain_json_has_the_names_of_the_fields_and_times_in_utc() -> None:
    value = json.loads(encode(READING, "json"))
    assert list(value) == list(ReadingMessage.model_fields)
    assert (value["fetched_at"], value["temperature"]) == ("2026-11-20T12:00:00.123456Z", 19.4)


def test_connect_json_has_each_field_with_its_type() -> None:
    value = json.loads(encode(LATEST, "connect-json"))
    types = {
        field["field"]: (field["type"], field.get("name"), field["optional"]) for field in value["schema"]["fields"]
    }
    assert types.keys() == value["payload"].keys()
    assert types["city_id"] == ("int32", None, False)
    assert types["temperature"] == ("double", None, True)
    assert types["observed_at"] == ("int64", "org.apache.kafka.connect.data.Timestamp", True)
    assert value["payload"]["fetched_at"] == 1_795_176_000_123
    assert connect_schema(ReadingMessage)["name"] == "raingauge.reading"


@EACH
@pytest.mark.parametrize("form", ["json", "connect-json"])
def test_in_structured_mode_an_event_is_one_line_with_the_attributes_and_the_value_as_data(
    message: ReadingMessage | LatestMessage, form: StreamFormat
) -> None:
    line = structured(headers(message, NOON), encode(message, form))
    assert b"\n" not in line
    event = json.loads(line)
    assert event.pop("data") == json.loads(encode(message, form))
    assert event == {
        "specversion": "1.0",
        "id": f"{message.subject}/2026-11-20T12:00:00.123456+00:00",
        "source": "/raingauge",
        "type": connect_schema(type(message))["name"],
        "time": "2026-11-20T12:00:00.123Z",
        "datacontenttype": "application/json",
    }


def test_in_structured_mode_an_event_without_a_value_has_no_data() -> None:
    assert json.loads(structured(headers(READING, NOON), None)).keys().isdisjoint({"data", "datacontenttype"})


@pytest.mark.parametrize(
    ("attributes", "value", "why"),
    [
        (headers(READING, NOON)[1:], b"1", "it has no specversion"),
        ((), b"1", "it has no id, source, specversion, type"),
        (headers(READING, NOON), b"\x80", "not JSON"),
        (headers(READING, NOON), b"", "not JSON"),
    ],
)
def test_what_is_no_event_is_refused_for_good(attributes: Any, value: bytes, why: str) -> None:
    with pytest.raises(Permanent, match=why):
        structured(attributes, value)
