"""The share of the quota that is used while there is always more to do, for an hour of virtual time.

Once the first window is over. Uniform batches: collections of two hundred cities. Mixed: of 1 to 167, so that most
batches are not full; calls are to be full all the same, however long it goes on.
"""

from typing import Final

from bench.report import Figure, Outcome, at_least, within_quota
from bench.size import Size
from bench.sleeper import fate
from bench.town import Conditions, Town, each, tell_all

SIZES: Final = {"uniform": (200,), "mixed": (1, 3, 7, 20, 33, 167)}
ENOUGH: Final = 400
"""Unsettled cities below which more is posted."""
USED: Final = 0.99
CALL: Final = 16.0
QUARTERS: Final = 4

Found = tuple[list[tuple[float, int]], int]


def saturation(size: Size) -> Outcome:
    """The share that is used, and the mean size of calls."""
    outcome = Outcome("saturation")
    towns = each(Conditions(), pacing=["smooth", "burst"], consumers=size.of([1, 3], [3]))
    jobs = [(town, story) for town in towns for story in (uniform, mixed)]
    found = tell_all(jobs, size)
    for (town, story), (arrivals, _) in zip(jobs, found, strict=True):
        what = f"{town.pacing}, {story.__name__} batches, {town.crew}"
        _judge(outcome, what, arrivals, town)
    terms = Conditions().terms
    outcome.add(within_quota(max(most for _, most in found), terms.cities_per_window))
    for kind, sizes in SIZES.items():
        batches = [min(20, cities) for cities in sizes * 40]
        worst = fate(batches).worst_window
        outcome.add(
            Figure(f"sleeper, {kind} batches: most in a window", worst, "", terms.cities_per_window, "the quota")
        )
    return outcome


async def uniform(town: Town, size: Size) -> Found:
    """Batches of twenty."""
    return await _keep_busy(town, SIZES["uniform"], size.of(1.0, 0.2))


async def mixed(town: Town, size: Size) -> Found:
    """Batches of one to twenty."""
    return await _keep_busy(town, SIZES["mixed"], size.of(1.0, 0.2))


async def _keep_busy(town: Town, sizes: tuple[int, ...], hours: float) -> Found:
    first, number = 1, 0
    while town.now < hours * 3600:
        town.fail_if_a_process_failed()
        while town.unsettled() < ENOUGH:
            cities = town.plan.chance.choice(sizes)
            await town.collect(f"c{number}", range(first, first + cities))
            first, number = first + cities, number + 1
        await town.clock.sleep(20)
    return sorted(town.witness.arrivals), town.most_in_window()


def _judge(outcome: Outcome, what: str, arrivals: list[tuple[float, int]], town: Conditions) -> None:
    """Leaves out the first two windows, which fill from nothing."""
    steady = [(at, cities) for at, cities in arrivals if at >= arrivals[0][0] + 2 * town.window_s]
    share = used(steady, town)
    last = steady[-len(steady) // QUARTERS :]
    mean = sum(cities for _, cities in last) / len(last)
    outcome.add(
        Figure(f"{what}: quota used", share, bound=at_least(USED)),
        Figure(f"{what}: mean call, last quarter", mean, "cities", bound=at_least(CALL)),
    )
    width = max(1, len(steady) // 40)
    parts = [steady[begin : begin + width] for begin in range(0, len(steady) - width, width)]
    outcome.draw(what, [(part[0][0] / 3600, sum(cities for _, cities in part) / len(part)) for part in parts])


def used(arrivals: list[tuple[float, int]], town: Conditions) -> float:
    """The share of the quota that these arrivals use, from the start of a call to the start of another.

    Both after the longest pause near either end: so that no burst is counted without the wait for the next.
    """
    begin, end = _after_pause(arrivals, 0, town.window_s), _after_pause(arrivals, len(arrivals) - 1, town.window_s)
    cities = sum(cities for _, cities in arrivals[begin:end])
    return cities * town.window_s / (town.cities_per_window * (arrivals[end][0] - arrivals[begin][0]))


def _after_pause(arrivals: list[tuple[float, int]], near: int, window_s: float) -> int:
    """The arrival after the longest pause within one and a half windows of this one."""
    there = [n for n in range(1, len(arrivals)) if abs(arrivals[n][0] - arrivals[near][0]) <= 1.5 * window_s]
    return max(there, key=lambda n: arrivals[n][0] - arrivals[n - 1][0])
