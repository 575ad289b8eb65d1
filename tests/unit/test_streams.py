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
NOTHING: dict[str, Any] = dict.fromkeys(CityWeather.model_fields)
WEATHER = {"city_id": 3439525, "name": "Young", "fetched_at": NOON, "temperature": 19.4, "condition_id": 800}
READING = ReadingMessage(**NOTHING | WEATHER, collection_id="1", status="collected", reason=None)
FAILED = ReadingMessage(**NOTHING | {"city_id": 7}, collection_id="a.b", status="failed", reason="née")
LATEST = LatestMessage(**NOTHING | WEATHER)
EACH = pytest.mark.parametrize("message", [READING, FAILED, LATEST], ids=["collected", "failed", "latest"])


def test_the_headers_are_those_of_a_cloud_event_in_binary_mode() -> None:
    fixed = {"ce_specversion": b"1.0", "ce_source": b"/raingauge", "content-type": b"application/json"}
    own = {
        "ce_id": b"1/3439525/2026-11-20T12:00:00.123456+00:00",
        "ce_type": b"raingauge.reading",
        "ce_time": b"2026-11-20T12:00:00.123Z",
    }
    assert dict(headers(READING, NOON)) == fixed | own
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
    fields = {field.pop("field"): field for field in value["schema"]["fields"]}
    assert fields.keys() == value["payload"].keys()
    moment = {"type": "int64", "name": "org.apache.kafka.connect.data.Timestamp", "version": 1, "optional": True}
    assert fields["city_id"] == {"type": "int32", "optional": False}
    assert (fields["temperature"], fields["observed_at"]) == ({"type": "double", "optional": True}, moment)
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
    fixed = {"specversion": "1.0", "source": "/raingauge", "datacontenttype": "application/json"}
    own = {
        "id": f"{message.subject}/2026-11-20T12:00:00.123456+00:00",
        "type": connect_schema(type(message))["name"],
        "time": "2026-11-20T12:00:00.123Z",
    }
    assert event == fixed | own


def test_in_structured_mode_an_event_may_have_no_value_and_what_is_no_event_is_refused_for_good() -> None:
    whole = headers(READING, NOON)
    assert json.loads(structured(whole, None)).keys().isdisjoint({"data", "datacontenttype"})
    for attributes, why in ((whole[1:], "it has no specversion"), ((), "it has no id, source, specversion, type")):
        with pytest.raises(Permanent, match=why):
            structured(attributes, b"1")
    for value in (b"\x80", b""):
        with pytest.raises(Permanent, match="not JSON"):
            structured(whole, value)
