"""The share of the quota that is used however far the database is, in virtual time.

Each statement takes its way to the database and back, 20 or 100 ms, and a reservation holds the gate's lock as long
as its statements take. A free key, and the plan of 30,000 cities a minute; one, three and twelve consumers. A large
plan needs lanes for the time that reserving, calling and settling take together.
"""

from typing import Final

from bench.report import Bound, Figure, Outcome, at_least, within_quota
from bench.size import Size
from bench.town import Conditions, Town, each, tell_all

USED: Final[dict[float, Bound]] = {0.02: at_least(0.98), 0.1: at_least(0.95)}
FREE: Final = 60
PAID: Final = 30_000
WINDOWS: Final = {FREE: 12, PAID: 3}
Arrivals = list[tuple[float, int]]
LANES: Final = {FREE: 24, PAID: 96}


def distance(size: Size) -> Outcome:
    """The share that is used."""
    outcome = Outcome("distance")
    towns = [
        town
        for quota in (FREE, PAID)
        for town in each(
            Conditions(cities_per_window=quota, lanes=LANES[quota]),
            statement_s=list(USED),
            consumers=size.of([1, 3, 12], [3]),
            pacing=size.of(["smooth", "burst"], ["smooth", "burst"] if quota == FREE else ["smooth"]),
        )
    ]
    found = tell_all([(town, one_large) for town in towns], size)
    for town, (arrivals, most) in zip(towns, found, strict=True):
        what = f"{town.cities_per_window:,} a minute, {town.statement_s * 1000:.0f} ms, {town.pacing}, {town.crew}"
        outcome.add(
            Figure(f"{what}: quota used", used(arrivals, town), bound=USED[town.statement_s]),
            within_quota(most, town.cities_per_window, what),
        )
    return outcome


async def one_large(town: Town, size: Size) -> tuple[Arrivals, int]:  # noqa: ARG001
    """One collection that takes several windows."""
    terms = town.plan.terms
    windows = WINDOWS[terms.cities_per_window]
    await town.clock.sleep(15)
    await town.collect("large", range(1, terms.cities_per_window * windows + 1))
    await town.until_done(2 * windows * terms.window_s)
    return sorted(town.witness.arrivals), town.most_in_window()


def used(arrivals: Arrivals, town: Conditions) -> float:
    """The share that is used from the end of the first window's cities until the last window's begin to arrive."""
    quota = town.cities_per_window
    windows = sum(cities for _, cities in arrivals) // quota - 1
    moments: list[float] = []
    seen = 0
    for at, cities in arrivals:
        if len(moments) < windows and seen >= quota * (len(moments) + 1):
            moments.append(at)
        seen += cities
    return (len(moments) - 1) * town.window_s / (moments[-1] - moments[0])
