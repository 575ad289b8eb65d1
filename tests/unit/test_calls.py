"""What the calls of one charge brought, put together: no city is lost; only complete answers close the charge."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.calls import Result, Silence, combine
from consumer.gate import Event
from consumer.provider.port import Reason, Refusal, Reply, Weather
from raingauge.observation import Observation

SINCE = datetime(2026, 11, 20, 16, tzinfo=UTC)
Call = tuple[list[int], Reply | Silence]
EVENTS = {Reason.QUOTA: Event.QUOTA, Reason.KEY: Event.KEY, Reason.ENDPOINT: Event.ENDPOINT}


def observation(city_id: int) -> Observation:
    return Observation(city_id, f"city {city_id}", "DE", 1.0, 2.0, SINCE, 7.5, 80.0)


def weather(*city_ids: int, unknown: set[int] | None = None, unreadable: set[int] | None = None) -> Weather:
    observations = {city_id: observation(city_id) for city_id in city_ids}
    return Weather(observations, frozenset(unknown or ()), frozenset(unreadable or ()))


def one(city_ids: list[int], reply: Reply | Silence) -> Result:
    return combine([(city_ids, reply)])


def test_an_answer_sorts_its_cities_and_closes_the_charge() -> None:
    result = one([1, 2, 3], weather(1, unknown={2}, unreadable={3}))
    assert (result.event, result.closes, result.refusal) == (Event.ANSWERED, True, None)
    assert (result.observations, result.unknown, result.blamed) == ({1: observation(1)}, {2}, {3})


def test_silence_blames_all_its_cities_and_leaves_the_charge_open() -> None:
    result = one([1, 2], Silence())
    assert (result.event, result.closes, result.blamed) == (Event.SILENT, False, {1, 2})


@pytest.mark.parametrize(("reason", "event"), EVENTS.items())
@pytest.mark.parametrize("closes", [True, False])
def test_a_refusal_is_told_and_blames_no_city(reason: Reason, event: Event, closes: bool) -> None:
    refusal = Refusal(reason, "no", closes=closes)
    result = one([1, 2], refusal)
    assert result == Result(event, closes, refusal=refusal)


def test_a_group_refused_for_one_of_its_ids_is_split_and_counts_as_answered() -> None:
    result = one([1, 2], Refusal(Reason.CITIES, "city not found"))
    assert (result.event, result.split, result.refusal, result.closes) == (Event.ANSWERED, {1, 2}, None, True)


@pytest.mark.parametrize("order", [1, -1])
def test_one_refusal_among_single_calls_decides_what_is_told(order: int) -> None:
    refusal = Refusal(Reason.QUOTA, "over", retry_after_s=7)
    calls: list[Call] = [([1], weather(1)), ([2], refusal), ([3], Silence())]
    result = combine(calls[::order])
    assert (result.event, result.closes, result.refusal) == (Event.QUOTA, False, refusal)
    assert (set(result.observations), result.blamed) == ({1}, {3})


@pytest.mark.parametrize("order", [1, -1])
def test_one_answer_among_silences_shows_that_the_provider_is_there(order: int) -> None:
    calls: list[Call] = [([1], Silence()), ([2], weather(2)), ([3], Silence())]
    result = combine(calls[::order])
    assert (result.event, result.closes, result.blamed) == (Event.ANSWERED, False, {1, 3})


@st.composite
def replies(draw: st.DrawFn) -> list[Call]:
    """Up to 20 single calls, or calls of a few cities, with any answers."""
    calls: list[Call] = []
    for number in range(draw(st.integers(1, 20))):
        cities = [number * 20 + offset for offset in range(draw(st.integers(1, 20)))]
        kinds = draw(st.lists(st.integers(0, 2), min_size=len(cities), max_size=len(cities)))
        sorted_out: list[list[int]] = [[], [], []]
        for city_id, kind in zip(cities, kinds, strict=True):
            sorted_out[kind].append(city_id)
        answer = weather(*sorted_out[0], unknown=set(sorted_out[1]), unreadable=set(sorted_out[2]))
        refusal = Refusal(draw(st.sampled_from(Reason)), "no", closes=draw(st.booleans()))
        choices: list[Reply | Silence] = [answer, refusal, Silence()]
        calls.append((cities, draw(st.sampled_from(choices))))
    return calls


@settings(deadline=None)
@given(replies())
def test_each_city_is_in_one_place_and_an_incomplete_answer_keeps_the_charge_open(
    calls: list[Call],
) -> None:
    result = combine(calls)
    places = [set(result.observations), result.unknown, result.blamed, result.split]
    refused = {
        city_id
        for city_ids, reply in calls
        if isinstance(reply, Refusal) and reply.reason is not Reason.CITIES
        for city_id in city_ids
    }
    everywhere = sorted(city_id for place in [*places, refused] for city_id in place)
    assert everywhere == sorted(city_id for city_ids, _ in calls for city_id in city_ids)
    assert result.closes is all(not isinstance(reply, Silence) and reply.closes for _, reply in calls)
    assert (result.event is Event.SILENT) is all(isinstance(reply, Silence) for _, reply in calls)
    assert (result.refusal is not None) is bool(refused)
    assert result.refusal is None or result.event is EVENTS[result.refusal.reason]
