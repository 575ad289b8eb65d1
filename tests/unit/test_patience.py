"""How long a city is asked for again, and when it is given up: never for an outage."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.patience import GIVE_UP_AFTER, GIVE_UP_ANYWAY_AFTER, Patience, Verdict


def failures(patience: Patience, city_id: int, times: int, *, others_succeed: bool) -> list[Verdict]:
    verdicts = []
    for _ in range(times):
        verdicts.append(patience.failed(city_id, jitter=1.0))
        if others_succeed:
            patience.succeeded([99])
    return verdicts


def test_a_city_that_fails_while_others_succeed_is_asked_for_alone_and_then_given_up() -> None:
    verdicts = failures(Patience(), 1, 8, others_succeed=True)
    together, alone, given_up = (False, False), (True, False), (True, True)
    assert [(verdict.alone, verdict.give_up) for verdict in verdicts] == [together, *[alone] * 6, given_up]


def test_in_an_outage_no_city_is_to_blame() -> None:
    verdicts = failures(Patience(), 1, GIVE_UP_ANYWAY_AFTER - 1, others_succeed=False)
    assert not any(verdict.alone or verdict.give_up for verdict in verdicts)


def test_after_half_a_day_a_city_is_given_up_however_the_others_fare() -> None:
    assert failures(Patience(), 1, GIVE_UP_ANYWAY_AFTER, others_succeed=False)[-1].give_up


def test_the_rest_doubles_up_to_half_a_minute() -> None:
    rests = [verdict.rest_s for verdict in failures(Patience(), 1, 7, others_succeed=True)]
    assert rests == [2, 4, 8, 16, 30, 30, 30]


@pytest.mark.parametrize(("jitter", "rest_s"), [(0.0, 1.0), (0.5, 1.5)])
def test_jitter_halves_the_rest_at_most(jitter: float, rest_s: float) -> None:
    assert Patience().failed(1, jitter).rest_s == rest_s


def test_a_success_clears_a_citys_record() -> None:
    patience = Patience()
    failures(patience, 1, 4, others_succeed=True)
    patience.succeeded([1])
    assert patience.failed(1, 1.0) == Verdict(2.0, alone=False, give_up=False)


def test_a_city_is_suspect_after_two_failures_that_nothing_tells_from_an_outage() -> None:
    patience = Patience()
    assert not patience.suspects(1)
    for suspect in (False, True, True):
        patience.failed(1, 0.0)
        assert patience.suspects(1) is suspect
    patience.succeeded([2])
    assert not patience.suspects(1)
    patience.failed(1, 0.0)
    assert patience.suspects(1)
    assert not patience.suspects(2)


def test_the_city_that_was_answered_for_last_is_known_to_be_good() -> None:
    patience = Patience()
    assert patience.good is None
    patience.succeeded([])
    assert patience.good is None
    patience.succeeded([4, 7])
    assert patience.good == 7


def test_a_settled_city_begins_anew() -> None:
    patience = Patience()
    failures(patience, 1, 4, others_succeed=True)
    patience.forget(1)
    patience.forget(2)
    assert patience.failed(1, 1.0) == Verdict(2.0, alone=False, give_up=False)


def test_several_failures_between_two_successes_of_others_count_once() -> None:
    patience = Patience()
    for _ in range(GIVE_UP_AFTER - 1):
        assert not any(verdict.give_up for verdict in failures(patience, 1, 3, others_succeed=False))
        patience.succeeded([99])
    assert patience.failed(1, 1.0).give_up


@settings(deadline=None)
@given(st.lists(st.sampled_from(["fails", "another succeeds"]), max_size=60))
def test_a_city_is_given_up_at_its_eighth_failure_that_others_did_not_share(events: list[str]) -> None:
    patience, strikes, answered = Patience(), 0, True
    for event in events:
        if event == "fails":
            strikes, answered = strikes + answered, False
            verdict = patience.failed(1, 0.0)
            assert (verdict.alone, verdict.give_up) == (strikes >= 2, strikes >= 8)
        else:
            patience.succeeded([2])
            answered = True


def test_a_city_that_the_provider_does_not_know_is_no_good_one_to_ask_for() -> None:
    patience = Patience()
    patience.failed(2, 0.0)
    patience.succeeded([1], [2, 3])
    assert patience.good == 1
    assert patience.failing == frozenset()
