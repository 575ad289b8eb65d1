"""`python -m tests.simulation --seeds 10000`: many runs; each violation is printed with its seed."""

import argparse
import gc
import logging
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from raingauge.clock import SystemClock
from tests.simulation.world import simulate
from tests.support.databases import sqlite_template


def prepare() -> None:
    """Once in each process: silence its logs, and search seldom for garbage, of which a run makes little."""
    logging.disable(logging.CRITICAL)
    gc.freeze()
    gc.set_threshold(50_000)


def run_one(template: Path, seed: int) -> str | None:
    """The violation of a seed, or None."""
    try:
        simulate(seed, template)
    except BaseException as error:  # noqa: BLE001
        return "\n".join((f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())))
    return None


def main() -> int:
    """Exit status 1 when a seed violates a promise."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    clock = SystemClock()
    began = clock.monotonic()
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    violations = 0
    with sqlite_template() as template, ProcessPoolExecutor(arguments.jobs, initializer=prepare) as pool:
        for seed, violation in zip(seeds, pool.map(partial(run_one, template), seeds, chunksize=5), strict=True):
            if violation is not None:
                violations += 1
                print(f"seed {seed}: {violation}", flush=True)  # noqa: T201
            if (seed - arguments.first + 1) % 500 == 0:
                print(f"{seed - arguments.first + 1} seeds, {violations} violations", flush=True)  # noqa: T201
    minutes = (clock.monotonic() - began) / 60
    rate = arguments.seeds / minutes
    print(f"{arguments.seeds} seeds, {violations} violations, {rate:.0f} seeds a minute")  # noqa: T201
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
