"""What is offered when cities fail: something else, whose answer tells whether they are to blame."""

from collections import Counter
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast

import pytest

from consumer.means import Means
from consumer.offers import CHOICE, Offers
from consumer.patience import Patience
from consumer.pool import Pool
from raingauge.pacing import CALL_SIZE, FIRST_FEW
from raingauge.storage.batches import BatchRef
from raingauge.storage.wanted import OpenBatch

SINCE = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.fixture
def pool() -> Pool:
    return Pool()


@pytest.fixture
def patience() -> Patience:
    return Patience()


@pytest.fixture
def offers(pool: Pool, patience: Patience) -> Offers:
    return Offers(pool, cast("Means", SimpleNamespace()), patience)


def add(pool: Pool, name: str, *city_ids: int) -> None:
    pool.add(OpenBatch(BatchRef(name, 0), SINCE, city_ids))


def fail(pool: Pool, patience: Patience, city_id: int) -> None:
    """It fails alone, so often that it is a suspect."""
    for _ in range(2):
        patience.failed(city_id, 0.0)
    pool.put_back([city_id], 0.0, alone=True)
    pool.wake(0.0)


def offered(offers: Offers) -> tuple[list[int], bool]:
    turns, together = offers.take(1)
    return [turn.city_id for turn in turns], together


def test_of_several_collections_more_is_offered_than_goes_so_that_who_had_less_can_be_given_more(
    pool: Pool, offers: Offers
) -> None:
    add(pool, "a", *range(1, 101))
    turns, _ = offers.take(1)
    assert [turn.city_id for turn in turns[:CALL_SIZE]] == list(range(1, CALL_SIZE + 1))
    assert len(turns) == CALL_SIZE + FIRST_FEW  # nobody to choose from; the first few of a newcomer come on top
    pool.give_back(turns)
    add(pool, "b", *range(101, 201))
    turns, _ = offers.take(1)
    shares = Counter(turn.collection_id for turn in turns)
    assert min(shares.values()) >= CHOICE * CALL_SIZE // 2


def test_what_must_go_alone_goes_first(pool: Pool, offers: Offers) -> None:
    add(pool, "a", 1, 2, 3)
    pool.put_back([3], 0.0, alone=True)
    pool.wake(0.0)
    assert offered(offers) == ([3], False)


def test_a_suspect_waits_while_there_is_another_to_ask_for(pool: Pool, patience: Patience, offers: Offers) -> None:
    add(pool, "a", 1, 2, 3)
    fail(pool, patience, 3)
    assert offered(offers) == ([1, 2], True)
    assert offered(offers) == ([3], False)  # the others are out
    pool.come_back([1, 2, 3])
    patience.succeeded([1])
    assert offered(offers) == ([3], False)


async def test_when_nothing_but_suspects_is_left_a_good_city_is_asked_for(
    pool: Pool, patience: Patience, offers: Offers
) -> None:
    add(pool, "a", 3)
    patience.succeeded([1])
    fail(pool, patience, 3)
    turns, together = offers.take(1)
    assert not together
    assert await offers.good_city(turns) == 1
    patience.succeeded([1])
    assert await offers.good_city(turns) is None
