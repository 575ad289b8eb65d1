"""What a run found: figures, each held against a limit or a baseline, and how they are shown and kept."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

Mark = Literal["ok", "missed", "BROKEN", ""]
Points = list[tuple[float, float]]

HEADINGS: Final = ("scenario", "what", "figure", "against", "ratio", "target", "")
MOST_POINTS: Final = 400
"""Of one curve: more cannot be told apart in a plot."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A target: at least or at most that number."""

    kind: Literal["≥", "≤"]
    number: float

    def holds(self, value: float) -> bool:
        """Whether a value keeps it. NaN, which is no measurement, does not."""
        return value >= self.number if self.kind == "≥" else value <= self.number

    def __str__(self) -> str:
        return f"{self.kind} {shown(self.number)}"


def at_least(number: float) -> Bound:
    """A target from below."""
    return Bound("≥", number)


def at_most(number: float) -> Bound:
    """A target from above."""
    return Bound("≤", number)


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured."""

    what: str
    value: float
    unit: str = ""
    against: float | None = None
    """A limit, or a baseline of the same run, in the same unit; then the ratio of the two is judged."""
    named: str = ""
    """What `against` is."""
    bound: Bound | None = None
    """None: for information."""
    promise: bool = False
    """Breaking it is not a missed target but an error of the system."""

    @property
    def ratio(self) -> float | None:
        """The value as a share of what it is held against."""
        if self.against is None:
            return None
        return self.value / self.against if self.against else math.nan

    @property
    def mark(self) -> Mark:
        """How it turned out."""
        if self.bound is None:
            return ""
        judged = self.value if self.ratio is None else self.ratio
        if self.bound.holds(judged):
            return "ok"
        return "BROKEN" if self.promise else "missed"

    @property
    def kept(self) -> float | None:
        """How well the bound is kept: 1 just so, 2 twice as well, 0.5 half as well. None: there is none."""
        judged = self.value if self.ratio is None else self.ratio
        if self.bound is None or not judged or not self.bound.number:
            return None
        return judged / self.bound.number if self.bound.kind == "≥" else self.bound.number / judged

    def cells(self) -> tuple[str, ...]:
        """As a row of the table, without the scenario."""
        against = "" if self.against is None else f"{self.named} {quantity(self.against, self.unit)}".strip()
        ratio = "" if self.ratio is None else shown(self.ratio)
        bound = "" if self.bound is None else str(self.bound)
        return self.what, quantity(self.value, self.unit), against, ratio, bound, self.mark


def within_quota(most: int, quota: int, where: str = "all runs") -> Figure:
    """The promise that no window saw more than the quota."""
    return Figure(f"most in any window, {where}", most, "", quota, "the quota", at_most(1.0), promise=True)


@dataclass(slots=True)
class Outcome:
    """What one scenario found."""

    scenario: str
    figures: list[Figure] = field(default_factory=list)
    curves: dict[str, Points] = field(default_factory=dict)
    """For the plots: points by the name of their line."""
    notes: list[str] = field(default_factory=list)
    error: str | None = None
    """Why there is no more of it."""
    took_s: float = 0.0

    def add(self, *figures: Figure) -> None:
        """Keep what was measured."""
        self.figures.extend(figures)

    def draw(self, line: str, points: Sequence[tuple[float, float]]) -> None:
        """Keep a curve, thinned out to what a plot can show."""
        step = max(1, math.ceil(len(points) / MOST_POINTS))
        self.curves[line] = [(round(x, 4), round(y, 4)) for x, y in points[::step]]

    @property
    def broken(self) -> bool:
        """Whether a promise was broken, or the scenario came to no end."""
        return self.error is not None or any(figure.mark == "BROKEN" for figure in self.figures)


def shown(value: float) -> str:
    """A number for people: three or four digits that count."""
    if math.isnan(value):
        return "?"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if value == round(value):
        return f"{value:.0f}"
    if abs(value) >= 100:
        return f"{value:.1f}"
    return f"{value:.4f}" if 0.98 <= value < 1.02 else f"{value:.3g}"


def quantity(value: float, unit: str) -> str:
    """A number with its unit."""
    return f"{shown(value)} {unit}".strip()


def table(outcomes: Sequence[Outcome]) -> str:
    """All figures, for a terminal."""
    rows = [HEADINGS, *_rows(outcomes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def markdown(outcomes: Sequence[Outcome]) -> str:
    """All figures, for a document."""
    rule = ["---"] * 2 + ["---:"] * 4 + ["---"]
    rows = [HEADINGS, rule, *_rows(outcomes)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _rows(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for outcome in outcomes:
        rows += [(outcome.scenario, *figure.cells()) for figure in outcome.figures]
        if outcome.error is not None:
            rows.append((outcome.scenario, outcome.error, "", "", "", "", "ERROR"))
    return rows


def save(path: Path, machine: Mapping[str, Any], outcomes: Sequence[Outcome]) -> None:
    """Keep a run as JSON. Scenarios of an earlier run that this one left out stay, with their machine."""
    fresh = {outcome.scenario: as_json(machine, outcome) for outcome in outcomes}
    kept = {entry["scenario"]: entry for entry in load(path)} if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"scenarios": [*(kept | fresh).values()]}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load(path: Path) -> list[dict[str, Any]]:
    """The scenarios that are kept."""
    scenarios: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["scenarios"]
    return scenarios


def as_json(machine: Mapping[str, Any], outcome: Outcome) -> dict[str, Any]:
    """A scenario as it is kept."""
    return {
        "scenario": outcome.scenario,
        "machine": dict(machine),
        "took_s": round(outcome.took_s, 1),
        "error": outcome.error,
        "notes": outcome.notes,
        "figures": [_figure_json(figure) for figure in outcome.figures],
        "curves": outcome.curves,
    }


def _figure_json(figure: Figure) -> dict[str, Any]:
    bound = None if figure.bound is None else [figure.bound.kind, figure.bound.number]
    return {
        "what": figure.what,
        "value": _rounded(figure.value),
        "unit": figure.unit,
        "against": _rounded(figure.against),
        "named": figure.named,
        "bound": bound,
        "promise": figure.promise,
        "mark": figure.mark,
    }


def from_json(entry: Mapping[str, Any]) -> Outcome:
    """A scenario that was kept."""
    figures = [
        Figure(
            kept["what"],
            math.nan if kept["value"] is None else kept["value"],
            kept["unit"],
            kept["against"],
            kept["named"],
            None if kept["bound"] is None else Bound(*kept["bound"]),
            promise=kept["promise"],
        )
        for kept in entry["figures"]
    ]
    curves = {name: [(x, y) for x, y in points] for name, points in entry["curves"].items()}
    return Outcome(entry["scenario"], figures, curves, list(entry["notes"]), entry["error"], entry["took_s"])


def _rounded(value: float | None) -> float | None:
    """Six digits that count; JSON knows no NaN."""
    return None if value is None or math.isnan(value) else float(f"{value:.6g}")
