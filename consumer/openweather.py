"""The provider's adapter for OpenWeather: what it is asked and what its answers mean. The call itself: `consumer.wire`.

Sources: https://openweathermap.org/current (fields, units), https://openweathermap.org/faq#error401 (errors), and
recorded exchanges. The HTTP status decides; `cod` in the body is an int in some answers and a string in others, and
absent from a group's. Only a JSON object with `cod` and `message` is the provider's own refusal: 502 to 504 are a
proxy's pages, and its 401, 404 or 429 may be as well. Nothing is done here about a refusal; the caller decides.
"""

import html
import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self
from urllib.parse import quote

from consumer.provider import Reason, Refusal, Reply, Weather
from consumer.wire import Answer, Wire
from raingauge.clock import Clock
from raingauge.errors import ProviderUnavailable
from raingauge.observation import Observation

MAX_TEXT = 200
"""Characters kept of any text: what the columns hold, and more than a message needs."""
MOST_READ = 4096
"""Characters looked at for that."""
MAX_RETRY_AFTER_S = 86_400.0
LONG_KEY = 16
"""OpenWeather's have 32 characters. To cut a stand-in's, "test" perhaps, out of names would only garble them."""
TELLING = 8
"""So many of a long key's first characters are a part of it that must not be shown."""

Json = Mapping[str, Any]
ReadBody = Callable[[Json, Sequence[int]], Weather]
"""Finds the cities asked for in the body of a 200. Raises ProviderUnavailable where its shape is another."""


class OpenWeather:
    """The provider, by way of its HTTP interface. May be used from several threads at once; a context manager."""

    def __init__(self, base_url: str, key: str, timeout_s: float, clock: Clock, connections: int) -> None:
        """`timeout_s` covers a call from before the connection to the last byte; see `Wire` for `connections`."""
        self._clock = clock
        self._redact = redactor(key)
        self._long_key = len(key) >= LONG_KEY
        self._wire = Wire(base_url, f"appid={quote(key, safe='')}", self._redact, timeout_s, clock, connections)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connections."""
        self._wire.close()

    def group(self, city_ids: Sequence[int], send_by: float) -> Reply:
        """Ask for up to 20 distinct cities in one call. Raises ProviderUnavailable: see the port."""
        return self._ask("/data/2.5/group", city_ids, read_group, send_by)

    def single(self, city_id: int, send_by: float) -> Reply:
        """Ask for one city. Raises ProviderUnavailable: see the port."""
        return self._ask("/data/2.5/weather", [city_id], read_single, send_by)

    def _ask(self, path: str, asked: Sequence[int], read: ReadBody, send_by: float) -> Reply:
        answer = self._wire.get(f"{path}?id={','.join(map(str, asked))}&units=metric", send_by)
        reply = classify(answer, asked, read, self._redact, self._clock.now())
        return _redacted(reply, self._redact) if isinstance(reply, Weather) and self._long_key else reply


def classify(
    answer: Answer, asked: Sequence[int], read: ReadBody, redact: Callable[[str], str], now: datetime
) -> Reply:
    """What the provider's answer to a call for the cities `asked` means.

    Raises:
        ProviderUnavailable: it is not an answer of the provider's own, or not one that a call should get.
    """
    body = _parse(answer.body)
    if answer.status == 200:
        return read(body, asked)
    own = "cod" in body and isinstance(body.get("message"), str)
    message = redact(body["message"] if own else f"HTTP {answer.status} without the provider's own body")
    match answer.status:
        case 400 | 404 if own:
            # One id at fault refuses the whole call, and the answer does not say which.
            return Weather({}, unknown=frozenset(asked)) if len(asked) == 1 else Refusal(Reason.CITIES, message)
        case 404 | 410:
            return Refusal(Reason.ENDPOINT, message, closes=False)
        case 401 | 403 if own:
            return Refusal(Reason.KEY, message, closes=answer.status == 401)
        case 429:
            return Refusal(Reason.QUOTA, message, retry_after_s(answer.headers.get("Retry-After"), now), closes=own)
    raise ProviderUnavailable(f"HTTP {answer.status}: {message}" if own else message)


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """Seconds to wait, at most a day, from a delay or a date (RFC 9110, 10.2.3); None where it is neither, or past."""
    text = (header or "").strip()
    if re.fullmatch("[0-9]+", text):
        return min(float(text), MAX_RETRY_AFTER_S)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now.timestamp()
    return min(seconds, MAX_RETRY_AFTER_S) if seconds >= 0 else None


def read_group(body: Json, asked: Sequence[int]) -> Weather:
    """A `ReadBody` for /group. Unknown ids among known ones are left out of its list; its order is not promised."""
    entries = body.get("list")
    if not isinstance(entries, list):
        raise ProviderUnavailable("HTTP 200 without a list of cities")
    named = {_whole(_object(entry).get("id")): entry for entry in entries}
    found = _weather({city_id: named[city_id] for city_id in asked if city_id in named})
    absent = frozenset(asked) - named.keys()
    if None in named or not named:
        # Any of the absent may be the entry without a readable id; and were all unknown, it would be a 404.
        return Weather(found.observations, unreadable=found.unreadable | absent)
    return Weather(found.observations, unknown=absent, unreadable=found.unreadable)


def read_single(body: Json, asked: Sequence[int]) -> Weather:
    """A `ReadBody` for /weather, which has the city's fields at its top."""
    if _whole(body.get("id")) != asked[0]:
        raise ProviderUnavailable("HTTP 200 without the city that was asked for")
    return _weather({asked[0]: body})


def _weather(entries: Mapping[int, Json]) -> Weather:
    read = {city_id: read_observation(city_id, entry) for city_id, entry in entries.items()}
    observations = {city_id: observation for city_id, observation in read.items() if observation is not None}
    return Weather(observations, unreadable=frozenset(read.keys() - observations.keys()))


def read_observation(city_id: int, entry: Json) -> Observation | None:
    """One city's fields; None without a time and a temperature in °C (a Kelvin is hotter than any place on Earth).

    Numbers that no weather has are left out too: a column may not hold them.
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
        # A group's answer has it in `sys`, a single city's at its top.
        utc_offset_s=_whole(sys.get("timezone", entry.get("timezone")), -86_400, 86_400),
    )


def _redacted(weather: Weather, redact: Callable[[str], str]) -> Weather:
    """The same, if a server put the key into what is stored."""
    return replace(
        weather,
        observations={
            city_id: o._replace(name=o.name and redact(o.name), description=o.description and redact(o.description))
            for city_id, o in weather.observations.items()
        },
    )


def redactor(key: str) -> Callable[[str], str]:
    """Puts *** for the key, however it is spelled, in texts that it makes fit to be shown."""
    spelled = [_spellings(character) for character in key]
    forms = ["".join(spelled) if key.strip() else "(?!)"]
    if len(key) >= LONG_KEY:
        # A server may give it back cut short; then whatever could be of it goes.
        forms.append(f"{''.join(spelled[:TELLING])}(?:{'|'.join(sorted(set(spelled)))})*")
    pattern = re.compile("|".join(forms), re.IGNORECASE)
    # Cut last, so that no part of a key stays behind.
    return lambda text: pattern.sub("***", _on_one_line(text[:MOST_READ]))[:MAX_TEXT]


def _spellings(character: str) -> str:
    """A pattern for a character as servers and errors give it back: percent-encoded, escaped, or read as Latin-1."""
    if character.isascii() and character.isalnum():
        return character
    sent, code = character.encode(), ord(character)
    forms = [rf"\\*{re.escape(character)}", re.escape(html.escape(character)), re.escape(sent.decode("latin-1"))]
    forms += [prefix.join(["", *(f"{byte:02x}" for byte in sent)]) for prefix in ("%", r"\\+x")]
    forms += [rf"\\+x{code:02x}", rf"\\+u{code:04x}"]
    if character.isprintable() and character != " ":
        return f"(?:{'|'.join(forms)})"
    return rf"(?:[ +]|\\+[nrt]|{'|'.join(forms)})?"


def _on_one_line(text: str) -> str:
    """Without control characters, and without lone surrogates, which JSON can hold and databases refuse."""
    if not text.isprintable():  # a look at each character is slow, and hardly ever needed
        text = "".join(" " if unicodedata.category(c) in {"Cc", "Cs"} else c for c in text)
    return " ".join(text.split())


def _parse(body: bytes) -> Json:
    try:
        return _object(json.loads(body))
    except (ValueError, RecursionError):
        return {}


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _number(value: object, low: float, high: float) -> float | None:
    """A JSON number within the bounds, which NaN is not; true and false are ints to Python, not here."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        return None
    return float(value)


def _whole(value: object, low: float = -math.inf, high: float = math.inf) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high else None


def _text(value: object) -> str | None:
    return (_on_one_line(value)[:MAX_TEXT] or None) if isinstance(value, str) else None


def _country(value: object) -> str | None:
    return value if isinstance(value, str) and re.fullmatch("[A-Z]{2}", value) else None
