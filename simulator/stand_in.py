"""The provider's stand-in: what becomes of each call that arrives. Pure: it neither waits nor sends; `app` does.

Every call with the right key counts toward the quota with its ids, whatever is answered, but for those refused with a
429: they use nothing up. The witness counts them all. Calls without the right key cost nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from random import Random

from simulator.answers import (
    BAD_GATEWAY,
    INTERNAL_ERROR,
    INVALID_KEY,
    OVER_QUOTA,
    Answer,
    Question,
    answer_group,
    answer_single,
)
from simulator.calls import Endpoint
from simulator.faults import (
    BrokenJson,
    CityErrors,
    Drip,
    Errors,
    Faults,
    Html,
    Lose,
    Outage,
    RefuseKey,
    RemoveGroup,
    RestoreGroup,
    Slow,
    TooMany,
)
from simulator.places import Places
from simulator.settings import GroupMode, SimulatorSettings
from simulator.weather import slot_of
from simulator.windows import RollingQuota
from simulator.witness import Witness


class Manner(Enum):
    """How an answer is to be sent."""

    WHOLE = "whole"
    DRIP = "drip"
    DROP = "drop"
    """Not at all: the connection is to be closed."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What is to be done about a call."""

    number: int
    """Of the call, for the witness."""
    answer: Answer
    wait_s: float
    """Before anything is sent."""
    manner: Manner = Manner.WHOLE
    pause_s: float = 0.0
    """After each byte that drips."""


class StandIn:
    """Decides every call by the settings, the quota and the faults that are active when it arrives."""

    def __init__(self, settings: SimulatorSettings, places: Places) -> None:
        self.settings = settings
        self.witness = Witness(settings.window_s)
        self.faults = Faults(Random(settings.seed))
        self._quota = RollingQuota(settings.quota, settings.window_s)
        self._places = places

    def change(self, settings: SimulatorSettings) -> None:
        """Go on with other settings. The witness keeps its window; whoever changes that gives it another peak."""
        self.settings = settings
        self._quota.change(settings.quota, settings.window_s)

    def arrive(self, endpoint: Endpoint, query: Mapping[str, str], at: float, moment: datetime) -> Reply:
        """Take a call that arrived `at` (seconds on the monotonic clock), which was that moment on the wall clock."""
        text = query.get("id", "")
        question = Question(text.split(",") if text else [], slot_of(moment), query.get("units") == "metric")
        with_key = query.get("appid") == self.settings.key
        units = question.units if with_key else 0
        number = self.witness.arrived(at, endpoint, question.numbers, units)
        answer = self._answer(endpoint, question, at) if with_key else INVALID_KEY
        return self._reply(number, answer, at)

    def _answer(self, endpoint: Endpoint, question: Question, at: float) -> Answer:
        if fault := self.faults.active(TooMany, at):
            return replace(OVER_QUOTA, retry_after_s=fault.retry_after_s)
        if not self._quota.admit(at, question.units):
            return OVER_QUOTA
        return self._failure(question, at) or self._ordinary(endpoint, question, at)

    def _failure(self, question: Question, at: float) -> Answer | None:
        if self.faults.active(RefuseKey, at):
            return INVALID_KEY
        if self.faults.strikes(Html, at):
            return BAD_GATEWAY
        cities = self.faults.active(CityErrors, at)
        if cities and not cities.city_ids.isdisjoint(question.numbers):
            return INTERNAL_ERROR
        if self.faults.strikes(Errors, at) or self.faults.chance(self.settings.error_share):
            return INTERNAL_ERROR
        return None

    def _ordinary(self, endpoint: Endpoint, question: Question, at: float) -> Answer:
        if endpoint is Endpoint.GROUP:
            answer = answer_group(question, self._group_mode(at), self._places)
        else:
            answer = answer_single(question, self._places)
        if self.faults.strikes(BrokenJson, at):
            return replace(answer, body=answer.body[: len(answer.body) // 2])
        return answer

    def _group_mode(self, at: float) -> GroupMode:
        if self.faults.active(RemoveGroup, at):
            return GroupMode.REMOVED
        if self.settings.group is GroupMode.REMOVED and self.faults.active(RestoreGroup, at):
            return GroupMode.WORKS
        return self.settings.group

    def _reply(self, number: int, answer: Answer, at: float) -> Reply:
        if self.faults.strikes(Outage, at):
            return Reply(number, answer, 0.0, Manner.DROP)
        slow = self.faults.strikes(Slow, at)
        wait_s = self.settings.latency_s + (slow.latency_s if slow else 0.0)
        if self.faults.strikes(Lose, at):
            return Reply(number, answer, wait_s, Manner.DROP)
        if drip := self.faults.strikes(Drip, at):
            return Reply(number, answer, wait_s, Manner.DRIP, drip.pause_s)
        return Reply(number, answer, wait_s)
