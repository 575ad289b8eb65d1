"""How long 167 cities take, beside the optimum that no schedule within the quota can beat (docs/quota.md).

From the first call, the probe of one city, to the last answer. In virtual time; and with real processes on Kafka and
MariaDB, all at the same time: each has a simulator with a quota of its own, and little to do. Beside it the consumer
that sleeps a second for each city.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Final

from bench.databases import on_mariadb
from bench.processes import on_kafka
from bench.report import Figure, Outcome, at_most, within_quota
from bench.size import Size
from bench.sleeper import fate
from bench.town import Conditions, Town, each, tell_all
from raingauge.quota.pacing import Pacing
from tests.support.processes import simulator

CITIES: Final = 167
PACINGS: Final[tuple[Pacing, ...]] = ("smooth", "burst")
QUOTA: Final = 60
OPTIMUM: Final = {("smooth", "group"): 160.0, ("burst", "group"): 120.0, ("smooth", "single"): 166.0}
"""Seconds from the first call to the last at 60 in 60 s."""
WINDOW_S: Final = 60.0
QUICK_S: Final = 6.0
"""A tenth of it, for rough figures: there a hundredth of a second is a thousandth."""
LATENCY_S: Final = 0.02
SHARE: Final = 1.01

Arrivals = list[tuple[float, int]]


def pace(size: Size) -> Outcome:
    """Seconds, as a share of the optimum."""
    outcome = Outcome("pace")
    towns = each(Conditions(), pacing=PACINGS, consumers=[1, 3])
    towns += each(Conditions(endpoint="single"), consumers=[1, 3])
    sweeps = tell_all([(town, sweep) for town in towns], size)
    for conditions, (arrivals, _) in zip(towns, sweeps, strict=True):
        _virtual(outcome, conditions, arrivals)
    outcome.add(within_quota(max(most for _, most in sweeps), QUOTA))
    for figures in _all_real(size):
        outcome.add(*figures)
    _sleepers(outcome)
    return outcome


async def sweep(town: Town, size: Size) -> tuple[Arrivals, int]:  # noqa: ARG001
    """One collection of all cities: its arrivals at the provider, and the most in a window."""
    await town.collect("all", range(3_000_001, 3_000_001 + CITIES))
    await town.until_done(600)
    return town.witness.arrivals, town.most_in_window()


def _virtual(outcome: Outcome, conditions: Conditions, arrivals: Arrivals) -> None:
    first = min(at for at, _ in arrivals)
    took = max(at for at, _ in arrivals) - first + conditions.latency_s
    optimum = OPTIMUM[conditions.pacing, conditions.endpoint] + conditions.latency_s
    outcome.add(Figure(f"{conditions}", took, "s", optimum, "optimum", at_most(SHARE)))
    done = 0
    points = [(0.0, 0.0)]
    for at, cities in sorted(arrivals):
        done += cities
        points.append((at - first, float(done)))
    if conditions.consumers == 1:
        outcome.draw(f"{conditions}", points)


def _all_real(size: Size) -> list[list[Figure]]:
    window_s = size.of(WINDOW_S, QUICK_S)
    runs = [(pacing, consumers) for pacing in PACINGS for consumers in size.of((1, 3), (3,))]
    with ExitStack() as databases, ThreadPoolExecutor(len(runs)) as threads:
        # One after the other: Alembic has one context for the whole process.
        urls = [databases.enter_context(on_mariadb()) for _ in runs]
        futures = [threads.submit(_real, url, *run, window_s) for url, run in zip(urls, runs, strict=True)]
        return [future.result(600) for future in futures]


def _real(url: str, pacing: Pacing, consumers: int, window_s: float) -> list[Figure]:
    with ExitStack() as parts:
        limits = ("--quota", str(QUOTA), "--window-s", str(window_s), "--latency-s", str(LATENCY_S))
        weather = parts.enter_context(simulator(*limits))
        quota = {"QUOTA__WINDOW_S": str(window_s), "QUOTA__PACING": pacing}
        running = parts.enter_context(on_kafka(url, weather.url, consumers, **quota))
        running.collect("all", range(3_439_525, 3_439_525 + CITIES))
        running.until_done(5 * window_s)
        witness = weather.get("/control/witness")
        stored_s = running.seconds_of("all")
    took = witness["last_at_s"] - witness["first_at_s"] + LATENCY_S
    optimum = OPTIMUM[pacing, "group"] * window_s / WINDOW_S + LATENCY_S
    name = f"Kafka, MariaDB, {QUOTA} in {window_s:g} s: {Conditions(pacing, consumers=consumers)}"
    return [
        Figure(name, took, "s", optimum, "optimum", at_most(SHARE)),
        Figure(f"{name}: POST to stored", stored_s, "s", optimum, "optimum", at_most(SHARE)),
        within_quota(witness["most_in_window"], QUOTA, name),
    ]


def _sleepers(outcome: Outcome) -> None:
    """One in order; one whose short batch comes early, as partitions shuffle them; two sweeps; three consumers."""
    full, short = [20] * 8, [7]
    for name, batches, consumers in (
        ("one sweep, short batch last", [*full, *short], 1),
        ("one sweep, short batch third", [*full[:2], *short, *full[2:]], 1),
        ("two sweeps", [*full, *short] * 2, 1),
        ("one sweep, 3 consumers", [*full, *short], 3),
    ):
        found = fate(batches, consumers)
        outcome.add(Figure(f"sleeper, {name}: most in a window", found.worst_window, "", QUOTA, "the quota"))
        outcome.notes.append(f"A sleeper ({name}) {found.words}.")
