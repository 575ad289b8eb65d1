"""What producer and consumer hold in memory: at rest, and while 10,000 batches of one collection go through.

Sampled as it goes; the growth is the slope over the batches after the first fifth, when caches are warm.
"""

from contextlib import ExitStack
from typing import Final

from bench.databases import on_mariadb
from bench.processes import CLOCK, UNLIMITED, System, memory_mb, on_kafka, stub, until
from bench.report import Figure, Outcome, at_most
from bench.size import Size
from bench.statistics import slope

BATCH: Final = 20
GROWTH_MB: Final = 1.0
"""For every thousand batches."""
WARM: Final = 0.2
LONGEST_S: Final = 240.0

Samples = list[tuple[float, float]]


def memory(size: Size) -> Outcome:
    """Megabytes, and their growth."""
    outcome = Outcome("memory")
    batches = size.of(10_000, 800)
    with ExitStack() as parts:
        url = parts.enter_context(on_mariadb())
        provider = parts.enter_context(stub())
        running = parts.enter_context(on_kafka(url, provider.url, 1, **UNLIMITED))
        programs = {"producer": running.producer, "consumer": running.consumers[0]}
        for name, program in programs.items():
            outcome.add(Figure(f"{name} at rest", memory_mb(program), "MB"))
        running.collect("large", range(1, batches * BATCH + 1))
        samples = _watch(running)
    reached = samples["consumer"][-1][0]
    if reached < 0.98 * batches / 1000:
        outcome.notes.append(f"After {LONGEST_S:g} s only {reached * 1000:,.0f} of {batches:,} batches were settled.")
    for name, points in samples.items():
        warm = [(x, y) for x, y in points if x >= WARM * reached]
        what = f"{name}, {reached * 1000:,.0f} batches"
        outcome.add(
            Figure(f"{what}: growth per 1,000", slope(warm), "MB", GROWTH_MB, "the limit", at_most(1.0)),
            Figure(f"{what}: at the end", points[-1][1], "MB"),
        )
        outcome.draw(name, points)
    return outcome


def _watch(running: System) -> dict[str, Samples]:
    """Thousands of batches settled, and the megabytes of each program, until it is done or takes too long."""
    samples: dict[str, Samples] = {"producer": [], "consumer": []}
    began = CLOCK.monotonic()

    def over() -> bool:
        thousands = running.settled() / BATCH / 1000
        samples["producer"].append((thousands, memory_mb(running.producer)))
        samples["consumer"].append((thousands, memory_mb(running.consumers[0])))
        return running.open_collections() == 0 or CLOCK.monotonic() - began > LONGEST_S

    until(over, LONGEST_S + 30, "the large collection", every_s=0.5)
    return samples
