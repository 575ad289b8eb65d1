"""Putting together what the calls of one charge brought. Pure: replies in, one result out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from consumer.gate import Event
from consumer.provider.port import Reason, Refusal, Reply, Weather
from raingauge.observation import Observation

_EVENTS: Final = {Reason.QUOTA: Event.QUOTA, Reason.KEY: Event.KEY, Reason.ENDPOINT: Event.ENDPOINT}


class Silence:
    """No answer of the provider's own came."""


@dataclass(slots=True)
class Result:
    """What became of the cities of one charge; each is in one of the sets, or was refused and stays wanted as it is."""

    event: Event
    closes: bool
    observations: dict[int, Observation] = field(default_factory=dict)
    unknown: set[int] = field(default_factory=set)
    blamed: set[int] = field(default_factory=set)
    """No answer came for them, or an unreadable one."""
    split: set[int] = field(default_factory=set)
    """Refused as a group because of some id in it: to be asked for one by one."""
    refusal: Refusal | None = None


def combine(calls: Iterable[tuple[Sequence[int], Reply | Silence]]) -> Result:
    """The result of all calls of a charge, each with the cities it asked for."""
    result = Result(Event.SILENT, closes=True)
    for city_ids, reply in calls:
        if isinstance(reply, Weather):
            _weather(result, reply)
        elif isinstance(reply, Refusal):
            _refusal(result, city_ids, reply)
        else:
            result.closes = False
            result.blamed |= set(city_ids)
    return result


def _weather(result: Result, reply: Weather) -> None:
    result.observations.update(reply.observations)
    result.unknown |= reply.unknown
    result.blamed |= reply.unreadable
    if result.event is Event.SILENT:
        result.event = Event.ANSWERED


def _refusal(result: Result, city_ids: Sequence[int], reply: Refusal) -> None:
    result.closes &= reply.closes
    if reply.reason is not Reason.CITIES:
        result.event, result.refusal = _EVENTS[reply.reason], reply
        return
    result.split |= set(city_ids)
    if result.event is Event.SILENT:
        result.event = Event.ANSWERED
