"""How many calls share a transaction, and when it begins: in virtual time, with transactions that take a while."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, cast

import pytest

from consumer.admission import Grant
from consumer.gate import Plan
from consumer.keeping import LONGEST_REST_S, MOST, Keeping
from consumer.means import Means
from consumer.store import Brought, Harvest
from raingauge.blocking import inline
from tests.simulation.virtual import VirtualClock, VirtualLoop, run_virtually

T = TypeVar("T")
NOON: Final = datetime(2026, 11, 20, 12, tzinfo=UTC)
TOOK_S: Final = 0.02


class Transactions:
    """A database that takes its time: when each transaction began, and the charges whose answers it stored."""

    def __init__(self, loop: VirtualLoop, took_s: float = TOOK_S) -> None:
        self.clock = VirtualClock(loop)
        self.took_s = took_s
        self.begun: list[tuple[float, list[int]]] = []
        means = Means(cast("Any", None), cast("Any", None), cast("Any", self), self.run, inline, self.clock, 24)
        self.keeping = Keeping(means)

    async def run(self, work: Callable[[], T]) -> T:
        began = self.clock.monotonic()
        await self.clock.sleep(self.took_s)
        result = work()
        self.begun[-1] = (began, self.begun[-1][1])
        return result

    def keep(self, brought: Sequence[Brought]) -> None:
        self.begun.append((0.0, [one.grant.charge_id for one in brought]))

    async def bring(self, charge_id: int, at_s: float) -> float:
        """Store what a call brings at some moment; how long that took."""
        await self.clock.sleep(at_s)
        grant = Grant(charge_id, NOON, (charge_id,), Plan("group", probe=False), together=True, clean=True)
        await self.keeping.keep(Brought(grant, Harvest(NOON), (), closes=True))
        return self.clock.monotonic() - at_s


def bring(moments_s: Sequence[float], took_s: float = TOOK_S) -> tuple[Transactions, list[float]]:
    """What became of calls that ended at these moments."""
    loop = VirtualLoop()
    transactions = Transactions(loop, took_s)

    async def program() -> list[float]:
        calls = (transactions.bring(number, at_s) for number, at_s in enumerate(moments_s))
        return list(await asyncio.gather(*calls))

    return transactions, run_virtually(program(), loop)


def test_calls_that_come_seldom_are_stored_at_once_and_alone() -> None:
    transactions, took = bring([0.0, 1.0, 1.0 + 2 * TOOK_S])
    assert took == pytest.approx([TOOK_S] * 3)
    assert [charges for _, charges in transactions.begun] == [[0], [1], [2]]


def test_what_comes_while_a_transaction_runs_and_as_long_after_it_shares_the_next() -> None:
    moments = [0.0, 0.005, 0.015, 0.025, 0.035, 0.045]
    transactions, took = bring(moments)
    assert [charges for _, charges in transactions.begun] == [[0], [1, 2, 3, 4], [5]]
    assert [began for began, _ in transactions.begun] == pytest.approx([0.0, 2 * TOOK_S, 4 * TOOK_S])
    assert max(took) <= 3 * TOOK_S + 1e-9


def test_it_does_not_wait_for_more_than_one_transaction_takes() -> None:
    transactions, _ = bring([0.0] + [0.021 + 0.001 * number for number in range(MOST + 2)])
    began, charges = transactions.begun[1]
    assert began == pytest.approx(0.021 + 0.001 * (MOST - 1))  # when the last one came that it has room for
    assert charges == list(range(1, MOST + 1))


def test_after_an_outage_it_rests_for_a_moment_only() -> None:
    transactions, _ = bring([0.0, 30.0], took_s=60.0)
    assert [began for began, _ in transactions.begun] == pytest.approx([0.0, 60.0 + LONGEST_REST_S])
