"""Which faults are active: until when, one of each kind, and how often they strike."""

from random import Random

import pytest
from pydantic import ValidationError

from simulator.faults import Errors, FaultForm, Faults, Html, Lose, RemoveGroup, RestoreGroup, TooMany


def faults() -> Faults:
    return Faults(Random(1))


def test_a_fault_with_a_time_ends_when_it_has_passed() -> None:
    state = faults()
    state.set(TooMany(fault="too_many", for_s=10), 100)
    assert state.active(TooMany, 109.9)
    assert not state.active(TooMany, 110)


def test_a_fault_without_a_time_stays_until_it_is_cleared() -> None:
    state = faults()
    state.set(TooMany(fault="too_many"), 100)
    assert state.active(TooMany, 1e9)
    state.clear()
    assert not state.active(TooMany, 101)


def test_a_fault_of_another_kind_is_not_meant() -> None:
    state = faults()
    state.set(Html(fault="html"), 0)
    assert not state.active(Lose, 0)
    assert not state.strikes(Lose, 0)
    assert state.strikes(Html, 0)


def test_the_latest_fault_of_a_kind_counts() -> None:
    state = faults()
    state.set(TooMany(fault="too_many", retry_after_s=1), 0)
    state.set(TooMany(fault="too_many", retry_after_s=2, for_s=5), 0)
    active = state.active(TooMany, 1)
    assert active is not None
    assert active.retry_after_s == 2
    assert not state.active(TooMany, 5)


def test_removing_and_restoring_the_group_endpoint_replace_each_other() -> None:
    state = faults()
    state.set(RemoveGroup(fault="remove_group"), 0)
    state.set(RestoreGroup(fault="restore_group"), 1)
    assert not state.active(RemoveGroup, 2)
    state.set(RemoveGroup(fault="remove_group"), 3)
    assert not state.active(RestoreGroup, 4)
    assert state.active(RemoveGroup, 4)


def test_a_share_strikes_about_so_many_calls() -> None:
    state = faults()
    state.set(Errors(fault="errors", share=0.3), 0)
    assert 250 < sum(1 for _ in range(1000) if state.strikes(Errors, 0)) < 350


def test_the_same_seed_strikes_the_same_calls() -> None:
    one, other = faults(), faults()
    assert [one.chance(0.5) for _ in range(50)] == [other.chance(0.5) for _ in range(50)]


def test_the_listing_tells_what_is_active_and_how_long() -> None:
    state = faults()
    state.set(Html(fault="html", for_s=10), 0)
    state.set(Lose(fault="lose"), 0)
    state.set(TooMany(fault="too_many", for_s=1), 0)
    assert state.listing(4) == [(Html(fault="html", for_s=10), 6), (Lose(fault="lose"), None)]


@pytest.mark.parametrize(
    "form",
    [
        "{}",
        '{"fault": "nonsense"}',
        '{"fault": "errors", "share": 1.1}',
        '{"fault": "errors", "for_s": 0}',
        '{"fault": "errors", "for_s": NaN}',
        '{"fault": "errors", "for_s": "5"}',
        '{"fault": "errors", "sahre": 0.5}',
        '{"fault": "slow"}',
        '{"fault": "city_errors", "city_ids": []}',
        '{"fault": "too_many", "retry_after_s": 1.5}',
        '{"fault": "drip", "pause_s": 0}',
    ],
)
def test_a_form_that_is_not_clear_is_refused(form: str) -> None:
    with pytest.raises(ValidationError):
        FaultForm.model_validate_json(form, strict=True)
