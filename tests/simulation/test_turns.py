"""Turns at full scale, in virtual time: a small collection beside a big one, and equal ones beside each other."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from raingauge.database import open_database
from raingauge.model import CollectionRequest
from raingauge.storage import collections
from tests.simulation.test_optimum import CalmWorld
from tests.simulation.virtual import VirtualLoop, run_virtually
from tests.simulation.world import Parts

FIRST = 3_000_000
SMALL_EVERY_S = 97.0
"""Not in step with the calls."""


class Beside(CalmWorld):
    """Collections beside each other, for a while."""

    def request(self, name: str, cities: Sequence[int]) -> CollectionRequest:
        return CollectionRequest(name, cities, 0, named=True)

    def settled(self, name: str) -> int:
        state = self.observer.read(lambda connection: collections.find(connection, name))
        assert state is not None
        return state.settled

    def start(self) -> None:
        self.start_relay()
        for _ in range(self.plan.consumers):
            self.start_consumer()


class SmallBesideBig(Beside):
    """Now and then five cities, beside a collection that never ends."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.waits: list[float] = []

    async def live(self) -> None:
        self.start()
        await self._post(self.request("big", range(FIRST, FIRST + 4000)))
        await self.clock.sleep(100)
        for number in range(12):
            await self.clock.sleep(SMALL_EVERY_S)
            await self._post(self.request(f"small{number}", range(1 + 5 * number, 6 + 5 * number)))
            posted = self.clock.monotonic()
            while self.settled(f"small{number}") < 5:
                await self.clock.sleep(0.1)
            self.waits.append(self.clock.monotonic() - posted)
        self.fail_if_a_process_failed()


class EightBesideEachOther(Beside):
    """Eight equal ones, looked at before any of them is done."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.shares: list[int] = []

    async def live(self) -> None:
        self.start()
        for number in range(8):
            begin = FIRST + 1000 * number
            await self._post(self.request(f"equal{number}", range(begin, begin + 400)))
        await self.clock.sleep(1600)
        self.shares = [self.settled(f"equal{number}") for number in range(8)]
        self.fail_if_a_process_failed()


@contextmanager
def lived(template: Path, kind: type[Any], group_mode: str, consumers: int) -> Iterator[Any]:
    path = template.with_name(f"{kind.__name__}-{group_mode}-{consumers}.db")
    path.write_bytes(template.read_bytes())
    with closing(open_database(f"sqlite:///{path}")) as database:
        loop = VirtualLoop()
        world = kind(1, database.engine, loop, Parts())
        world.calm("smooth", group_mode, consumers)
        run_virtually(world.live(), loop)
        yield world


@pytest.mark.long
@pytest.mark.parametrize("consumers", [1, 3])
@pytest.mark.parametrize(("group_mode", "longest_s"), [("works", 25), ("removed", 10)])
def test_five_cities_beside_thousands_are_there_soon(
    template: Path, group_mode: str, longest_s: float, consumers: int
) -> None:
    with lived(template, SmallBesideBig, group_mode, consumers) as world:
        assert len(world.waits) == 12
        assert max(world.waits) <= longest_s


@pytest.mark.long
@pytest.mark.parametrize("consumers", [1, 3])
@pytest.mark.parametrize("group_mode", ["works", "removed"])
def test_eight_equal_collections_share_equally(template: Path, group_mode: str, consumers: int) -> None:
    with lived(template, EightBesideEachOther, group_mode, consumers) as world:
        shares = world.shares
        assert sum(shares) >= 0.98 * 1600
        assert sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares)) >= 0.99, shares
