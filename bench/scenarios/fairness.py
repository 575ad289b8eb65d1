"""A small collection beside big ones, and eight equal ones beside each other, at 60 cities a minute in virtual time.

Five cities are posted at many moments beside 100,000 that are under way, and beside forty collections of 600 each: how
long until they are done, at worst? And at half time, how equally are eight collections served? The baseline serves
batches in the order of their coming.
"""

from typing import Final

from bench.report import Figure, Outcome, at_least, at_most, within_quota
from bench.size import Size
from bench.statistics import jain, percentile
from bench.town import Conditions, Town, each, seconds, tell_all

BIG: Final = 100_000
MANY: Final = 40
MANY_CITIES: Final = 600
BEGUN_S: Final = 300.0
"""By then three in four of the many have had their first few, which take at most half of each call."""
SMALL: Final = 5
WAIT_S: Final = {"group": 25.0, "single": 10.0}
EQUAL: Final = 8
JAIN: Final = 0.99
TERMS: Final = Conditions().terms


def fairness(size: Size) -> Outcome:
    """The worst wait, and Jain's index."""
    outcome = Outcome("fairness")
    beside = each(Conditions(), endpoint=["group", "single"], consumers=[1, 3])
    equal = each(Conditions(), endpoint=size.of(["group", "single"], ["group"]), consumers=[1, 3])
    waits = tell_all([(town, story) for story in (small_beside_big, small_beside_many) for town in beside], size)
    others = [f"{others}: {town.endpoint}, {town.crew}" for others in ("100,000", "40 times 600") for town in beside]
    for what, town, (waited, _) in zip(others, beside * 2, waits, strict=True):
        limit = WAIT_S[town.endpoint]
        outcome.add(
            Figure(
                f"5 cities beside {what}: worst wait of {len(waited)}",
                max(waited),
                "s",
                limit,
                "the limit",
                at_most(1.0),
            ),
            Figure(f"5 cities beside {what}: median wait", percentile(waited, 0.5), "s", limit, "the limit"),
        )
        outcome.draw(what, _distribution(waited))
    served = tell_all([(town, eight_equal) for town in equal], size)
    for town, (shares, _) in zip(equal, served, strict=True):
        what = f"eight equal collections: {town.endpoint}, {town.crew}"
        outcome.add(Figure(f"{what}: Jain's index", jain(shares), bound=at_least(JAIN)))
    outcome.add(within_quota(max(most for _, most in waits + served), TERMS.cities_per_window))
    outcome.add(Figure("computed: the wait behind 100,000 in a queue of batches", BIG * TERMS.spread_s(1), "s"))
    return outcome


async def small_beside_big(town: Town, size: Size) -> tuple[list[float], int]:
    """The waits beside one that is under way; most in a window."""
    await town.collect("big", range(1, BIG + 1))
    await town.clock.sleep(150)
    return await _waits_of_small_ones(town, size)


async def small_beside_many(town: Town, size: Size) -> tuple[list[float], int]:
    """The waits beside many that are under way; most in a window."""
    for number in range(MANY):
        await town.collect(f"big-{number}", range(1 + number * MANY_CITIES, 1 + (number + 1) * MANY_CITIES))
    await town.clock.sleep(BEGUN_S)
    return await _waits_of_small_ones(town, size)


async def _waits_of_small_ones(town: Town, size: Size) -> tuple[list[float], int]:
    """Posted at moments that drift through the pace's rhythm."""
    waited = []
    for number in range(size.of(60, 8)):
        first = 1_000_000 + number * SMALL
        name = f"small-{number}"
        await town.collect(name, range(first, first + SMALL))
        await town.until(lambda name=name: town.state(name).finished_at is not None, 600)  # type: ignore[misc]
        state = town.state(name)
        waited.append(seconds(state.finished_at) - seconds(state.requested_at))
        await town.clock.sleep(20 + town.plan.chance.uniform(0, 20))
    return waited, town.most_in_window()


async def eight_equal(town: Town, size: Size) -> tuple[list[float], int]:
    """What each of the eight has when half of all is collected; most in a window."""
    cities = size.of(200, 100)
    for number in range(EQUAL):
        await town.collect(f"equal-{number}", range(1 + number * cities, 1 + (number + 1) * cities))
    await town.until(lambda: town.unsettled() <= EQUAL * cities / 2, 3 * EQUAL * cities)
    return [float(town.state(f"equal-{number}").settled) for number in range(EQUAL)], town.most_in_window()


def _distribution(waited: list[float]) -> list[tuple[float, float]]:
    """The share of collections that waited no longer."""
    return [(wait, (rank + 1) / len(waited)) for rank, wait in enumerate(sorted(waited))]
