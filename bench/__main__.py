"""`python -m bench`: run the scenarios one after another, print one table, keep the results, draw them.

Exit status 1 when a promise was broken (the provider saw more than the quota) or a scenario came to no end. A missed
target is shown, and is not an error.
"""

import argparse
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from bench.document import publish
from bench.machine import facts
from bench.plots import draw
from bench.processes import CLOCK
from bench.report import Outcome, from_json, load, save, table
from bench.scenarios.api import api
from bench.scenarios.command import command
from bench.scenarios.distance import distance
from bench.scenarios.eta import eta
from bench.scenarios.fairness import fairness
from bench.scenarios.idle import idle
from bench.scenarios.ledger import ledger
from bench.scenarios.memory import memory
from bench.scenarios.overlap import overlap
from bench.scenarios.pace import pace
from bench.scenarios.paid import paid
from bench.scenarios.pipeline import pipeline
from bench.scenarios.readings.history import history
from bench.scenarios.readings.summary import summary
from bench.scenarios.saturation import saturation
from bench.scenarios.watchers import watchers
from bench.size import Size

SCENARIOS: Final[Mapping[str, Callable[[Size], Outcome]]] = {
    scenario.__name__: scenario
    for scenario in (
        pace,
        saturation,
        distance,
        fairness,
        overlap,
        pipeline,
        paid,
        ledger,
        api,
        summary,
        history,
        watchers,
        eta,
        memory,
        idle,
        command,
    )
}
RESULTS: Final = Path("bench/results")
"""What is committed: its figures are written into the document, too."""
ROUGH: Final = Path("var/bench")
DOCUMENT: Final = Path("docs/performance.md")
PLOTS: Final = Path("docs/performance")


def main() -> int:
    """Run what was asked for."""
    options = _parser().parse_args()
    folder: Path = options.out or (ROUGH if options.quick else RESULTS)
    machine = facts(quick=options.quick)
    chosen = SCENARIOS if options.only is None else options.only
    outcomes = [_run(name, Size(options.quick)) for name in SCENARIOS if name in chosen]
    results = folder / "latest.json"
    save(results, machine, outcomes)
    published = folder.resolve() == RESULTS.resolve()
    draw([from_json(entry) for entry in load(results)], PLOTS if published else folder)
    if published:
        publish(DOCUMENT, load(results))
    print(table(outcomes))
    for outcome in outcomes:
        for note in outcome.notes:
            print(f"{outcome.scenario}: {note}")
    print(f"Kept in {results}.")
    return 1 if any(outcome.broken for outcome in outcomes) else 0


def _run(name: str, size: Size) -> Outcome:
    """One scenario; an error is kept as its outcome, and the others go on."""
    print(f"{name} …", file=sys.stderr, flush=True)
    began = CLOCK.monotonic()
    try:
        outcome = SCENARIOS[name](size)
    except Exception as error:  # noqa: BLE001
        traceback.print_exc()
        outcome = Outcome(name, error=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    outcome.took_s = CLOCK.monotonic() - began
    print(f"{name}: {outcome.took_s:.0f} s", file=sys.stderr, flush=True)
    return outcome


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure what docs/performance.md tells.")
    names = ", ".join(SCENARIOS)
    parser.add_argument(
        "--only", nargs="*", choices=list(SCENARIOS), metavar="NAME", help=f"{names}; none: draw what is kept"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: a third of the time, and rough figures")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"for results and plots (default: {RESULTS}, which fills {DOCUMENT} too; with --quick {ROUGH})",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
