"""The messages: what is written can be read, and nothing that is read can do anything but be read or be refused."""

import json
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from raingauge.contracts import MAX_CITY_ID, MAX_MESSAGE_BYTES, BatchMessage, decode, describe, split, utc_text
from raingauge.errors import NewerMessage, UndecodableMessage
from raingauge.model import BATCH_SIZE

LARGEST = 2**31 - 1
HUGE = 10**4000
SPOKEN: dict[str, Any] = {
    "version": 1,
    "collection_id": "1",
    "batch": 0,
    "batches": 9,
    "total": 167,
    "max_age_s": 600,
    "requested_at": "2026-11-20T16:00:00Z",
    "city_ids": [2_643_743, 2_988_507],
}

numbers = st.integers(0, LARGEST)
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
messages = st.builds(
    BatchMessage,
    version=st.just(1),
    collection_id=st.from_regex(r"[A-Za-z0-9._:-]{1,64}", fullmatch=True),
    batch=numbers,
    batches=st.integers(1, LARGEST),
    total=st.integers(1, LARGEST),
    max_age_s=numbers,
    requested_at=st.datetimes(datetime(1970, 1, 2), datetime(9000, 1, 1), timezones=zones | st.just(UTC)),
    city_ids=st.lists(st.integers(1, MAX_CITY_ID), min_size=1, max_size=BATCH_SIZE).map(tuple),
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def spoken(**changes: Any) -> bytes:
    return json.dumps(SPOKEN | changes).encode()


@given(messages)
def test_what_is_written_can_be_read(message: BatchMessage) -> None:
    value = message.encode()
    assert decode(value) == message
    assert len(value) < MAX_MESSAGE_BYTES
    assert json.loads(value.decode("utf-8"))["city_ids"] == list(message.city_ids)


def test_the_documented_message_is_read_and_written_as_it_stands() -> None:
    message = decode(spoken())
    assert message.requested_at == datetime(2026, 11, 20, 16, tzinfo=UTC)
    assert json.loads(message.encode()) == SPOKEN
    assert message.key == "1/0"
    assert decode(json.dumps(SPOKEN).encode("utf-8-sig")) == message, "a byte order mark does no harm"
    assert decode(spoken(priority=3, more={"x": [None]})) == message, "a newer producer may add fields"
    with pytest.raises(ValidationError):
        message.batch = 5  # type: ignore[misc]


def test_a_newer_version_is_not_a_message_without_a_version() -> None:
    for version in (2, 99, HUGE):
        with pytest.raises(NewerMessage, match="upgrade the consumers first"):
            decode(spoken(version=version, city_ids="in some new shape"))
    for no_version in (0, -1, True, 1.0, "1", None, [1]):
        with pytest.raises(UndecodableMessage, match="no version"):
            decode(spoken(version=no_version))


NO_NUMBERS = [True, -1, 1.5, 1.0, "1", None, LARGEST + 1, HUGE, [1]]
NO_IDS = [True, 0, -1, 1.0, "1", None, MAX_CITY_ID + 1, HUGE, [1]]
WRONG: dict[str, list[Any]] = {
    "batch": NO_NUMBERS,
    "batches": [0, *NO_NUMBERS],
    "total": [0, *NO_NUMBERS],
    "max_age_s": NO_NUMBERS,
    "city_ids": [[], list(range(1, BATCH_SIZE + 2)), "12", {"1": 2}, 5, None, *([1, no] for no in NO_IDS)],
    "collection_id": ["", "a" * 65, "a b", "a/b", "a\n", "ä", 1, None, True, "\x00"],
    "requested_at": ["2026-11-20T16:00:00", "yesterday", None, [], "99999-01-01T00:00:00Z"],
}


@pytest.mark.parametrize("name", WRONG)
def test_a_field_that_is_missing_or_out_of_range_is_refused_by_its_name(name: str) -> None:
    assert WRONG.keys() == SPOKEN.keys() - {"version"}
    without = json.dumps({key: SPOKEN[key] for key in SPOKEN if key != name}).encode()
    for value in [without, *(spoken(**{name: wrong}) for wrong in WRONG[name])]:
        with pytest.raises(UndecodableMessage, match=rf"^{name}(\.1)?: "):
            decode(value)


def test_fields_at_their_limits_are_read() -> None:
    for name, least in (("batch", 0), ("batches", 1), ("total", 1), ("max_age_s", 0)):
        for number in (least, LARGEST):
            assert getattr(decode(spoken(**{name: number})), name) == number
    assert len(decode(spoken(city_ids=list(range(1, BATCH_SIZE + 1)))).city_ids) == BATCH_SIZE


NO_MESSAGES = [
    *(None, b"", b"null", b"[]", b'"text"', b"{", b"\xff\xfe\x00"),
    *(b"[" * 200_000, b'{"version":' * 100_000, b"9" * 5000),
    *(b'{"version":' + value + b"}" for value in (b"1" * 5000, b"NaN", b"1e999", b"1", b'1,"collection_id":"\\ud800"')),
]


@pytest.mark.parametrize("value", NO_MESSAGES, ids=lambda value: repr(value)[:20])
def test_what_is_no_message_is_undecodable(value: bytes | None) -> None:
    with pytest.raises(UndecodableMessage):
        decode(value)


@given(
    st.binary(max_size=300)
    | anything.map(lambda value: json.dumps(value).encode())
    | st.builds(lambda name, value: spoken(**{name: value}), st.sampled_from(sorted(SPOKEN)), anything)
)
@example(b"\xef\xbb\xbf{}")
@example("{}".encode("utf-16"))
def test_any_bytes_and_any_value_in_a_field_are_read_or_refused(value: bytes) -> None:
    with suppress(UndecodableMessage, NewerMessage):
        message = decode(value)
        assert decode(message.encode()) == message


def test_errors_are_described_without_the_values() -> None:
    with pytest.raises(ValidationError) as refused:
        BatchMessage.model_validate(SPOKEN | {"collection_id": "geheim geheim", "batch": -7})
    described = describe(refused.value)
    assert re.fullmatch("collection_id: String should match .*; batch: Input should be greater than .* 0", described)
    assert "geheim" not in described
    with pytest.raises(ValidationError) as refused:
        BatchMessage.model_validate([])
    assert describe(refused.value).startswith("message: ")


@given(st.lists(st.integers(1, MAX_CITY_ID), max_size=200))
def test_cities_are_cut_into_batches_in_their_order(city_ids: list[int]) -> None:
    batches = split(city_ids)
    assert [city_id for batch in batches for city_id in batch] == city_ids
    assert all(len(batch) == BATCH_SIZE for batch in batches[:-1])
    assert all(1 <= len(batch) <= BATCH_SIZE for batch in batches)
    assert [len(batch) for batch in split(range(1, 168))] == [20] * 8 + [7], "the default cities"


def test_times_are_written_in_utc_to_the_millisecond() -> None:
    for microsecond, text in ((0, ".000Z"), (999, ".000Z"), (1000, ".001Z"), (999_999, ".999Z")):
        assert utc_text(datetime(2026, 11, 20, 6, 5, 4, microsecond, tzinfo=UTC)) == f"2026-11-20T06:05:04{text}"
