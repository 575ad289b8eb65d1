"""What the provider's stand-in says: its error bodies, byte for byte, and the answers of both endpoints. Pure.

The bodies follow recorded exchanges: `cod` is an int in 401 and 429 and a string in 400, 404 and 500, and only 401 and
429 have spaces after their separators. See also openweathermap.org/current and openweathermap.org/faq#error401.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from simulator.places import Places
from simulator.settings import GroupMode
from simulator.weather import compact, group_body, single_body

GROUP_LIMIT: Final = 20
"""Ids in one group call at most."""

JSON: Final = "application/json; charset=utf-8"
HTML: Final = "text/html"
_CITY_ID: Final = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Answer:
    """One complete answer."""

    status: int
    body: bytes
    content_type: str = JSON
    retry_after_s: int | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What a call asks: its ids as they came, and when and in which units the weather is wanted."""

    ids: Sequence[str]
    slot: int
    metric: bool

    @property
    def units(self) -> int:
        """What it costs: one for each id, duplicates and nonsense too, and one for a call without any."""
        return max(1, len(self.ids))

    @property
    def numbers(self) -> list[int]:
        """The ids as numbers; -1 for what is no city id."""
        return [int(text) if _CITY_ID.fullmatch(text) else -1 for text in self.ids]


INVALID_KEY: Final = Answer(
    401,
    b'{"cod":401, "message": "Invalid API key. Please see https://openweathermap.org/faq#error401 for more info."}',
)
OVER_QUOTA: Final = Answer(
    429,
    b'{"cod":429, "message": "Your account is temporary blocked due to exceeding of requests limitation of your '
    b'subscription type. Please choose the proper subscription https://openweathermap.org/price"}',
)
INTERNAL_ERROR: Final = Answer(500, b'{"cod":"500","message":"Internal error: 500000"}')
NO_DATA: Final = Answer(404, b'{"cod":"404","message":"No data: 404006"}')
CITY_NOT_FOUND: Final = Answer(404, b'{"cod":"404","message":"city not found"}')
TOO_MANY_IDS: Final = Answer(400, b'{"cod":"400","message":"id list must be in range from 1 to 20"}')
NOTHING_TO_GEOCODE: Final = Answer(400, b'{"cod":"400","message":"Nothing to geocode"}')
INVALID_ID: Final = Answer(400, b'{"cod":"400","message":"Invalid ID"}')
BAD_GATEWAY: Final = Answer(
    502,
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    b"<hr><center>openresty</center>\r\n</body>\r\n</html>\r\n",
    HTML,
)


def answer_group(question: Question, mode: GroupMode, places: Places) -> Answer:
    """The answer to a group call. The cities come in the reverse of the order asked: no order is promised."""
    if mode is GroupMode.REMOVED:
        return INVALID_KEY
    if len(question.ids) > GROUP_LIMIT:
        return TOO_MANY_IDS
    if wrong := _wrong_ids(question.ids):
        return wrong
    found = [place for number in reversed(question.numbers) if (place := places.find(number))]
    if not found or (mode is GroupMode.STRICT and len(found) < len(question.ids)):
        return NO_DATA
    return Answer(200, group_body(found, question.slot, question.metric))


def answer_single(question: Question, places: Places) -> Answer:
    """The answer to a call for one city; a list of ids is no city id."""
    if wrong := _wrong_ids([",".join(question.ids)] if question.ids else []):
        return wrong
    place = places.find(question.numbers[0])
    return Answer(200, single_body(place, question.slot, question.metric)) if place else CITY_NOT_FOUND


def _wrong_ids(ids: Sequence[str]) -> Answer | None:
    if not ids:
        return NOTHING_TO_GEOCODE
    for text in ids:
        if not _CITY_ID.fullmatch(text):
            return Answer(400, compact({"cod": "400", "message": f"{text} is not a city ID"}))
        if int(text) == 0:
            return INVALID_ID
    return None
