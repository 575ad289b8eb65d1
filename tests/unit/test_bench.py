"""The bench: its baselines and what it makes of its figures (marks, tables, JSON, plots, the document)."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench.document import BEGIN, END, NoMarks, filled, section
from bench.house import longest_chain
from bench.load import Ask
from bench.report import Figure, Outcome, as_json, at_least, at_most, from_json, load, save, shown, table, within_quota
from bench.scenarios.saturation import used
from bench.sleeper import fate
from bench.statistics import jain, percentile, slope
from bench.stub import GROUP, Counted, group_answer
from bench.town import Conditions, each
from consumer.provider.openweather import read_group
from tests.simulation.virtual import VirtualClock, VirtualLoop, run_virtually

ROOT = Path(__file__).parents[2]
MACHINE = {"at": "today", "quick": True, "cores": 2, "python": "3.11", "database": {"version": "10.11"}}
SWEEP = [20] * 8 + [7]


def an_outcome() -> Outcome:
    outcome = Outcome("pace", [Figure("smooth", 161.0, "s", 160.0, "optimum", at_most(1.01))], took_s=1.26)
    outcome.draw("smooth", [(0.0, 0.0), (160.0, 167.0)])
    outcome.notes.append("The sleeper dies.")
    return outcome


# -- what it compares with ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batches", "consumers", "worst", "refused_at_s"),
    [
        (SWEEP, 1, 60, None),
        # docs/quota.md: the short batch shifts the next call so that 67 lie in one window.
        ([20, 20, 7, *[20] * 6], 1, 67, 47.3),
        (SWEEP * 2, 1, 67, 167.9),
        (SWEEP, 3, 167, 20.1),
    ],
)
def test_a_sleeper_keeps_the_quota_only_while_its_batches_are_even(
    batches: list[int], consumers: int, worst: int, refused_at_s: float | None
) -> None:
    found = fate(batches, consumers)
    assert found.worst_window == worst
    assert found.refused_at_s == (None if refused_at_s is None else pytest.approx(refused_at_s, abs=0.01))
    assert (found.collected == sum(batches)) == (refused_at_s is None)


def test_the_instant_provider_answers_as_the_consumer_reads() -> None:
    at = datetime(2026, 11, 10, tzinfo=UTC)
    match = GROUP.match(b"GET /data/2.5/group?id=11,22&units=metric&appid=k HTTP/1.1")
    assert match is not None
    head, _, body = group_answer(match[1].split(b","), int(at.timestamp())).partition(b"\r\n\r\n")
    weather = read_group(json.loads(body), [11, 22])
    assert f"Content-Length: {len(body)}".encode() in head
    assert {city: seen.observed_at for city, seen in weather.observations.items()} == {11: at, 22: at}


def test_the_instant_provider_counts_what_arrives() -> None:
    loop = VirtualLoop()
    clock = VirtualClock(loop)
    counted = Counted(5.0, clock)

    async def arrive() -> None:
        for pause in (0.0, 0.5, 2.7, 2.9):
            await clock.sleep(pause)
            counted.arrived(20)

    run_virtually(arrive(), loop)
    assert counted.told() == {"calls": 4, "units": 80, "most_in_window": 60, "seconds": [40, 0, 0, 20, 0, 0, 20]}


def test_the_share_that_is_used_is_counted_from_pause_to_pause() -> None:
    bursts = [(window * 60.1 + 0.05 * call, 20) for window in range(60) for call in range(3)]
    assert used(bursts, Conditions("burst")) == pytest.approx(60 / 60.1, abs=1e-4)
    even = [(number * 20.0, 20) for number in range(60)]
    assert used(even, Conditions()) == pytest.approx(1.0)
    assert used([(at, cities // 2) for at, cities in even], Conditions()) == pytest.approx(0.5)


def test_requests_are_lines_for_the_load_generator_and_conditions_multiply() -> None:
    assert Ask("/get?id=c1&data=false", tag='W/"1"').line == 'GET\t/get?id=c1&data=false\tW/"1"\t'
    assert Ask("/collect", "POST", body='{"id": "1"}').line == 'POST\t/collect\t\t{"id": "1"}'
    towns = [str(town) for town in each(Conditions(), pacing=["smooth", "burst"], consumers=[1, 3])]
    assert towns == [f"{pacing}, group, {n}" for pacing in ("smooth", "burst") for n in ("1 consumer", "3 consumers")]


# -- figures -----------------------------------------------------------------------------------------------------------


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
def test_a_figure_is_marked_by_its_bound_and_a_broken_promise_or_an_error_breaks_a_run(
    figure: Figure, mark: str
) -> None:
    assert figure.mark == mark
    assert Outcome("a", [figure]).broken is (mark == "BROKEN")
    assert Outcome("a", error="no database").broken


def test_the_table_has_a_row_for_each_figure_and_for_an_error() -> None:
    lines = table([an_outcome(), Outcome("api", error="NoWrk: not installed")]).splitlines()
    assert lines[2].split() == ["pace", "smooth", "161", "s", "optimum", "160", "s", "1.0063", "≤", "1.0100", "ok"]
    assert (lines[3].split()[0], lines[3].split()[-1]) == ("api", "ERROR")


def test_numbers_are_shown_with_the_digits_that_count() -> None:
    values = (12_056.4, 161.24, 60.0, 2.472, 0.9979, math.nan)
    assert [shown(value) for value in values] == ["12,056", "161.2", "60", "2.47", "0.9979", "?"]


def test_results_come_back_as_they_were_kept_and_those_of_other_scenarios_stay(tmp_path: Path) -> None:
    path = tmp_path / "results" / "latest.json"
    save(path, MACHINE, [an_outcome(), Outcome("api", [Figure("rate", math.nan)])])
    save(path, MACHINE, [Outcome("api", [Figure("rate", 5.0)])])
    assert [entry["scenario"] for entry in load(path)] == ["pace", "api"]
    kept = from_json(load(path)[0])
    assert (kept.figures, kept.curves) == (an_outcome().figures, {"smooth": [(0.0, 0.0), (160.0, 167.0)]})
    assert load(path)[1]["figures"][0]["value"] == 5.0


def test_the_document_is_filled_between_its_marks_again_and_again() -> None:
    scenarios = [as_json(MACHINE, an_outcome())]
    once = filled(f"before\n{BEGIN}\nold\n{END}\nafter\n", scenarios)
    assert filled(once, scenarios) == once
    assert (once[:7], once[-7:], "old" in once) == ("before\n", "\nafter\n", False)
    assert "| pace | smooth | 161 s | optimum 160 s |" in once
    assert "![Time: 167 cities](performance/pace.svg)" in once
    with pytest.raises(NoMarks):
        filled("no marks", scenarios)
    kept = section(load(ROOT / "bench/results/latest.json"))
    assert kept in (ROOT / "docs/performance.md").read_text("utf-8"), "the document is that of the results kept"


@pytest.mark.long
def test_curves_are_thinned_out_and_drawn_the_same_each_time(tmp_path: Path) -> None:
    from bench.plots import draw  # noqa: PLC0415  # matplotlib takes half a second to import

    outcome = an_outcome()
    outcome.draw("long", [(float(x), 0.0) for x in range(10_001)])
    assert len(outcome.curves["long"]) <= 400
    bars = Outcome("ledger", [Figure("pairs", 500.0, "/s", 400.0, "the limit", at_least(1.0))])
    first, again = ([path.read_bytes() for path in draw([outcome, bars, Outcome("api")], tmp_path)] for _ in range(2))
    assert first == again
    assert {path.name for path in tmp_path.iterdir()} == {"pace.svg", "ledger.svg"}


def test_percentile_jain_and_slope() -> None:
    assert (percentile([float(n) for n in range(1, 101)], 0.99), percentile([7.0], 0.5)) == (99.0, 7.0)
    assert (jain([3.0] * 8), jain([1.0, 0.0, 0.0, 0.0])) == (1.0, 0.25)
    assert slope([(0.0, 100.0), (1.0, 101.5), (2.0, 103.0)]) == pytest.approx(1.5)
    assert all(map(math.isnan, (percentile([], 0.5), slope([(1.0, 1.0)]))))


def test_modules_that_import_each_other_share_a_floor_of_the_house() -> None:
    graph = {"app": {"ledger", "model"}, "ledger": {"queue"}, "queue": {"settling"}, "settling": {"queue", "model"}}
    named = {f"consumer.{name}": frozenset(f"consumer.{each}" for each in below) for name, below in graph.items()}
    chain = longest_chain(named | {"consumer.model": frozenset()})
    assert chain[:2] == ["consumer.app", "consumer.ledger"]
    assert chain[2] in {"consumer.queue", "consumer.settling"}
    assert chain[3:] == ["consumer.model"]
