"""Decides the provider's answer to each call. It must not wait, send or read a clock: `app` does.

Every call with the right key counts toward the quota with its ids, whatever the answer, except those refused with 429.
Calls without the right key cost nothing. The witness sees all of them.

The bodies of errors follow recorded exchanges byte for byte: `cod` is an int in 401 and 429 and a string in 400, 404
and 500, and only 401 and 429 have spaces. See also openweathermap.org/current and openweathermap.org/faq#error401.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from pydantic import BaseModel

from simulator.faults import Fault, Faults, Kind
from simulator.settings import GroupMode, SimulatorSettings
from simulator.weather import Places, compact, group_body, single_body, slot_of
from simulator.witness import Call, Endpoint, Window, Witness

GROUP_LIMIT: Final = 20
"""Ids in one group call at most."""
CITY_ID: Final = re.compile(r"[0-9]{1,18}")


class Query(BaseModel):
    """The query of both endpoints."""

    id: str = ""
    appid: str = ""
    units: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete response."""

    status: int
    body: bytes
    content_type: str = "application/json; charset=utf-8"
    retry_after_s: int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What to do about a call: wait, then send the answer, or close the connection without it."""

    call: Call
    answer: Answer
    wait_s: float = 0.0
    drip_s: float = 0.0
    """Pause after each byte of the body; 0: send it whole."""
    drop: bool = False


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
    "text/html",
)


class StandIn:
    """Answers by the settings, the quota and the faults that are active when a call arrives."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self.settings = settings
        self.witness = Witness(settings.window_s)
        self.faults = Faults(settings.seed)
        self._window = Window(settings.window_s)
        self._places = Places(settings.unknown)

    def change(self, settings: SimulatorSettings) -> None:
        """Replace the settings. Calls that have left the old window stay forgotten, also in a wider one."""
        self.settings = settings
        self._window.width_s = settings.window_s
        self.witness.peak = self.witness.peak_of(settings.window_s)

    def forget_calls(self) -> None:
        """Reset the witness; the numbers of calls go on, and the quota is enforced as before."""
        self.witness = Witness(self.settings.window_s, self.witness.next_number)

    def arrive(self, endpoint: Endpoint, query: Query, at: float, moment: datetime) -> Reply:
        """Take a call that arrived `at` (seconds on the monotonic clock), which was `moment` on the wall clock."""
        ids = query.id.split(",") if query.id else []
        numbers = [int(text) if CITY_ID.fullmatch(text) else -1 for text in ids]
        with_key = query.appid == self.settings.key
        call = self.witness.arrived(at, endpoint, numbers, max(1, len(ids)) if with_key else 0)
        answer = (self._refusal(call) or self._weather(call, query, moment)) if with_key else INVALID_KEY
        if self._hit(Kind.OUTAGE, call):
            return Reply(call, answer, drop=True)
        slow = self._hit(Kind.SLOW, call)
        wait_s = self.settings.latency_s + (slow.latency_s if slow else 0.0)
        if self._hit(Kind.LOSE, call):
            return Reply(call, answer, wait_s, drop=True)
        drip = self._hit(Kind.DRIP, call)
        return Reply(call, answer, wait_s, drip.pause_s if drip else 0.0)

    def _hit(self, kind: Kind, call: Call) -> Fault | None:
        return self.faults.hit(kind, call.at, call.ids)

    def _refusal(self, call: Call) -> Answer | None:
        if fault := self._hit(Kind.TOO_MANY, call):
            return replace(OVER_QUOTA, retry_after_s=fault.retry_after_s)
        if not self._window.admit(call.at, call.units, self.settings.quota):
            return OVER_QUOTA
        if self._hit(Kind.REFUSE_KEY, call):
            return INVALID_KEY
        if self._hit(Kind.HTML, call):
            return BAD_GATEWAY
        if self._hit(Kind.ERRORS, call) or self.faults.chance(self.settings.error_share):
            return INTERNAL_ERROR
        return None

    def _weather(self, call: Call, query: Query, moment: datetime) -> Answer:
        slot, metric = slot_of(moment), query.units == "metric"
        if call.endpoint is Endpoint.GROUP:
            answer = self._group(query.id.split(","), slot, metric)
        else:
            answer = self._single(query.id, slot, metric)
        if self._hit(Kind.BROKEN_JSON, call):
            return replace(answer, body=answer.body[: len(answer.body) // 2])
        return answer

    def _group(self, ids: Sequence[str], slot: int, metric: bool) -> Answer:
        """All cities, in the reverse of the order of their ids: the provider promises no order."""
        if self.settings.group is GroupMode.REMOVED:
            return INVALID_KEY
        if len(ids) > GROUP_LIMIT:
            return TOO_MANY_IDS
        if invalid := _invalid(ids):
            return invalid
        found = [place for text in reversed(ids) if (place := self._places.find(int(text)))]
        if not found or (self.settings.group is GroupMode.STRICT and len(found) < len(ids)):
            return NO_DATA
        return Answer(200, group_body(found, slot, metric))

    def _single(self, city_id: str, slot: int, metric: bool) -> Answer:
        if invalid := _invalid([city_id]):
            return invalid
        place = self._places.find(int(city_id))
        return Answer(200, single_body(place, slot, metric)) if place else CITY_NOT_FOUND


def _invalid(ids: Sequence[str]) -> Answer | None:
    if ids == [""]:
        return NOTHING_TO_GEOCODE
    for text in ids:
        if not CITY_ID.fullmatch(text):
            return Answer(400, compact({"cod": "400", "message": f"{text} is not a city ID"}))
        if int(text) == 0:
            return INVALID_ID
    return None
