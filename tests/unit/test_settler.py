"""Which of those who want a city an answer settles."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from consumer.admission import Grant
from consumer.calls import Result
from consumer.gate import Event, Plan
from consumer.means import Means, Tally
from consumer.patience import Patience
from consumer.pool import Pool
from consumer.settler import Settler
from consumer.store import Brought
from raingauge.blocking import inline
from raingauge.clock import SystemClock
from raingauge.observation import Observation
from raingauge.storage.batches import BatchRef
from raingauge.storage.wanted import OpenBatch, Want

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
GRANT = Grant(1, NOON, (1, 2), Plan("group", probe=False), together=True, clean=True)


class Stored:
    """A store that keeps all."""

    def __init__(self) -> None:
        self.brought: list[Brought] = []

    def keep(self, brought: Sequence[Brought]) -> None:
        self.brought.extend(brought)


def settler_of(pool: Pool, stored: Stored, patience: Patience) -> Settler:
    means = Means(cast("Any", None), cast("Any", None), cast("Any", stored), inline, inline, SystemClock(), 1)
    return Settler(pool, means, patience, Tally())


async def settled(pool: Pool, result: Result, grant: Grant = GRANT) -> tuple[Sequence[BatchRef], Stored]:
    stored = Stored()
    settler = settler_of(pool, stored, Patience())
    refs, broken = await settler.settle(grant, result, NOON)
    assert broken == []
    return refs, stored


def an_observation(city_id: int) -> Observation:
    return Observation(city_id, None, None, None, None, NOON, 20.0, None)


def pool_of(**since: datetime) -> Pool:
    pool = Pool()
    for name, moment in since.items():
        pool.add(OpenBatch(BatchRef(name, 0), moment, (1, 2)))
    pool.take(2)
    return pool


async def test_who_asked_after_the_answer_waits_for_a_newer_one() -> None:
    pool = pool_of(before=NOON, after=NOON + timedelta(seconds=1))
    result = Result(Event.ANSWERED, closes=True, observations={city: an_observation(city) for city in (1, 2)})
    refs, stored = await settled(pool, result)
    assert refs == [BatchRef("before", 0)]
    assert {want.ref.collection_id for want in stored.brought[0].wants} == {"before"}
    pool.come_back([1, 2])
    assert [turn.city_id for turn in pool.take(20)[0]] == [1, 2]


async def test_that_a_city_is_unknown_is_told_to_all() -> None:
    pool = pool_of(before=NOON, after=NOON + timedelta(seconds=1))
    refs, _ = await settled(pool, Result(Event.ANSWERED, closes=True, unknown={1, 2}))
    assert sorted(refs) == [BatchRef("after", 0), BatchRef("before", 0)]


async def test_what_others_lent_is_stored_for_them_and_settles_nothing_here() -> None:
    pool = pool_of(own=NOON)
    lent = [Want(BatchRef("theirs", number), 3, NOON + timedelta(seconds=number)) for number in (0, 1)]
    lent.append(Want(BatchRef("theirs", 2), 4, NOON))  # without an answer: its owner asks again
    result = Result(Event.ANSWERED, closes=True, observations={city: an_observation(city) for city in (1, 3)})
    refs, stored = await settled(pool, result, replace(GRANT, city_ids=(1, 3, 4), lent=tuple(lent)))
    assert refs == []
    assert stored.brought[0].wants == [Want(BatchRef("own", 0), 1, NOON), lent[0]]
    assert pool.wants([1, 2, 3, 4]) == [Want(BatchRef("own", 0), 2, NOON)]


class Refusing(Stored):
    """A store that an unexpected error meets with some cities."""

    def keep(self, brought: Sequence[Brought]) -> None:
        if any(want.city_id >= 3 for one in brought for want in one.wants):
            raise ZeroDivisionError
        super().keep(brought)


async def test_what_goes_wrong_with_cities_that_others_lent_is_left_to_them() -> None:
    pool, patience = pool_of(own=NOON), Patience()
    settler = settler_of(pool, Refusing(), patience)
    grant = replace(GRANT, city_ids=tuple(range(1, 6)), lent=tuple(Want(BatchRef("a", 0), n, NOON) for n in (3, 4, 5)))
    observed = {city: an_observation(city) for city in (1, 3)}
    result = Result(Event.ANSWERED, closes=True, observations=observed, blamed={2, 4}, split={5})
    refs, broken = await settler.settle(grant, result, NOON)
    assert (refs, broken) == ([], [])
    assert settler.spurned.at(0.0) == {3, 4, 5}
    assert patience.failing == {2}
    assert pool.wants(range(1, 6)) == [Want(BatchRef("own", 0), 2, NOON)]
