"""Which faults are active, and which calls they hit."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from simulator.faults import Fault, Faults, Kind


def with_faults(*faults: dict[str, Any]) -> Faults:
    """Faults that were set at the moment 100."""
    found = Faults(seed=1)
    for fault in faults:
        found.set(Fault.model_validate(fault), 100)
    return found


def test_a_fault_is_active_for_its_time_or_until_it_is_cleared() -> None:
    faults = with_faults({"fault": "html", "for_s": 10}, {"fault": "lose"})
    assert faults.hit(Kind.HTML, 109.9, [1])
    assert not faults.hit(Kind.HTML, 110, [1])
    assert faults.hit(Kind.LOSE, 1e9, [1])
    assert not faults.hit(Kind.SLOW, 101, [1])
    faults.clear()
    assert not faults.hit(Kind.LOSE, 101, [1])


def test_the_latest_fault_of_a_kind_counts() -> None:
    faults = with_faults({"fault": "too_many"}, {"fault": "too_many", "retry_after_s": 2, "for_s": 5})
    active = faults.hit(Kind.TOO_MANY, 101, [])
    assert active is not None
    assert active.retry_after_s == 2
    assert not faults.hit(Kind.TOO_MANY, 105, [])


def test_a_fault_of_cities_hits_the_calls_for_one_of_them() -> None:
    faults = with_faults({"fault": "errors", "city_ids": [5, 6]})
    assert faults.hit(Kind.ERRORS, 101, [4, 5])
    assert not faults.hit(Kind.ERRORS, 101, [4])


def test_a_share_hits_that_share_of_the_calls_and_the_same_ones_for_a_seed() -> None:
    one, other = with_faults({"fault": "errors", "share": 0.3}), with_faults({"fault": "errors", "share": 0.3})
    hits = [one.hit(Kind.ERRORS, 100, []) for _ in range(1000)]
    assert 250 < sum(hit is not None for hit in hits) < 350
    assert hits == [other.hit(Kind.ERRORS, 100, []) for _ in range(1000)]


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"fault": "nonsense"},
        {"fault": "errors", "share": 1.1},
        {"fault": "errors", "for_s": 0},
        {"fault": "errors", "for_s": float("nan")},
        {"fault": "errors", "sahre": 0.5},
        {"fault": "errors", "city_ids": []},
        {"fault": "slow", "latency_s": 0},
        {"fault": "too_many", "retry_after_s": 1.5},
        {"fault": "drip", "pause_s": 0},
    ],
)
def test_an_invalid_fault_is_refused(form: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Fault.model_validate_json(json.dumps(form))
