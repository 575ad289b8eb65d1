"""Interpretation of OpenWeather's answers, fed with recorded bodies; no network."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consumer.provider.http import Response
from consumer.provider.openweather import GROUP, SINGLE, Endpoint, classify, retry_after_s, shape_of
from consumer.provider.port import Reason, Refusal, Reply, Weather
from consumer.provider.redaction import redactor
from raingauge.errors import ProviderUnavailable, Unreadable
from raingauge.model import Observation

NOW = datetime(2025, 11, 20, 12, 0, tzinfo=UTC)
KEY = "0123456789abcdef0123456789abcdef"

INVALID_KEY = (
    b'{"cod":401, "message": "Invalid API key. Please see https://openweathermap.org/faq#error401 for more info."}'
)
NOT_FOUND = b'{"cod":"404","message":"city not found"}'
NO_DATA = b'{"cod":"404","message":"No data: 404006"}'
NOT_AN_ID = b'{"cod":"400","message":"x is not a city ID"}'
NOTHING_TO_GEOCODE = b'{"cod":"400","message":"Nothing to geocode"}'
OTHER_PATH = b'{"cod":"404","message":"Internal error"}'
INVALID_ID = b'{"cod":"400","message":"Invalid ID"}'
TOO_MANY_IDS = b'{"cod":"400","message":"id list must be in range from 1 to 20"}'
OVER_THE_PLAN = (
    b'{"cod":429, "message": "Your account is temporary blocked due to exceeding of requests limitation of your '
    b'subscription type. Please choose the proper subscription https://openweathermap.org/price"}'
)
INTERNAL = b'{"cod":"500","message":"Internal error: 500000"}'
PROXY_PAGE = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>nginx</body>\r\n</html>\r\n"
OTHER_JSON = b'{"message":"Forbidden"}'

YOUNG = (
    b'{"coord":{"lon":-57.63,"lat":-32.7},"sys":{"country":"UY","timezone":-10800,"sunrise":1699953000,'
    b'"sunset":1700003000},"weather":[{"id":800,"main":"Clear","description":"clear sky","icon":"01d"}],'
    b'"main":{"temp":19.4,"feels_like":18.9,"temp_min":19,"temp_max":20.1,"pressure":1016,"humidity":55},'
    b'"visibility":10000,"wind":{"speed":1.5,"deg":220},"clouds":{"all":0},"dt":1700012345,"id":3439525,"name":"Young"}'
)
GROUP_BODY = b'{"cnt":1,"list":[' + YOUNG + b"]}"
SINGLE_BODY = YOUNG[:-1] + b',"base":"stations","timezone":-10800,"cod":200,"rain":{"1h":0.25},"snow":{"1h":1}}'

Call = tuple[Endpoint, tuple[int, ...]]
ONE: Call = (SINGLE, (7,))
GROUP_OF_ONE: Call = (GROUP, (7,))
GROUP_OF_MANY: Call = (GROUP, (7, 8))
UNKNOWN = Weather({}, unknown=frozenset({7}))


def reply_to(status: int, body: bytes, call: Call = ONE, headers: Mapping[str, str] | None = None) -> Reply:
    endpoint, city_ids = call
    return classify(Response(status, headers or {}, body), city_ids, endpoint, redactor(KEY), NOW)


def group(*entries: object, asked: Sequence[int] = (7,)) -> Weather:
    reply = reply_to(200, json.dumps({"cnt": len(entries), "list": entries}).encode(), (GROUP, tuple(asked)))
    assert isinstance(reply, Weather)
    return reply


def entry(city_id: object = 7, **changes: object) -> dict[str, Any]:
    return {"id": city_id, "dt": 1700012345, "main": {"temp": 12, "humidity": 40}, **changes}


def seen(**changes: object) -> Observation:
    return group(entry(**changes)).observations[7]


def test_a_group_answer_is_read_whole() -> None:
    observed_at = datetime.fromtimestamp(1700012345, UTC)
    young = Observation(3439525, "Young", "UY", -32.7, -57.63, observed_at, temperature=19.4, humidity=55)
    air = {"feels_like": 18.9, "pressure": 1016, "wind_speed": 1.5, "wind_deg": 220, "clouds": 0, "visibility": 10000}
    sky = {"condition_id": 800, "description": "clear sky", "utc_offset_s": -10800}
    expected = young._replace(**air, **sky)  # type: ignore[arg-type]
    assert reply_to(200, GROUP_BODY, (GROUP, (3439525,))) == Weather({3439525: expected})


def test_a_single_answer_has_the_same_and_its_time_zone_at_the_top() -> None:
    body = json.loads(SINGLE_BODY)
    del body["sys"]["timezone"]
    reply = reply_to(200, json.dumps(body).encode(), (SINGLE, (3439525,)))
    assert isinstance(reply, Weather)
    observation = reply.observations[3439525]
    assert (observation.utc_offset_s, observation.rain_1h, observation.snow_1h) == (-10800, 0.25, 1.0)
    assert (observation.name, observation.temperature, observation.country) == ("Young", 19.4, "UY")


def refused(reason: Reason, status_or_message: int | str, closes: bool = True) -> Refusal:
    """A refusal with this message, or with a body that is not the provider's own."""
    if isinstance(status_or_message, str):
        return Refusal(reason, status_or_message, closes=closes)
    return Refusal(reason, f"HTTP {status_or_message} without the provider's own body", closes=False)


@pytest.mark.parametrize(
    ("status", "body", "call", "reply"),
    [
        (404, NOT_FOUND, ONE, UNKNOWN),
        (404, NO_DATA, GROUP_OF_ONE, UNKNOWN),
        (404, NO_DATA, GROUP_OF_MANY, refused(Reason.CITIES, "No data: 404006")),
        (404, NOT_FOUND, GROUP_OF_MANY, refused(Reason.CITIES, "city not found")),
        (400, NOT_AN_ID, ONE, UNKNOWN),
        (404, OTHER_PATH, ONE, refused(Reason.ENDPOINT, "Internal error", closes=False)),
        (404, OTHER_PATH, GROUP_OF_MANY, refused(Reason.ENDPOINT, "Internal error", closes=False)),
        (400, NOTHING_TO_GEOCODE, GROUP_OF_MANY, refused(Reason.CITIES, "Nothing to geocode")),
        (400, INVALID_ID, GROUP_OF_ONE, UNKNOWN),
        (400, TOO_MANY_IDS, GROUP_OF_MANY, refused(Reason.CITIES, "id list must be in range from 1 to 20")),
        (401, INVALID_KEY, GROUP_OF_MANY, refused(Reason.KEY, json.loads(INVALID_KEY)["message"])),
        (403, b'{"cod":403,"message":"blocked"}', ONE, refused(Reason.KEY, "blocked", closes=False)),
        (429, OVER_THE_PLAN, GROUP_OF_MANY, refused(Reason.QUOTA, json.loads(OVER_THE_PLAN)["message"])),
        (429, PROXY_PAGE, ONE, refused(Reason.QUOTA, 429)),
        (404, PROXY_PAGE, ONE, refused(Reason.ENDPOINT, 404)),
        (404, OTHER_JSON, GROUP_OF_MANY, refused(Reason.ENDPOINT, 404)),
        (410, b"", GROUP_OF_ONE, refused(Reason.ENDPOINT, 410)),
        (410, b'{"cod":410,"message":"gone"}', ONE, refused(Reason.ENDPOINT, "gone", closes=False)),
        *[
            (status, PROXY_PAGE, call, refused(Reason.ENDPOINT, status))
            for status in (301, 308, 403, 405, 501)
            for call in (GROUP_OF_ONE, GROUP_OF_MANY)
        ],
    ],
)
def test_each_refusal_is_told_by_its_status_and_its_body(status: int, body: bytes, call: Call, reply: Reply) -> None:
    assert reply_to(status, body, call) == reply


FOREIGN = {
    200: [
        *(b"", PROXY_PAGE, b"[]", b"null", b"{}", b"\xff\xfe\x00", NOT_FOUND, SINGLE_BODY, SINGLE_BODY[:-1]),
        *(b"[" * 100_000, b'{"id":' + b"9" * 5000 + b"}"),
    ],
    204: [b""],
    206: [SINGLE_BODY],
    302: [b""],
    400: [PROXY_PAGE],
    401: [PROXY_PAGE, OTHER_JSON, b'{"cod":401,"message":["not","a","text"]}'],
    418: [NOT_FOUND],
    500: [INTERNAL],
    502: [PROXY_PAGE],
    503: [PROXY_PAGE],
    504: [b""],
}


@pytest.mark.parametrize(("status", "body"), [(status, body) for status, bodies in FOREIGN.items() for body in bodies])
@pytest.mark.parametrize("call", [ONE, GROUP_OF_ONE, GROUP_OF_MANY])
def test_what_is_not_an_answer_of_the_providers_own_is_unavailable(status: int, body: bytes, call: Call) -> None:
    with pytest.raises(ProviderUnavailable):
        reply_to(status, body, call)


@pytest.mark.parametrize(
    ("status", "body", "call", "message"),
    [
        # A single endpoint that is blocked: there is no other.
        (403, PROXY_PAGE, ONE, "^HTTP 403"),
        (301, NOT_FOUND, ONE, "^HTTP 301"),
        (405, b"", ONE, "^HTTP 405"),
        # A 400 that is not about the id leaves the city known.
        (400, NOTHING_TO_GEOCODE, ONE, "Nothing to geocode"),
        (500, INTERNAL, ONE, "^HTTP 500: Internal error: 500000$"),
        (200, SINGLE_BODY, (SINGLE, (1,)), "without the requested city"),
        *[
            (200, body, GROUP_OF_MANY, "without a list")
            for body in (b'{"list":{}}', b'{"list":null}', b'{"cnt":1}', b'{"cod":"200","message":"hello"}')
        ],
        # A list that belongs to another call, or is cut off.
        (200, b'{"cnt":0,"list":[]}', GROUP_OF_MANY, "any of the requested"),
        (200, b'{"list":[{"id":9},{"id":10}]}', GROUP_OF_MANY, "any of the requested"),
        (200, b'{"list":[{"main":{"temp":12}}]}', GROUP_OF_MANY, "any of the requested"),
        (200, b'{"cnt":2,"list":[{"id":7}]}', GROUP_OF_MANY, "shorter"),
        (200, b'{"cnt":"2","list":[{"id":7}]}', GROUP_OF_MANY, "shorter"),
    ],
)
def test_an_answer_that_settles_nothing_says_why(status: int, body: bytes, call: Call, message: str) -> None:
    with pytest.raises(ProviderUnavailable, match=message):
        reply_to(status, body, call)


def test_cities_are_matched_by_id_and_neither_others_nor_a_senseless_count_matter() -> None:
    reply = group(entry(9), entry(8, name="B"), entry(7, name="A"), asked=(7, 8, 6))
    assert {city_id: o.name for city_id, o in reply.observations.items()} == {7: "A", 8: "B"}
    assert all(city_id == o.city_id for city_id, o in reply.observations.items())
    assert (reply.unknown, reply.unreadable) == (frozenset({6}), frozenset())
    body = {"cnt": "many", "list": [entry(7)]}
    one = reply_to(200, json.dumps(body).encode(), GROUP_OF_MANY)
    assert one == Weather(group(entry(7)).observations, unknown=frozenset({8}))


@pytest.mark.parametrize(
    "nobody", [None, "7", [], {}, {"main": {"temp": 1}}, entry("eight"), entry("8.0"), entry(8.0), entry(True)]
)
def test_an_absent_city_is_not_called_unknown_while_an_entry_has_no_readable_id(nobody: object) -> None:
    reply = group(entry(7), nobody, asked=(7, 8))
    assert reply.observations.keys() == {7}
    assert (reply.unknown, reply.unreadable) == (frozenset(), frozenset({8}))


TIMES = (None, "noon", True, -1, 10**30, float("nan"))
TEMPERATURES = (None, "12 C", " 12", "٣", "9" * 5000, False, float("nan"), float("inf"), -float("inf"), 10**400, 292.55)


@pytest.mark.parametrize(
    "changes",
    [
        *({"dt": time} for time in TIMES),
        *({"main": main} for main in (None, [12], {}, {"humidity": 40})),
        *({"main": {"temp": temperature}} for temperature in TEMPERATURES),
    ],
)
def test_a_city_without_a_usable_time_or_temperature_is_unreadable(changes: dict[str, object]) -> None:
    reply = group(entry(**changes), entry(8), asked=(7, 8))
    assert (set(reply.observations), set(reply.unreadable)) == ({8}, {7})
    with pytest.raises(Unreadable, match="usable"):
        reply_to(200, json.dumps(entry(**changes)).encode())
    with pytest.raises(Unreadable, match="usable"):
        group(entry(**changes), asked=(7, 8))


def test_numbers_sent_as_text_are_read_as_numbers() -> None:
    body = entry("7", dt="1700012345", main={"temp": "-12.5", "humidity": "40"}, sys={"timezone": "-10800"})
    observation = group(body).observations[7]
    assert (observation.temperature, observation.humidity, observation.utc_offset_s) == (-12.5, 40.0, -10800)
    assert reply_to(200, json.dumps(body).encode()) == Weather({7: observation})


def test_the_shape_of_an_answer_names_fields_and_types_and_never_values_or_the_key() -> None:
    entries = [entry(), entry(main=None), entry(), {KEY: KEY, "name": "Young"}]
    good = "{id: int, dt: int, main: {temp: int, humidity: int}}"
    shape = shape_of(json.dumps({"list": entries}).encode(), redactor(KEY))
    assert shape == f"{{list: [4 of {good} | {{id: int, dt: int, main: null}} | {{***: str, name: str}}]}}"
    for body in (PROXY_PAGE, b"[" * 100_000, b"\xff"):
        assert shape_of(body, redactor(KEY)) == f"{len(body)} bytes that are not JSON"


def test_whole_numbers_are_numbers_and_what_is_left_out_is_none_and_never_zero() -> None:
    observation = seen(main={"temp": 0})
    assert type(observation.temperature) is float
    observed_at = datetime.fromtimestamp(1700012345, UTC)
    assert observation == Observation(7, None, None, None, None, observed_at, 0.0, None)


NONSENSE: dict[str, list[dict[str, object]]] = {
    "name": [{"name": 5}, {"name": ""}, {"name": "\u0000"}],
    "latitude": [{"coord": {"lat": 91, "lon": 0}}],
    "longitude": [{"coord": {"lat": 1, "lon": "east"}}],
    "country": [{"sys": {"country": "Uruguay"}}, {"sys": {"country": None}}],
    "utc_offset_s": [{"sys": {"timezone": 10**9}}, {"sys": {"timezone": 1.5}}],
    "humidity": [{"main": {"temp": 1, "humidity": float("nan")}}, {"main": {"temp": 1, "humidity": True}}],
    "wind_speed": [{"wind": []}],
    "wind_deg": [{"wind": {"deg": 1e300}}],
    "clouds": [{"clouds": 5}],
    "visibility": [{"visibility": -1}],
    "rain_1h": [{"rain": {"1h": "wet"}}],
    "snow_1h": [{"snow": 3}],
    "condition_id": [{"weather": w} for w in ([], [None], [{"id": 10**12}], {"id": 800})],
    "description": [{"weather": [{"description": 1}]}],
}


@pytest.mark.parametrize(("field", "changes"), [(field, each) for field, all_ in NONSENSE.items() for each in all_])
def test_an_optional_field_that_makes_no_sense_is_left_out(field: str, changes: dict[str, object]) -> None:
    assert getattr(seen(**changes), field) is None
    assert seen(main={"temp": 1, "humidity": 102}).humidity == 102, "supersaturated air"


def test_names_are_cut_and_cleaned_of_what_databases_refuse() -> None:
    observation = seen(name="S\u00e3o\u0000 Paulo\n \ud800\U0001f327" + "x" * 300, weather=[{"description": "y" * 300}])
    assert observation.name == ("S\u00e3o Paulo \U0001f327" + "x" * 300)[:200]
    assert observation.description == "y" * 200


@pytest.mark.parametrize(
    ("seconds", "headers"),
    [
        (0.0, ["0"]),
        (1.5, ["1.5"]),
        (8.0, [f"{NOW.timestamp() + 8:.0f}", f"{NOW.timestamp() * 1000 + 8000:.0f}"]),
        (30.0, ["30", " 30 "]),
        (53.0, ["50, 53"]),
        (90.0, [f"Thu, 20 Nov 2025 {zoned}" for zoned in ("12:01:30 GMT", "12:01:30 -0000", "14:01:30 +0200")]),
        (86400.0, [f"{NOW.timestamp() + 86400:.0f}"]),
        (189302400.0, ["Thu, 20 Nov 2031 12:00:00 GMT"]),
        (float("inf"), ["9" * 5000]),
        (None, [None, "", "-1", "1, soon", "٣", "soon", f"{NOW.timestamp() - 8:.0f}", "Thu, 20 Nov 2025 11:59:00 GMT"]),
        (None, ["Thu, 32 Nov 2025 12:00:00 GMT", "Thu, 20 Nov 99999999999999999999 12:00:00 GMT"]),
    ],
)
def test_retry_after_is_a_delay_a_date_a_timestamp_or_a_list(seconds: float | None, headers: list[str | None]) -> None:
    assert [retry_after_s(header, NOW) for header in headers] == [seconds] * len(headers)


@given(st.text() | st.datetimes().map(lambda d: d.strftime("%a, %d %b %Y %H:%M:%S GMT")))
def test_no_retry_after_raises_or_lies_in_the_past(header: str) -> None:
    seconds = retry_after_s(header, NOW)
    assert seconds is None or seconds >= 0


def test_a_429_carries_its_retry_after_whoever_sent_it() -> None:
    for body in (OVER_THE_PLAN, PROXY_PAGE):
        reply = reply_to(429, body, headers={"Retry-After": "17"})
        assert isinstance(reply, Refusal)
        assert reply.retry_after_s == 17.0


@pytest.mark.parametrize(
    "said", [f"no key {KEY}", f"no key {KEY.upper()} here", "x" * 180 + KEY, f"\n\u0000{KEY}\u2028", KEY * 20]
)
def test_the_key_is_cut_out_of_what_the_provider_says(said: str) -> None:
    reply = reply_to(401, json.dumps({"cod": 401, "message": said}).encode())
    assert isinstance(reply, Refusal)
    assert KEY[:8] not in reply.message.lower()
    assert "***" in reply.message
    assert len(reply.message) <= 200
    assert reply.message.isprintable()
    with pytest.raises(ProviderUnavailable) as raised:
        reply_to(500, json.dumps({"cod": 500, "message": said}).encode())
    assert KEY[:8] not in str(raised.value).lower()


@pytest.mark.parametrize("key", ["a b/c+d&e=%é", "k/k", "trailing\n"])
def test_the_key_is_cut_out_in_every_encoding_and_without_a_key_nothing(key: str) -> None:
    for form in (key, key.strip(), quote(key), quote(key, safe=""), quote(key, safe="").lower(), quote_plus(key)):
        assert redactor(key)(f"<{form}>").replace(" ", "") == "<***>"
    assert [redactor(none)("city not found") for none in ("", "\n")] == ["city not found"] * 2


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
plausible = st.fixed_dictionaries(
    {"id": st.integers(6, 9) | anything, "dt": st.integers(0, 2**40) | anything},
    optional={
        "main": st.fixed_dictionaries({"temp": st.floats() | anything}, optional={"humidity": anything}) | anything,
        "sys": st.fixed_dictionaries({"country": anything, "timezone": anything}) | anything,
        "coord": st.fixed_dictionaries({"lat": anything, "lon": anything}) | anything,
        "weather": st.lists(st.fixed_dictionaries({"id": anything, "description": anything}) | anything) | anything,
        "name": anything,
        "wind": anything,
        "clouds": anything,
        "rain": anything,
    },
)
bodies = anything | plausible | st.fixed_dictionaries({"list": st.lists(plausible | anything, max_size=5)})


@given(st.sampled_from([ONE, GROUP_OF_ONE, GROUP_OF_MANY]), bodies.map(json.dumps).map(str.encode) | st.binary())
@example(GROUP_OF_MANY, b'{"list":[]}')
def test_whatever_a_200_holds_each_city_is_in_exactly_one_place(call: Call, body: bytes) -> None:
    try:
        reply = reply_to(200, body, call)
    except ProviderUnavailable:
        return
    assert isinstance(reply, Weather)
    places = [*reply.observations, *reply.unknown, *reply.unreadable]
    assert sorted(places) == sorted(call[1])


@given(st.integers(100, 999), st.sampled_from([ONE, GROUP_OF_ONE, GROUP_OF_MANY]), bodies)
def test_no_status_and_body_raise_anything_but_unavailable(status: int, call: Call, body: object) -> None:
    try:
        reply = reply_to(status, json.dumps(body).encode(), call)
    except ProviderUnavailable:
        return
    # Only what quota.md lists may close a charge.
    assert not reply.closes or status in {200, 400, 401, 404, 429}
