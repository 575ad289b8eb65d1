"""The ledger under random schedules, in virtual time: arrivals never exceed Q in any window, nor does what it wrote."""

import heapq
import random
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest

from consumer.ledger import NotNow
from raingauge.quota.pacing import MARGIN_S, SEND_DELAY_S
from raingauge.storage import quota
from tests.contract.ledger_support import TERMS, Account, Consumer
from tests.contract.storage_support import NOW, SECOND
from tests.support.databases import sqlite_copy
from tests.support.windows import most_in_any_window, worst_window


def a_schedule(account: Account, chance: random.Random, windows: float) -> list[tuple[float, int]]:
    """Consumers reserve, pause, send, lose answers and close late; when each call arrived, and its cost."""
    loss, pauses, latency_s = chance.choice([0, 0.1, 0.5]), chance.choice([0, 0.2]), chance.choice([0.01, 0.3, 3.0])
    arrivals: list[tuple[float, int]] = []
    order = count()
    heap: list[tuple[float, int, Callable[[float], None]]] = []

    def at(seconds: float, happen: Callable[[float], None]) -> None:
        heapq.heappush(heap, (seconds, next(order), happen))

    def reserve(consumer: Consumer, now: float) -> None:
        account.want_new(chance.randint(1, 20))
        answer = consumer.reserve(chance.randint(1, 2))
        if isinstance(answer, NotNow):
            at(now + answer.seconds + chance.random() * 0.001, lambda later: reserve(consumer, later))
            return
        sent = now + (chance.random() * (SEND_DELAY_S + 2) if chance.random() < pauses else 0.0)
        is_lost = chance.random() < loss
        if sent <= now + SEND_DELAY_S:
            longest = TERMS.timeout_s + MARGIN_S if is_lost else latency_s
            arrivals.extend((sent + chance.random() * longest, len(call)) for call in answer.calls)
            if not is_lost:
                at(sent + latency_s * (1 + chance.random()), lambda _: consumer.close(answer))
        at(sent + (TERMS.timeout_s if is_lost else latency_s), lambda later: reserve(consumer, later))

    for number in range(chance.randint(1, 5)):
        consumer = account.consumer(f"{number}", chance.choice(["group", "group", "single"]))
        at(0.0, lambda now, consumer=consumer: reserve(consumer, now))  # type: ignore[misc]
    while heap and heap[0][0] <= windows * account.terms.window_s:
        now, _, happen = heapq.heappop(heap)
        account.moment.now = max(account.moment.now, NOW + timedelta(seconds=now))
        happen(now)
    return arrivals


@pytest.mark.parametrize("seed", [*range(5), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(5, 20))])
def test_no_random_schedule_ever_exceeds_the_quota_in_any_window(template: Path, seed: int) -> None:
    chance = random.Random(seed)
    limit, window_s = chance.choice([1, 7, 60]), chance.choice([5.0, 20.0, 60.0])
    with sqlite_copy(template) as database:
        account = Account(
            database, cities_per_window=limit, window_s=window_s, pacing=chance.choice(["smooth", "burst"])
        )
        arrivals = a_schedule(account, chance, windows=2.5)
        far = timedelta(days=1)
        charges = database.read(lambda c: quota.charges(c, account.name, NOW - far, NOW + far, 10_000))
    assert charges
    worst = worst_window(charges, account.terms, NOW - SECOND, NOW + far).cities
    assert most_in_any_window(arrivals, window_s) <= worst <= limit
