"""How far a collection is, what it waits for and when it will be done. Pure: rows in, words out."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from raingauge.contracts import BATCH_SIZE
from raingauge.pacing import Terms, month_allows, month_moment, month_start, next_month
from raingauge.storage.collections import CollectionState
from raingauge.storage.gate import Gate

Status = Literal["queued", "collecting", "waiting", "done", "cancelled"]
Reason = Literal["month", "key", "provider", "database", "no consumer"]

_REASONS: Final[dict[str, Reason]] = {"quota": "provider", "provider": "provider", "key": "key", "database": "database"}
MOST_MONTHS: Final = 1200
CENTURY: Final = timedelta(days=36_525)
"""An estimate further away is none."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a collection's progress depends on besides itself."""

    now: datetime
    terms: Terms
    gate: Gate | None
    """None: no consumer has ever opened it."""
    consumer_alive: bool
    others: tuple[int, ...]
    """Unsettled cities of the other open collections."""
    held: int
    """Cities held by open charges."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A collection's state in the words of the API."""

    status: Status
    reason: Reason | None
    expected_at: datetime | None
    """None: nobody knows, because a person has to act first."""


def progress(state: CollectionState, around: Surroundings) -> Progress:
    """Where a collection stands."""
    if state.cancelled_at is not None:
        return Progress("cancelled", None, None)
    if state.finished_at is not None:
        return Progress("done", None, state.finished_at)
    reason = _reason(around)
    status: Status = "waiting" if reason else "collecting" if state.settled else "queued"
    return Progress(status, reason, expected_at(state.total - state.settled, around))


def _reason(around: Surroundings) -> Reason | None:
    """What everything waits for, if it does."""
    if around.gate is None or not around.consumer_alive:
        return "no consumer"
    if around.gate.state != "open":
        return _REASONS[around.gate.state]
    if month_allows(around.now, around.gate.spent(around.now), around.terms) == 0:
        return "month"
    return None


def expected_at(remaining: int, around: Surroundings) -> datetime | None:
    """When the last of `remaining` cities is asked for, if all goes on as it is.

    Open collections are served in turn: each other one gets as many cities as this one until then, or all of its own.
    """
    gate = around.gate
    if gate is None or not around.consumer_alive or gate.state == "key":
        return None
    units = remaining + sum(min(remaining, other) for other in around.others)
    start = max(around.now, gate.blocked_until if gate.state != "open" else around.now)
    paced_s = _paced_s(units, gate, around)
    month = _month_moment(around.now, gate.spent(around.now), units, around.terms)
    if month is None or paced_s > CENTURY.total_seconds():
        return None
    first = start if around.terms.pacing == "burst" else max(start, gate.next_start_at)
    return max(first + timedelta(seconds=paced_s), month)


def _paced_s(units: int, gate: Gate, around: Surroundings) -> float:
    """How long after the first of so many cities the last is asked for, as far as the pace goes. Seconds."""
    terms = around.terms
    if terms.pacing == "burst":
        beyond = max(0, units + around.held - terms.cities_per_window)
        return terms.window_s * -(-beyond // terms.cities_per_window)
    call = terms.second_of_quota if gate.endpoint == "single" else BATCH_SIZE
    return terms.spread_s((units - 1) // call * call)


def _month_moment(now: datetime, spent: int, units: int, terms: Terms) -> datetime | None:
    """When the months' budgets have allowed that many."""
    for _ in range(MOST_MONTHS):
        if spent + units <= terms.cities_per_month:
            return month_moment(now, spent, units, terms)
        units -= max(0, terms.cities_per_month - spent)
        now, spent = next_month(month_start(now)), 0
    return None


def others(open_remainders: Iterable[tuple[str, int]], collection_id: str) -> tuple[int, ...]:
    """The remainders of the collections beside this one."""
    return tuple(left for other, left in open_remainders if other != collection_id)
