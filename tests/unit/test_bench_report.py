"""What the bench makes of its figures: marks, tables, JSON, plots, and the part of the document that it writes."""

import math
from pathlib import Path

import pytest

from bench.document import BEGIN, END, TITLES, NoMarks, filled, section
from bench.plots import AXES, draw
from bench.report import Figure, Outcome, as_json, at_least, at_most, from_json, load, save, shown, table, within_quota
from bench.statistics import jain, percentile, slope

ROOT = Path(__file__).parents[2]
MACHINE = {"at": "today", "quick": True, "cores": 2, "python": "3.11", "database": {"version": "10.11"}}


def an_outcome() -> Outcome:
    outcome = Outcome("pace", [Figure("smooth", 161.0, "s", 160.0, "optimum", at_most(1.01))], took_s=1.26)
    outcome.draw("smooth", [(0.0, 0.0), (160.0, 167.0)])
    outcome.notes.append("The sleeper dies.")
    return outcome


@pytest.mark.parametrize(
    ("figure", "mark"),
    [
        (Figure("rate", 500.0, "/s"), ""),
        (Figure("rate", 500.0, "/s", 400.0, "the limit", at_least(1.0)), "ok"),
        (Figure("rate", 399.0, "/s", 400.0, "the limit", at_least(1.0)), "missed"),
        (Figure("used", 0.99, bound=at_least(0.99)), "ok"),
        (Figure("nothing measured", math.nan, bound=at_least(0.99)), "missed"),
        (Figure("no baseline", 1.0, "s", 0.0, "bare", at_most(1.0)), "missed"),
        (within_quota(60, 60), "ok"),
        (within_quota(61, 60), "BROKEN"),
    ],
)
def test_a_figure_is_marked_by_its_bound(figure: Figure, mark: str) -> None:
    assert figure.mark == mark


def test_only_a_broken_promise_or_an_error_breaks_a_run() -> None:
    assert not Outcome("a", [Figure("missed", 2.0, bound=at_most(1.0))]).broken
    assert Outcome("a", [within_quota(61, 60)]).broken
    assert Outcome("a", error="no database").broken


def test_the_table_has_a_row_for_each_figure_and_for_an_error() -> None:
    lines = table([an_outcome(), Outcome("api", error="NoWrk: not installed")]).splitlines()
    assert lines[2].split() == ["pace", "smooth", "161", "s", "optimum", "160", "s", "1.0063", "≤", "1.0100", "ok"]
    assert lines[3].split()[0] == "api"
    assert lines[3].split()[-1] == "ERROR"


@pytest.mark.parametrize(
    ("value", "text"),
    [(12_056.4, "12,056"), (161.24, "161.2"), (60.0, "60"), (2.472, "2.47"), (0.9979, "0.9979"), (math.nan, "?")],
)
def test_a_number_is_shown_with_the_digits_that_count(value: float, text: str) -> None:
    assert shown(value) == text


def test_results_come_back_as_they_were_kept_and_those_of_other_scenarios_stay(tmp_path: Path) -> None:
    path = tmp_path / "results" / "latest.json"
    save(path, MACHINE, [an_outcome(), Outcome("api", [Figure("rate", math.nan)])])
    save(path, MACHINE, [Outcome("api", [Figure("rate", 5.0)])])
    assert [entry["scenario"] for entry in load(path)] == ["pace", "api"]
    kept = from_json(load(path)[0])
    assert kept.figures == an_outcome().figures
    assert kept.curves == {"smooth": [(0.0, 0.0), (160.0, 167.0)]}
    assert load(path)[1]["figures"][0]["value"] == 5.0


def test_a_long_curve_is_thinned_out() -> None:
    outcome = Outcome("pace")
    outcome.draw("long", [(float(x), 0.0) for x in range(10_001)])
    assert len(outcome.curves["long"]) <= 400


def test_the_document_is_filled_between_its_marks_again_and_again() -> None:
    scenarios = [as_json(MACHINE, an_outcome())]
    once = filled(f"before\n{BEGIN}\nold\n{END}\nafter\n", scenarios)
    assert filled(once, scenarios) == once
    assert once.startswith("before\n")
    assert once.endswith("\nafter\n")
    assert "old" not in once
    assert "| pace | smooth | 161 s | optimum 160 s |" in once
    assert "![Time: 167 cities](performance/pace.svg)" in once
    with pytest.raises(NoMarks):
        filled("no marks", scenarios)


def test_the_documents_figures_are_those_that_are_kept() -> None:
    text = (ROOT / "docs/performance.md").read_text("utf-8")
    assert section(load(ROOT / "bench/results/latest.json")) in text


def test_curves_and_bars_are_drawn_the_same_each_time(tmp_path: Path) -> None:
    bars = Outcome("ledger", [Figure("pairs", 500.0, "/s", 400.0, "the limit", at_least(1.0))])
    first = [path.read_bytes() for path in draw([an_outcome(), bars, Outcome("api")], tmp_path)]
    again = [path.read_bytes() for path in draw([an_outcome(), bars], tmp_path)]
    assert first == again
    assert {path.name for path in tmp_path.iterdir()} == {"pace.svg", "ledger.svg"}
    assert TITLES.keys() >= AXES.keys()


def test_percentile_jain_and_slope() -> None:
    assert percentile([float(n) for n in range(1, 101)], 0.99) == 99.0
    assert percentile([7.0], 0.5) == 7.0
    assert math.isnan(percentile([], 0.5))
    assert jain([3.0] * 8) == 1.0
    assert jain([1.0, 0.0, 0.0, 0.0]) == 0.25
    assert slope([(0.0, 100.0), (1.0, 101.5), (2.0, 103.0)]) == pytest.approx(1.5)
    assert math.isnan(slope([(1.0, 1.0)]))
