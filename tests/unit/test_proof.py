"""The replay of the charges: the most that any window can have seen, by brute force and on real ledgers."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.admission import Grant
from consumer.look import Candidate
from consumer.quota import Ledger
from raingauge.pacing import Terms
from raingauge.proof import Charge, Worst, arrived_by, worst_window
from raingauge.storage.database import Database
from raingauge.storage.gate import charges
from tests.support.databases import sqlite_copy
from tests.unit.test_ledger_schedules import Moment, a_schedule, most_in_any_window

EPOCH: Final = datetime(2026, 11, 1, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)
TICK: Final = timedelta(microseconds=1)
TERMS: Final = Terms(60, 60.0, "smooth", 10**9, "none", timeout_s=10.0)
"""A call arrives within 25 s of its reservation, if it ever does."""
SMALL: Final = replace(TERMS, window_s=20.0)
"""A window so short that charges of a few seconds' distance often share one."""


def second(number: float) -> datetime:
    return EPOCH + timedelta(seconds=number)


def charge(reserved: float, closed: float | None, cost: int = 20) -> Charge:
    return Charge(second(reserved), None if closed is None else second(closed), second(reserved + 85), cost)


def worst_of(*given_charges: Charge, since: float = -3600, until: float = 3600, terms: Terms = TERMS) -> Worst:
    return worst_window(given_charges, terms, second(since), second(until))


def seen(given_charges: Iterable[Charge], terms: Terms, x: datetime) -> int:
    """What the window that begins at x can have seen."""
    end = x + timedelta(seconds=terms.window_s)
    return sum(each.cost for each in given_charges if each.reserved_at < end and arrived_by(each, terms) >= x)


def by_brute_force(given_charges: Iterable[Charge], terms: Terms, since: datetime, until: datetime) -> int:
    """Every window that could be the worst, each looked at by itself."""
    window = timedelta(seconds=terms.window_s)
    known = list(given_charges)
    turns = {since, until} | {moment for each in known for moment in (each.reserved_at, arrived_by(each, terms))}
    turns |= {moment - window for moment in turns}
    begins = [turn + by for turn in turns for by in (-TICK, timedelta(0), TICK) if since - window < turn + by <= until]
    return max((seen(known, terms, x) for x in begins), default=0)


def test_without_charges_no_window_has_seen_anything() -> None:
    assert worst_of() == Worst(0, None, 0, 0)


def test_charges_that_can_have_arrived_in_one_window_count_together() -> None:
    assert worst_of(charge(0, 1), charge(30, 31)) == Worst(40, second(1), 2, 40)


def test_the_window_is_half_open() -> None:
    assert worst_of(charge(0, 1), charge(61, 62)).cities == 20
    assert worst_of(charge(0, 1), charge(60.999999, 62)).cities == 40


def test_a_charge_that_is_not_closed_may_arrive_until_the_longest_delay() -> None:
    assert worst_of(charge(0, None), charge(84.9, 85)).cities == 40
    assert worst_of(charge(0, None), charge(85, 86)).cities == 20


def test_a_charge_that_is_closed_late_has_arrived_within_the_longest_delay_all_the_same() -> None:
    assert arrived_by(charge(0, 500), TERMS) == second(25)
    assert arrived_by(charge(0, 3), TERMS) == second(3)


def test_a_charge_that_was_closed_before_it_was_reserved_counts_when_it_was_reserved() -> None:
    """After the database's clock stepped back."""
    assert arrived_by(charge(10, 3), TERMS) == second(10)


def test_an_early_release_hides_nothing() -> None:
    early = [replace(each, release_at=each.reserved_at) for each in (charge(0, 1, 40), charge(2, 3, 40))]
    assert worst_of(*early).cities == 80


def test_only_windows_that_touch_the_time_count() -> None:
    busy = [charge(0, 1), charge(2, 3), charge(100, 101)]
    assert worst_of(*busy, since=99, until=120) == Worst(20, second(101), 1, 20)
    assert worst_of(*busy, since=60.5, until=70).cities == 40, "the window from 1 to 61"
    assert worst_of(*busy, since=61, until=70).cities == 20
    assert worst_of(*busy, since=63, until=70) == Worst(20, second(70), 1, 20)
    assert worst_of(*busy, since=-10, until=-1) == Worst(40, second(-1), 2, 40)
    assert worst_of(*busy, since=-70, until=-60) == Worst(0, None, 0, 0)


CHARGES: Final = st.lists(
    st.builds(
        lambda reserved, lasts, cost: charge(reserved, None if lasts is None else reserved + lasts, cost),
        st.integers(0, 120),
        st.none() | st.integers(0, 40),
        st.integers(1, 20),
    ),
    max_size=12,
)


@settings(max_examples=500, deadline=None)
@given(CHARGES, st.integers(-60, 150), st.integers(0, 120), st.sampled_from([5.0, 20.0, 60.0]))
def test_the_sweep_finds_what_brute_force_finds(found: list[Charge], since: int, length: int, window_s: float) -> None:
    terms = replace(TERMS, window_s=window_s)
    begin, end = second(since), second(since + length)
    worst = worst_window(found, terms, begin, end)
    assert worst.cities == by_brute_force(found, terms, begin, end)
    assert worst.cities <= worst.charged <= sum(each.cost for each in found)
    if worst.begin is not None:
        assert worst.cities == seen(found, terms, worst.begin)


@settings(max_examples=200, deadline=None)
@given(CHARGES, st.randoms(use_true_random=False))
def test_no_arrivals_exceed_the_worst_and_some_reach_it(found: list[Charge], chance: random.Random) -> None:
    worst = worst_window(found, SMALL, second(-3600), second(3600))

    def most(place: Callable[[float, float], float]) -> int:
        spans = [((e.reserved_at - EPOCH) / TICK, (arrived_by(e, SMALL) - EPOCH) / TICK, e.cost) for e in found]
        return most_in_any_window([(place(begin, end), cost) for begin, end, cost in spans], SMALL.window_s * 1e6)

    assert most(lambda begin, end: float(round(chance.uniform(begin, end)))) <= worst.cities
    if worst.begin is not None:
        at = (worst.begin - EPOCH) / TICK
        assert most(lambda begin, end: min(max(begin, at), end)) == worst.cities


# -- the real ledger ---------------------------------------------------------------------------------------------------

STEPS: Final = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.001, 0.5, 4.0, 24.999, 25.0, 60.0]) | st.floats(0, 30),
        st.integers(1, 20),
        st.sampled_from([0.001, 0.3, 5.0, 24.0, 25.0, 40.0]) | st.none(),
    ),
    min_size=3,
    max_size=25,
)
"""Wait that long, want that many cities, close the charge that long after (None: never)."""


def written(database: Database) -> list[Charge]:
    return database.read(lambda c: charges(c, "account", EPOCH - HOUR, EPOCH + 100 * HOUR, 10_000))


def a_ledger(
    database: Database, moment: Moment, terms: Terms, steps: Sequence[tuple[float, int, float | None]]
) -> None:
    """Have the real ledger write charges; whoever is refused waits as told, half of the time."""
    ledger = Ledger(database, "account", terms, "group", "one")
    ledger.open()
    closings: list[tuple[float, Grant]] = []
    city = 0
    for wait_s, want, latency_s in steps:
        until = moment.seconds + wait_s
        for at, grant in sorted((each for each in closings if each[0] <= until), key=lambda each: each[0]):
            moment.seconds = max(moment.seconds, at)
            database.write(partial(ledger.close, grants=[grant]))
        closings = [each for each in closings if each[0] > until]
        moment.seconds = until
        answer = ledger.reserve([Candidate(city + n, EPOCH) for n in range(want)], together=True)
        city += want
        if isinstance(answer, Grant):
            if latency_s is not None:
                closings.append((moment.seconds + latency_s, answer))
        elif want % 2:
            moment.seconds += answer.seconds  # type: ignore[union-attr]


@settings(max_examples=80, deadline=None)
@given(steps=STEPS, quota=st.integers(1, 45), window_s=st.sampled_from([5.0, 20.0, 60.0, 0.7]), burst=st.booleans())
def test_what_the_ledger_writes_always_keeps_the_promise(
    template: Path, steps: list[tuple[float, int, float | None]], quota: int, window_s: float, burst: bool
) -> None:
    terms = Terms(quota, window_s, "burst" if burst else "smooth", 10**9, "none", timeout_s=10.0)
    moment = Moment()
    with sqlite_copy(template, moment) as database:
        a_ledger(database, moment, terms, steps)
        found = written(database)
    assert found
    worst = worst_window(found, terms, EPOCH - HOUR, EPOCH + 100 * HOUR)
    assert worst.cities == by_brute_force(found, terms, EPOCH - HOUR, EPOCH + 100 * HOUR)
    assert 0 < worst.cities <= quota
    assert worst.charges == len(found)


@pytest.mark.parametrize("seed", range(0, 400, 10))
def test_the_worst_case_of_random_schedules_lies_between_what_arrived_and_the_quota(template: Path, seed: int) -> None:
    moment = Moment()
    with sqlite_copy(template, moment) as database:
        schedule = a_schedule(database, moment, seed)
        schedule.run(until=schedule.terms.window_s * 4)
        found = database.read(lambda c: charges(c, schedule.account, EPOCH - HOUR, EPOCH + HOUR, 100_000))
    worst = worst_window(found, schedule.terms, EPOCH - HOUR, EPOCH + HOUR)
    arrived = most_in_any_window(schedule.arrivals, schedule.terms.window_s)
    assert arrived <= worst.cities <= schedule.terms.cities_per_window


def test_a_ledger_that_releases_too_early_is_found_out(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual sliding log: released one window after the reservation, wherever the calls are."""
    monkeypatch.setattr(Terms, "worst_hold_s", property(lambda terms: terms.window_s))
    moment = Moment()
    terms = replace(TERMS, pacing="burst")
    with sqlite_copy(template, moment) as database:
        a_ledger(database, moment, terms, [(0.0, 20, None)] * 3 + [(60.001, 20, None)] * 3)
        found = written(database)
    monkeypatch.undo()
    assert worst_window(found, terms, EPOCH - HOUR, EPOCH + HOUR).cities > 60


def test_a_day_of_the_free_plan_city_by_city_is_replayed_in_no_time() -> None:
    found = [charge(number * 0.864, number * 0.864 + 0.3, 1) for number in range(100_000)]
    worst = worst_window(found, TERMS, EPOCH, EPOCH + 24 * HOUR)
    assert (worst.cities, worst.charges) == (70, 100_000)
