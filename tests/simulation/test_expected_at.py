"""`expected_at` against what really happens, in virtual time: alone and among others, from many moments of each run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import select

from producer.collections import Collections
from raingauge.model import CollectionRequest
from raingauge.quota.pacing import Pacing, Terms
from raingauge.storage.models import Collection
from tests.simulation.test_optimum import CalmWorld
from tests.simulation.virtual import EPOCH, VirtualLoop
from tests.simulation.world import ACCOUNT, Parts
from tests.support.databases import sqlite_again

LOOK_EVERY_S: Final = 17.3
"""Falls on ever other moments of the pace."""
WINDOW_S: Final = 60.0
CALL_S: Final = 20.0
"""How long a group call of 20 cities lasts at 60 a minute."""


@dataclass(frozen=True)
class Post:
    """A collection of a run: when it is posted (seconds), and its cities."""

    at_s: float
    city_ids: Sequence[int]


@dataclass(frozen=True)
class Look:
    """What was expected of a collection at some moment, and what became of it. Seconds since the start."""

    collection_id: str
    at_s: float
    expected_s: float
    finished_s: float

    @property
    def beyond_s(self) -> float:
        """By how much the error is more than what is allowed: two seconds, or two hundredths of the time to go."""
        allowed_s = max(2.0, 0.02 * (self.finished_s - self.at_s))
        return abs(self.expected_s - self.finished_s) - allowed_s


class WatchedWorld(CalmWorld):
    """A calm world with several collections; all that are open are looked at again and again."""

    posts: Sequence[Post] = ()
    seen: list[tuple[str, float, float]]

    async def live(self) -> None:
        self.seen = []
        self.start_relay()
        for _ in range(self.plan.consumers):
            self.start_consumer("auto")
        for number, post in enumerate(self.posts):
            await self.clock.sleep(max(0.0, post.at_s - self.clock.monotonic()))
            await self._post(CollectionRequest(str(number), tuple(post.city_ids), 600, named=True))
        # Before the last one was posted, nobody could know of it; then its batches are on their way to the queue.
        await self.clock.sleep(1)
        while not self.audit.all_done():
            await self._look()
            await self.clock.sleep(LOOK_EVERY_S)
        self.fail_if_a_process_failed()
        self.audit.check()

    async def _look(self) -> None:
        producer = self._process("producer")
        collections = Collections(producer.transactions, self.plan.terms, ACCOUNT, self.outstanding)
        for collection_id in self.audit.accepted:
            view = await collections.view(collection_id, collections.deadline())
            assert view is not None
            if view.state.finished_at is None:
                assert view.progress.expected_at is not None
                expected_s = (view.progress.expected_at - EPOCH).total_seconds()
                self.seen.append((collection_id, self.clock.monotonic(), expected_s))


def watched(
    template: Path, posts: Sequence[Post], pacing: Pacing, group_mode: str, consumers: int = 1, seed: int = 1
) -> list[Look]:
    """All looks of a run. The seed draws latencies, and the order in which batches are delivered."""
    with sqlite_again(template) as engine:
        run = WatchedWorld(seed, engine, VirtualLoop(), Parts())
        run.calm(pacing, group_mode, consumers)
        run.plan.terms = Terms(60, WINDOW_S, pacing, 1_000_000, "none", 10.0)
        run.posts = posts
        run.run()
        rows = run.observer.read(lambda c: c.execute(select(Collection.id, Collection.finished_at)).all())
    finished_s = {row[0]: (row[1] - EPOCH).total_seconds() for row in rows if row[1] is not None}
    assert len(run.seen) > 5
    return [Look(*seen, finished_s[seen[0]]) for seen in run.seen]


def apart(at_s: float, size: int, number: int) -> Post:
    """A collection whose cities nobody else wants."""
    return Post(at_s, range(number * 100_000, number * 100_000 + size))


SIZES: Final = (61, 41, 45, 88, 130, 12)
"""None of them ends where a call or a window does: there a single city decides between two of them."""
TOGETHER: Final = [apart(1.5, size, number) for number, size in enumerate(SIZES, 1)]
UNDER_WAY: Final = [
    *(apart(1.5, 130, 1), apart(30, 80, 2), apart(40, 15, 3)),
    *(apart(50, 45, 4), apart(51.3, 30, 5), apart(60, 60, 6)),
]
LATE: Final = 0.05
"""The share of looks that may be off by a call: when the last city falls to one side or the other of its border."""
EACH_PACE: Final = pytest.mark.parametrize(
    ("pacing", "group_mode"),
    [
        *(("smooth", "works"), ("burst", "works")),
        *(pytest.param(pacing, "removed", marks=pytest.mark.long) for pacing in ("smooth", "burst")),
    ],
)


@EACH_PACE
@pytest.mark.parametrize("consumers", [1, pytest.param(3, marks=pytest.mark.long)])
def test_alone_a_collection_is_done_when_it_is_expected(
    template: Path, pacing: Pacing, group_mode: str, consumers: int
) -> None:
    # From the second look on the endpoint is known.
    looks = watched(template, [apart(1.5, 167, 1)], pacing, group_mode, consumers)[1:]
    assert max(look.beyond_s for look in looks) <= 0, [look for look in looks if look.beyond_s > 0]


def one_call_s(pacing: Pacing, group_mode: str) -> float:
    """How much later it is when the last city falls to the other side of its border."""
    return WINDOW_S if pacing == "burst" else CALL_S if group_mode == "works" else 1.0


def assert_nearly_right(looks: Sequence[Look], pacing: Pacing, group_mode: str) -> None:
    """Few looks are off, and those by one call at most."""
    off = [look for look in looks if look.beyond_s > 0]
    assert len(off) <= LATE * len(looks), off
    assert max((look.beyond_s for look in off), default=0.0) <= one_call_s(pacing, group_mode), off


@pytest.mark.long
@EACH_PACE
@pytest.mark.parametrize(("consumers", "seed"), [(1, 1), (1, 2), (3, 3), (3, 4)])
@pytest.mark.parametrize("posts", [TOGETHER, UNDER_WAY], ids=["posted together", "under way"])
def test_among_five_others_it_is_off_by_one_call_at_most_and_seldom(
    template: Path, pacing: Pacing, group_mode: str, consumers: int, seed: int, posts: list[Post]
) -> None:
    looks = watched(template, posts, pacing, group_mode, consumers, seed)
    assert_nearly_right([look for look in looks if look.at_s > 5], pacing, group_mode)


@pytest.mark.long
@EACH_PACE
@pytest.mark.parametrize(("consumers", "seed"), [(1, 1), (1, 2), (3, 3), (3, 4)])
def test_collections_of_the_same_cities_are_expected_right_and_one_beside_them_never_too_late(
    template: Path, pacing: Pacing, group_mode: str, consumers: int, seed: int
) -> None:
    same = range(100_000, 100_167)
    posts = [Post(1.5, same), Post(1.6, same), apart(2, 70, 2), Post(60, same)]
    # The last one needs a moment to take what is fresh.
    looks = [look for look in watched(template, posts, pacing, group_mode, consumers, seed) if look.at_s > 62]
    assert_nearly_right([look for look in looks if look.collection_id != "2"], pacing, group_mode)
    # They count as one, which is right as long as they ask in the same order. Here batches are delivered in any order:
    # so each of the three may get as many cities as the one beside them until that is done, but not more.
    for look in (look for look in looks if look.collection_id == "2"):
        to_go_s, expected_s = look.finished_s - look.at_s, look.expected_s - look.at_s
        allowed_s = one_call_s(pacing, group_mode) + 2.0
        assert expected_s - allowed_s <= to_go_s <= 4 * expected_s + allowed_s, look
