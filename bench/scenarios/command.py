"""How long `raingauge --help` takes: what a person waits for, beside what starting Python takes.

Processor time, as other work on the machine would count else: a program that starts waits for nothing. The two run in
turn, and the median of each counts.
"""

import resource
import subprocess
import sys
from statistics import median

from bench.report import Figure, Outcome, at_most
from bench.size import Size

LIMIT_S = 0.3
HELP = ("-m", "cli", "--help")
NOTHING = ("-c", "pass")


def command(size: Size) -> Outcome:
    """Seconds of processor time of both."""
    outcome = Outcome("command")
    took: dict[tuple[str, ...], list[float]] = {HELP: [], NOTHING: []}
    for _ in range(size.of(30, 10)):
        for arguments, seconds in took.items():
            seconds.append(_seconds(arguments))
    helped, nothing = (median(seconds) for seconds in took.values())
    outcome.add(
        Figure("raingauge --help", helped, "s", LIMIT_S, "the limit", at_most(1.0)),
        Figure("raingauge --help, beside an empty program", helped, "s", nothing, "python -c pass"),
    )
    return outcome


def _seconds(arguments: tuple[str, ...]) -> float:
    before = _of_children()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return _of_children() - before


def _of_children() -> float:
    """Processor time of all programs that were started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
