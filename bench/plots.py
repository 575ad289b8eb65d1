"""Plots of a run: curves where a scenario kept some, else bars of what was judged, beside its target."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, NullLocator

from bench.report import Figure, Outcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "raingauge",
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}
COLOURS: Final = {"ok": "#2a7f62", "missed": "#c9772c", "BROKEN": "#b3261e"}
WIDTH: Final = 8.0


@dataclass(frozen=True, slots=True)
class Axis:
    """What a scenario's curves show."""

    title: str
    x: str
    y: str
    step: bool = False
    level: float | None = None
    """A line across: the target."""
    from_zero: bool = True


AXES: Final = {
    "pace": Axis("167 cities at 60 a minute", "seconds after the first call", "cities asked for", step=True),
    "saturation": Axis("Mean size of a call, hour by hour", "hours of saturation", "cities in a call", level=16),
    "fairness": Axis("Five cities beside 100,000", "seconds until done", "share of the small collections", step=True),
    "paid": Axis("30,000 cities a minute", "seconds after the first call", "cities a second", level=500),
    "eta": Axis(
        "How far expected_at is off",
        "seconds left when asked",
        "seconds too late (below 0: too early)",
        level=0,
        from_zero=False,
    ),
    "memory": Axis("Memory while 10,000 batches go through", "thousands of batches", "MB"),
}


def draw(outcomes: Sequence[Outcome], folder: Path) -> list[Path]:
    """One SVG for each outcome that has anything to show; the same figures give the same file."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    with mpl.rc_context(STYLE):
        for outcome in outcomes:
            canvas = _curves(outcome) if outcome.curves else _bars(outcome)
            if canvas is not None:
                path = folder / f"{outcome.scenario}.svg"
                canvas.savefig(path, metadata={"Date": None, "Creator": None}, bbox_inches="tight")
                drawn.append(path)
    return drawn


def _curves(outcome: Outcome) -> Canvas:
    axis = AXES[outcome.scenario]
    canvas = Canvas(figsize=(WIDTH, 3.6))
    axes = canvas.add_subplot()
    for name, points in outcome.curves.items():
        draw_style = "steps-post" if axis.step else "default"
        axes.plot([x for x, _ in points], [y for _, y in points], drawstyle=draw_style, label=name, linewidth=1.3)
    if axis.level is not None:
        axes.axhline(axis.level, color="#888888", linewidth=1, linestyle="--")
    axes.set(title=axis.title, xlabel=axis.x, ylabel=axis.y)
    if axis.from_zero:
        axes.set_ylim(bottom=0)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return canvas


def _bars(outcome: Outcome) -> Canvas | None:
    judged = [figure for figure in outcome.figures if figure.bound is not None and not figure.promise]
    if not judged:
        return None
    canvas = Canvas(figsize=(WIDTH, 0.9 + 0.28 * len(judged)))
    axes = canvas.add_subplot(xscale="log")
    for row, figure in enumerate(reversed(judged)):
        _bar(axes, row, figure)
    axes.set_yticks(range(len(judged)), [figure.what for figure in reversed(judged)])
    axes.grid(visible=False, axis="y")
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.5), max(high, 2.0))
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.axvline(1.0, color="#444444", linewidth=1)
    axes.set(title=outcome.scenario, xlabel="how well the target is kept: at 1 just so, left of it not")
    return canvas


def _bar(axes: "Axes", row: int, figure: Figure) -> None:
    value = figure.kept or 1.0
    axes.barh(row, value - 1.0, left=1.0, color=COLOURS.get(figure.mark, "#888888"), height=0.7)
    axes.annotate(f" {value:.3g} ", (value, row), va="center", ha="left" if value >= 1 else "right", fontsize=7)
