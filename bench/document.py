"""The part of docs/performance.md that a run fills in, between two marks, so it is never older than the results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.report import from_json, markdown

BEGIN: Final = "<!-- bench: begin; written by `make bench` -->"
END: Final = "<!-- bench: end -->"
TITLES: Final = {
    "pace": "Time: 167 cities",
    "saturation": "Quota used while saturated",
    "fairness": "Small beside big",
    "overlap": "Overlapping collections",
    "distance": "Far from the database",
    "pipeline": "The whole pipeline without a quota",
    "paid": "The largest plan",
    "ledger": "The ledger",
    "api": "The API",
    "summary": "Sums",
    "history": "Histories and pruning",
    "watchers": "Watchers",
    "eta": "The expected end",
    "memory": "Memory",
    "idle": "Idle",
    "command": "The command",
}


class NoMarks(Exception):
    """The document has no place for the figures: a line with each mark."""


def filled(text: str, scenarios: Sequence[Mapping[str, Any]]) -> str:
    """The document with the figures of these scenarios (as `report.load` gives them) between its marks.

    Raises:
        NoMarks: there are none.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise NoMarks
    return f"{before}{BEGIN}\n{section(scenarios)}\n{END}{after}"


def section(scenarios: Sequence[Mapping[str, Any]]) -> str:
    """One heading, table and plot for each scenario, in the order of the titles."""
    known = {entry["scenario"]: entry for entry in scenarios}
    return "\n\n".join(_part(title, known[name]) for name, title in TITLES.items() if name in known)


def _part(title: str, entry: Mapping[str, Any]) -> str:
    outcome, machine = from_json(entry), entry["machine"]
    rough = " A quick run: the figures are rough." if machine["quick"] else ""
    database = machine["database"].get("version", "none")
    parts = [
        f"### {title}",
        f"{machine['at']}, {machine['cores']} cores, Python {machine['python']}, {database}.{rough}",
        markdown([outcome]),
    ]
    if outcome.notes:
        parts.append("\n".join(f"- {note}" for note in outcome.notes))
    if outcome.curves or any(figure.bound and not figure.promise for figure in outcome.figures):
        parts.append(f"![{title}](performance/{outcome.scenario}.svg)")
    return "\n\n".join(parts)


def publish(document: Path, scenarios: Sequence[Mapping[str, Any]]) -> None:
    """Write the figures into the document."""
    document.write_text(filled(document.read_text("utf-8"), scenarios), encoding="utf-8")
