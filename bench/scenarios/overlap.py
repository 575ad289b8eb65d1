"""Collections that want the same cities: each city is paid for once, whoever wants it and whenever it was asked for.

Three consumers in virtual time, answers that take two seconds, collections that join while others' cities are in
flight, and a consumer that joins in the middle. The probe's city counts as collected. The baseline pays for each.
"""

from typing import Final

from bench.report import Figure, Outcome, at_most, within_quota
from bench.size import Size
from bench.town import Conditions, Town, each, tell_all

CITIES: Final = range(1, 301)
POSTED_AT: Final = (0.0, 0.5, 3.0, 21.0, 60.0, 121.5)
SHARE: Final = 0.6
CONSUMER_JOINS_AT: Final = 45.0


def overlap(size: Size) -> Outcome:
    """Units spent for each distinct city."""
    outcome = Outcome("overlap")
    slow = Conditions(consumers=3, latency_s=2.0)
    towns = each(slow, pacing=["smooth", "burst"], endpoint=["group", "single"], seed=size.of([1, 2, 3], [1]))
    found = tell_all([(town, overlapping) for town in towns], size)
    for kind in sorted({(town.pacing, town.endpoint) for town in towns}):
        runs = [run for town, run in zip(towns, found, strict=True) if (town.pacing, town.endpoint) == kind]
        spent, distinct, wanted = (sum(run[column] for run in runs) for column in range(3))
        # A refused probe of the group endpoint is a unit that no city can be collected with.
        probes = len(runs) if kind[1] == "single" else 0
        what = f"{', '.join(kind)}, 3 consumers and one more later"
        outcome.add(
            Figure(what, spent - probes, "units", distinct, "distinct cities", at_most(1.0)),
            Figure(f"{what}: if each collection pays", wanted, "units", distinct, "distinct cities"),
        )
    outcome.add(within_quota(max(run[3] for run in found), slow.cities_per_window))
    return outcome


async def overlapping(town: Town, size: Size) -> tuple[int, int, int, int]:  # noqa: ARG001
    """Units spent, distinct cities, cities wanted over all collections, most in a window."""
    wanted: list[list[int]] = []
    joined = False
    for number, moment in enumerate(POSTED_AT):
        if moment > CONSUMER_JOINS_AT and not joined:
            await town.clock.sleep(max(0.0, CONSUMER_JOINS_AT - town.now))
            town.start_consumer()
            joined = True
        await town.clock.sleep(max(0.0, moment - town.now))
        wanted.append(town.plan.chance.sample(CITIES, int(SHARE * len(CITIES))))
        await town.collect(f"c{number}", wanted[-1], max_age_s=600)
    await town.until_done(3600)
    spent = sum(cities for _, cities in town.witness.arrivals)
    distinct = len({city for cities in wanted for city in cities})
    return spent, distinct, sum(map(len, wanted)), town.most_in_window()
