"""The OpenWeather adapter: builds the requests and interprets the answers. The transport is `consumer.provider.http`.

Sources: https://openweathermap.org/current (fields, units), https://openweathermap.org/faq#error401 (errors), and
recorded exchanges. The HTTP status decides; `cod` in the body is an int in some answers, a string in others, and
missing from a group's. Only a JSON object with `cod` and `message` is the provider's own refusal: 502 to 504 are a
proxy's pages, and a 401, 404 or 429 may be as well. This module must not react to a refusal; the caller does.
"""

import json
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any, Final, Self
from urllib.parse import quote

from consumer.provider.http import HttpClient, Response
from consumer.provider.port import Reason, Refusal, Reply, Weather
from consumer.provider.redaction import LONG_KEY, MAX_TEXT, hash_key, redactor, single_line
from raingauge.clock import Clock
from raingauge.errors import ProviderUnavailable, Unreadable
from raingauge.model import Observation

log = logging.getLogger("raingauge.provider")

_ABOUT_IDS: Final = re.compile(r"city not found|No data|\S+ is not a city ID|Invalid ID", re.IGNORECASE)
"""Messages of a 400 or 404 that mean a wrong id. Other messages mean the path or the request."""
_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_INTEGER: Final = re.compile(r"-?[0-9]{1,18}")
_DELAYS: Final = re.compile(r"[0-9]+(\.[0-9]+)?( *, *[0-9]+(\.[0-9]+)?)*")

Json = Mapping[str, Any]


class OpenWeather:
    """The provider's HTTP interface. Thread-safe; a context manager."""

    def __init__(
        self, base_url: str, key: str, timeout_s: float, clock: Clock, connections: int, ca_file: str | None = None
    ) -> None:
        """`timeout_s` limits a call from before connecting to the last byte; the last two: see `HttpClient`."""
        self._clock = clock
        self._hash_key: Callable[[], str] = lambda: hash_key(key, base_url)
        self._redact = redactor(key)
        self._long_key = len(key) >= LONG_KEY
        secret = f"appid={quote(key, safe='')}"
        self._http = HttpClient(base_url, secret, self._redact, timeout_s, clock, connections, ca_file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connections."""
        self._http.close()

    @cached_property
    def key_hash(self) -> str:
        """A salted hash of the key, by which consumers tell whether theirs is the one that was refused."""
        return self._hash_key()

    def group(self, city_ids: Sequence[int], send_by: float) -> Reply:
        """Request up to 20 distinct cities in one call. Raises ProviderUnavailable: see the port."""
        return self._call(GROUP, city_ids, send_by)

    def single(self, city_id: int, send_by: float) -> Reply:
        """Request one city. Raises ProviderUnavailable: see the port."""
        return self._call(SINGLE, [city_id], send_by)

    def _call(self, endpoint: "Endpoint", city_ids: Sequence[int], send_by: float) -> Reply:
        response = self._http.get(f"{endpoint.path}?id={','.join(map(str, city_ids))}&units=metric", send_by)
        try:
            reply = classify(response, city_ids, endpoint, self._redact, self._clock.now())
        except Unreadable as error:
            self._log_unreadable(response.body, str(error))
            raise
        if isinstance(reply, Weather) and reply.unreadable:
            self._log_unreadable(response.body, f"{len(reply.unreadable)} cities without a usable value")
        return _redacted(reply, self._redact) if isinstance(reply, Weather) and self._long_key else reply

    def _log_unreadable(self, body: bytes, problem: str) -> None:
        """Log the shape of an answer, never its values."""
        log.warning("provider.unreadable", extra={"problem": problem, "shape": shape_of(body, self._redact)})


def shape_of(body: bytes, redact: Callable[[str], str]) -> str:
    """Describe a body by its field names and types."""
    try:
        return _shape(json.loads(body), redact)[:1000]
    except (ValueError, RecursionError):
        return f"{len(body)} bytes that are not JSON"


def _shape(value: object, redact: Callable[[str], str]) -> str:
    if isinstance(value, dict):
        fields = (f"{redact(name)}: {_shape(field, redact)}" for name, field in value.items())
        return f"{{{', '.join(fields)}}}"
    if isinstance(value, list):
        kinds = dict.fromkeys(_shape(item, redact) for item in value)
        return f"[{len(value)} of {' | '.join(kinds)}]"
    return "null" if value is None else type(value).__name__


def classify(
    response: Response, city_ids: Sequence[int], endpoint: "Endpoint", redact: Callable[[str], str], now: datetime
) -> Reply:
    """Interpret the response to a call for `city_ids`.

    Raises:
        ProviderUnavailable: it is not an answer of the provider's own, or not one that belongs to this call.
    """
    body = _parse(response.body)
    if response.status == 200:
        return endpoint.read(body, city_ids)
    own = "cod" in body and isinstance(body.get("message"), str)
    message = redact(body["message"] if own else f"HTTP {response.status} without the provider's own body")
    if own and response.status in {400, 404} and _ABOUT_IDS.match(body["message"]):
        # A single wrong id refuses the whole call, and the answer does not say which.
        return Weather({}, unknown=frozenset(city_ids)) if len(city_ids) == 1 else Refusal(Reason.CITIES, message)
    match response.status:
        case 400 if own and len(city_ids) > 1:
            return Refusal(Reason.CITIES, message)
        case 401 | 403 if own:
            return Refusal(Reason.KEY, message, closes=response.status == 401)
        case 429:
            return Refusal(Reason.QUOTA, message, retry_after_s(response.headers.get("Retry-After"), now), closes=own)
    if response.status in {404, 410} | endpoint.absent:
        return Refusal(Reason.ENDPOINT, message, closes=False)
    raise ProviderUnavailable(f"HTTP {response.status}: {message}" if own else message)


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """Read a Retry-After header as seconds from `now`; None if it is unreadable or past.

    A delay or an HTTP date (RFC 9110, 10.2.3). Servers also send Unix timestamps, in seconds or milliseconds, and
    proxies join several headers to a list ("50, 53"); the longest delay counts.
    """
    text = (header or "").strip()
    if _DELAYS.fullmatch(text):
        delays = [_delay_s(float(part), now) for part in text.split(",")]
    else:
        try:
            date = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        delays = [(date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now.timestamp()]
    longest = max(delays)
    return longest if longest >= 0 else None


def _delay_s(number: float, now: datetime) -> float:
    """Interpret a number as a delay or, if it is as large as one, as a Unix timestamp."""
    if number < 1e9:
        return number
    return (number if number < 1e12 else number / 1000) - now.timestamp()


def read_group(body: Json, city_ids: Sequence[int]) -> Weather:
    """Read the body of /group. It leaves out unknown ids among known ones, and its order is unspecified."""
    entries = body.get("list")
    if not isinstance(entries, list):
        raise Unreadable("HTTP 200 without a list of cities")
    by_id = {_whole(_object(entry).get("id")): entry for entry in entries}
    if len(entries) < (_number(body.get("cnt"), 0, math.inf) or 0):
        raise Unreadable("HTTP 200 with a list shorter than its cnt")
    if by_id.keys().isdisjoint(city_ids):
        # If the provider knew none of them, it would answer 404. This is another call's answer, or nobody's.
        raise Unreadable("HTTP 200 without any of the requested cities")
    found = _weather({city_id: by_id[city_id] for city_id in city_ids if city_id in by_id})
    absent = frozenset(city_ids) - by_id.keys()
    if None in by_id:
        # The entry without a readable id may be any of the absent.
        return Weather(found.observations, unreadable=found.unreadable | absent)
    return Weather(found.observations, unknown=absent, unreadable=found.unreadable)


def read_single(body: Json, city_ids: Sequence[int]) -> Weather:
    """Read the body of /weather, which has the city's fields at the top level."""
    if _whole(body.get("id")) != city_ids[0]:
        raise Unreadable("HTTP 200 without the requested city")
    return _weather({city_ids[0]: body})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One of the provider's two endpoints."""

    path: str
    read: Callable[[Json, Sequence[int]], Weather]
    """Reads the body of a 200 for the requested ids. Raises Unreadable if the body has another shape."""
    absent: frozenset[int] = frozenset()
    """Statuses that mean that the endpoint was removed, whoever sent them, beside 404 and 410."""


GROUP: Final = Endpoint("/data/2.5/group", read_group, absent=frozenset({301, 308, 403, 405, 501}))
SINGLE: Final = Endpoint("/data/2.5/weather", read_single)


def _weather(entries: Mapping[int, Json]) -> Weather:
    read = {city_id: read_observation(city_id, entry) for city_id, entry in entries.items()}
    observations = {city_id: observation for city_id, observation in read.items() if observation is not None}
    if not observations:
        raise Unreadable("HTTP 200 without a usable time and temperature for any city")
    return Weather(observations, unreadable=frozenset(read.keys() - observations.keys()))


def read_observation(city_id: int, entry: Json) -> Observation | None:
    """Read one city's fields; None without a time and a temperature in °C (a value in Kelvin is out of range).

    Implausible numbers become None too, because a column might not hold them.
    """
    main, sys, wind, coord = (_object(entry.get(part)) for part in ("main", "sys", "wind", "coord"))
    conditions = entry.get("weather")
    condition = _object(conditions[0]) if isinstance(conditions, list) and conditions else {}
    observed_at = _number(entry.get("dt"), 0, 4_102_444_800)
    temperature = _number(main.get("temp"), -150, 150)
    if observed_at is None or temperature is None:
        return None
    return Observation(
        city_id=city_id,
        name=_text(entry.get("name")),
        country=_country(sys.get("country")),
        latitude=_number(coord.get("lat"), -90, 90),
        longitude=_number(coord.get("lon"), -180, 180),
        observed_at=datetime.fromtimestamp(observed_at, UTC),
        temperature=temperature,
        humidity=_number(main.get("humidity"), 0, 1000),
        feels_like=_number(main.get("feels_like"), -150, 150),
        pressure=_number(main.get("pressure"), 0, 10_000),
        wind_speed=_number(wind.get("speed"), 0, 1000),
        wind_deg=_number(wind.get("deg"), -360, 360),
        clouds=_number(_object(entry.get("clouds")).get("all"), 0, 1000),
        visibility=_number(entry.get("visibility"), 0, 1_000_000),
        rain_1h=_number(_object(entry.get("rain")).get("1h"), 0, 10_000),
        snow_1h=_number(_object(entry.get("snow")).get("1h"), 0, 10_000),
        condition_id=_whole(condition.get("id"), 0, 9999),
        description=_text(condition.get("description")),
        # In `sys` in a group's answer, at the top level in a single one.
        utc_offset_s=_whole(sys.get("timezone", entry.get("timezone")), -86_400, 86_400),
    )


def _redacted(weather: Weather, redact: Callable[[str], str]) -> Weather:
    """Remove the key from the text that is stored, in case a server echoed it there."""
    return replace(
        weather,
        observations={
            city_id: o._replace(name=o.name and redact(o.name), description=o.description and redact(o.description))
            for city_id, o in weather.observations.items()
        },
    )


def _parse(body: bytes) -> Json:
    try:
        return _object(json.loads(body))
    except (ValueError, RecursionError):
        return {}


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _number(value: object, low: float, high: float) -> float | None:
    """Return a number within the bounds, which some servers send as text, as a float; else None (NaN, booleans)."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        return None
    return float(value)


def _whole(value: object, low: float = -math.inf, high: float = math.inf) -> int | None:
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high else None


def _text(value: object) -> str | None:
    return (single_line(value)[:MAX_TEXT] or None) if isinstance(value, str) else None


def _country(value: object) -> str | None:
    return value if isinstance(value, str) and re.fullmatch("[A-Z]{2}", value) else None
