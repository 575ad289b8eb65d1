"""What schedules cost a month, and when their runs would end. Pure: it decides by given snapshots, and does no I/O.

A schedule's cost is the most that it can be: observations that other collections fetched make it cheaper.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from producer.forecast import Snapshot, expected_at
from producer.schedules.times import Times
from raingauge.errors import Permanent
from raingauge.model import CollectionState, month_of
from raingauge.quota.pacing import next_month

MANY: Final = 10**9
"""Cities of a collection that ends after all others."""


class Overspent(Permanent):
    """The month's budget does not pay for this schedule beside the other active ones."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a schedule wants again and again."""

    times: Times
    cities: int
    max_age_s: int

    def by_month(self, now: datetime) -> list[tuple[datetime, int]]:
        """Cities to request in each of the next twelve calendar months (UTC), at most.

        No city is requested again before its observation is `max_age_s` old.
        """
        return [(month, self.cities * min(runs, self._fetches(month))) for month, runs in self.times.runs_by_month(now)]

    def most(self, now: datetime) -> int:
        """The same of the dearest month."""
        return max(cities for _, cities in self.by_month(now))

    def _fetches(self, month: datetime) -> int:
        length_s = int((next_month(month) - month).total_seconds())
        return length_s if self.max_age_s == 0 else length_s // self.max_age_s + 1


def check(wanted: Demand, others: Iterable[Demand], budget: int, now: datetime) -> None:
    """Return when the budget of each month pays for a schedule beside the others.

    Raises:
        Overspent: it does not; the message has the figures.
    """
    months = [one.by_month(now) for one in others]
    for place, (month, own) in enumerate(wanted.by_month(now)):
        theirs = sum(other[place][1] for other in months)
        if own and own + theirs > budget:
            beside = f" and {theirs:,} by the other active ones" if theirs else ""
            raise Overspent(
                f"it would request up to {own:,} cities in {month_of(month)}{beside}, and the budget is {budget:,} "
                "(quota.cities_per_month): run it less often, collect fewer cities, or pause another schedule"
            )


@dataclass(frozen=True, slots=True)
class ForeseenRun:
    """A run to be."""

    at: datetime
    ends_at: datetime | None
    """None: it would be skipped, or nobody knows."""
    skipped: bool
    """The previous run would still be open."""


def foresee(due: Sequence[datetime], wanted: CollectionState, overlap: str, around: Snapshot) -> list[ForeseenRun]:
    """When a collection like `wanted` would end, started at each of these moments, which are in their order.

    Collections that are open now share the quota with the runs that begin before these have ended.
    """
    others = around.competition.units(wanted, MANY) - MANY
    alone_from = expected_at(others, around)
    beside = around.competition.units(wanted, wanted.total)
    runs: list[ForeseenRun] = []
    busy_until: datetime | None = None
    for at in due:
        is_open = busy_until is not None and busy_until > at
        if is_open and overlap == "skip":
            runs.append(ForeseenRun(at, None, skipped=True))
            continue
        units = wanted.total if alone_from is None or alone_from <= at else beside
        duration = _duration(units, at, around)
        begins = busy_until if is_open and overlap == "queue" and busy_until is not None else at
        busy_until = None if duration is None else begins + duration
        runs.append(ForeseenRun(at, busy_until, skipped=False))
    return runs


def _duration(units: int, at: datetime, around: Snapshot) -> timedelta | None:
    """How long requesting these cities takes from that moment on, when nothing that is held now is held any more."""
    then = replace(around, now=at, held=sum(charge.cost for charge in around.charges))
    ends_at = expected_at(units, then)
    return None if ends_at is None else ends_at - at
