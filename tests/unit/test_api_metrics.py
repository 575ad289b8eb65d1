"""`GET /metrics` of a producer: what it counts, what the database says of the account, and the running proof."""

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert

from producer.metrics import REASONS, RunningProof
from raingauge.model import Charge
from raingauge.quota.pacing import Terms
from raingauge.storage.models import QuotaCharge
from tests.api_support import NOON, Front, observation, scrape
from tests.support.windows import worst_window

SECOND = timedelta(seconds=1)
TERMS = Terms(60, 60.0, "smooth", 1_000_000, "even", timeout_s=10.0)


async def test_what_was_accepted_is_counted_and_the_rest_is_read_from_the_database(front: Front) -> None:
    for id in (1, 2, 3, 4, 5, 5):  # noqa: A001
        await front.collect(id, cities=[10 * id, 10 * id + 1])
    front.settle("2", [observation(20)])
    front.settle("3", [observation(30), observation(31)])
    await front.http.post("/collections/4/cancel")
    front.beat()
    found = await scrape(front.http)
    expected = {"queued": 2, "collecting": 1, "done": 1, "cancelled": 1}
    assert {state: found[f"raingauge_collections{{state={state}}}"] for state in expected} == expected
    assert found["raingauge_collections_accepted_total"] == 5
    assert (found["raingauge_outbox_backlog_batches"], found["raingauge_consumers_alive"]) == (5, 1)
    assert found["raingauge_database_read_timestamp_seconds"] == NOON.timestamp()


@pytest.mark.parametrize("state", ["open", *REASONS])
async def test_the_gate_and_the_quota_are_read_from_the_database(front: Front, state: str) -> None:
    front.open_gate(state=state, month_spent=500, cities_per_window=90)
    for ago_s, cost in ((100, 60), (90, 40), (10, 7)):
        at = NOON - ago_s * SECOND
        row = {"cost": cost, "consumer": ""} | dict.fromkeys(("reserved_at", "closed_at", "ends_at"), at)
        charge = insert(QuotaCharge).values(account=front.account, **row)
        front.database.write(lambda c, charge=charge: c.execute(charge))  # type: ignore[misc]
    found = await scrape(front.http)
    closed = {reason: found[f"raingauge_gate_closed{{reason={reason}}}"] for reason in REASONS}
    assert closed == {reason: float(reason == state) for reason in REASONS}
    window = {name: found[f"raingauge_quota_window_{name}_cities"] for name in ("limit", "held", "proof")}
    assert window == {"limit": 90, "held": 7, "proof": 100}  # the last charge may still change
    month = {name: found[f"raingauge_quota_month_{name}_cities"] for name in ("budget", "spent")}
    assert month == {"budget": 1_000_000, "spent": 500}
    assert found["raingauge_quota_month_forecast_cities"] == 500 + 107 * 252  # hours until December


async def test_without_a_gate_nothing_is_spent(front: Front) -> None:
    found = await scrape(front.http)
    assert {value for name, value in found.items() if "month_spent" in name or "held" in name or "proof" in name} == {0}
    assert found["raingauge_quota_window_limit_cities"] == front.settings.quota.cities_per_window


# -- the running proof -------------------------------------------------------------------------------------------------


def portions(charges: list[Charge], size: int) -> Iterator[list[Charge]]:
    for start in range(0, len(charges), size):
        yield charges[start : start + size]


@given(seed=st.integers(0, 1000), size=st.integers(1, 9))
def test_the_running_proof_finds_in_portions_what_the_proof_finds_in_one(seed: int, size: int) -> None:
    chance = random.Random(seed)
    moments = sorted(NOON + chance.uniform(0, 300) * SECOND for _ in range(30))
    charges = [
        Charge(at, at, chance.choice([None, at + chance.uniform(0, 30) * SECOND]), chance.randint(1, 20))
        for at in moments
    ]
    proof = RunningProof()
    found = [proof.add(TERMS, portion[-1].reserved_at, portion) for portion in portions(charges, size)]
    assert found[-1] == worst_window(charges, TERMS, NOON - 3600 * SECOND, NOON + 3600 * SECOND).cities


def test_the_running_proof_forgets_after_two_hours_and_begins_anew_with_other_terms() -> None:
    def one(after_s: float, cost: int = 20) -> tuple[Terms, Charge]:
        at = NOON + after_s * SECOND
        return TERMS, Charge(at, at, at, cost)

    proof = RunningProof()
    taken = [one(0), one(10), one(3500), one(3700), one(7000), one(7400), one(11_200)]
    assert [proof.add(terms, each.reserved_at, [each]) for terms, each in taken] == [20, 40, 40, 40, 40, 40, 20]
    smaller, late = replace(TERMS, cities_per_window=10), one(11_210)[1]
    assert proof.add(smaller, late.reserved_at, [late]) == 0
