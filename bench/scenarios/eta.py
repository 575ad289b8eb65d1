"""How far `expected_at` is from the moment at which the collection is done, asked for again and again until then.

Allowed: two seconds, or 2 % of the time that was left, whichever is more. In virtual time, as a client sees it.
"""

from typing import Final

from bench.report import Figure, Outcome, at_most
from bench.size import Size
from bench.town import Conditions, Town, each, seconds, tell_all

CITIES: Final = 300
OTHERS: Final = (40, 90, 150, 300, 700)
ALLOWED_S: Final = 2.0
ALLOWED_SHARE: Final = 0.02

Estimates = list[tuple[float, float]]
"""Seconds left when asked, and seconds by which the answer was too late; too early is negative."""


def eta(size: Size) -> Outcome:
    """The worst error of all answers, as a share of what is allowed."""
    outcome = Outcome("eta")
    towns = each(Conditions(), pacing=["smooth", "burst"], consumers=size.of([1, 3], [1]))
    jobs = [(town, story) for town in towns for story in (lone, beside_five)]
    for (town, story), estimates in zip(jobs, tell_all(jobs, size), strict=True):
        what = f"{town.pacing}, {town.crew}, {'alone' if story is lone else 'beside five others'}"
        first = estimates[0]
        worst = max(estimates, key=_excess)
        outcome.add(
            _figure(f"{what}: worst of {len(estimates)} answers", worst),
            _figure(f"{what}: the answer to the POST", first),
        )
        outcome.draw(what, estimates)
    return outcome


async def lone(town: Town, size: Size) -> Estimates:
    """One collection, nothing else."""
    return await _estimates(town, size, ())


async def beside_five(town: Town, size: Size) -> Estimates:
    """Five others were posted just before, smaller and larger ones."""
    return await _estimates(town, size, OTHERS)


async def _estimates(town: Town, size: Size, others: tuple[int, ...]) -> Estimates:
    await town.clock.sleep(15)  # until the consumers have been heard of
    first = 1_000_000
    for number, cities in enumerate(others):
        await town.collect(f"other-{number}", range(first, first + cities))
        first += cities
    view = await town.collect("ours", range(1, CITIES + 1))
    answers = [(town.now, view.progress.expected_at)]
    while town.state("ours").finished_at is None:
        town.fail_if_a_process_failed()
        await town.clock.sleep(size.of(7.3, 31.7))
        view = await town.view("ours")
        if view.state.finished_at is None:
            answers.append((town.now, view.progress.expected_at))
    finished = seconds(town.state("ours").finished_at)
    return [(finished - asked, seconds(expected) - finished) for asked, expected in answers]


def _figure(what: str, estimate: tuple[float, float]) -> Figure:
    return Figure(what, abs(estimate[1]), "s", _allowed(estimate), "allowed", at_most(1.0))


def _allowed(estimate: tuple[float, float]) -> float:
    return max(ALLOWED_S, ALLOWED_SHARE * estimate[0])


def _excess(estimate: tuple[float, float]) -> float:
    return abs(estimate[1]) / _allowed(estimate)
