"""The decisions of the quota ledger: how many cities may go now, or when. Pure: moments in, moments out, no I/O.

The rule and its proof: docs/quota.md. Q: cities per window; W: the window in seconds.
"""

import calendar
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from raingauge.model import CALL_SIZE

Pacing = Literal["smooth", "burst"]
MonthPacing = Literal["even", "none"]

SEND_DELAY_S: Final = 5.0
"""D: the longest delay from before a reservation reads the database's clock to the send."""
MARGIN_S: Final = 10.0
"""M: how long after the timeout a call may still arrive at the provider."""
GATHER: Final = 0.002
"""A release within this share of the window is always waited for, so that calls are not shattered."""
DAY: Final = timedelta(days=1)
LEAST_SPAN_S: Final = 0.1
"""A charge covers at least what the quota grants in that time."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What an account may spend, and how."""

    cities_per_window: int
    window_s: float
    pacing: Pacing
    cities_per_month: int
    month_pacing: MonthPacing
    timeout_s: float
    """T: the hard total timeout of one call."""

    @property
    def claim_s(self) -> float:
        """D + T + M: a call reserved now has arrived by then, if it ever does."""
        return SEND_DELAY_S + self.timeout_s + MARGIN_S

    @property
    def worst_hold_s(self) -> float:
        """How long a charge is held when nothing is ever heard of its calls."""
        return self.claim_s + self.window_s

    def spread_s(self, cost: int) -> float:
        """Smooth pacing: how long after a call of that cost the next may start."""
        return cost * self.window_s / self.cities_per_window

    @property
    def gather_s(self) -> float:
        """How long a call waits to be made fuller by the next release.

        Smooth pacing can wait for one more city for free; so it rejoins what a one-city probe split off.
        """
        gather_s = GATHER * self.window_s
        return gather_s if self.pacing == "burst" else max(gather_s, 1.25 * self.spread_s(1))

    def at_once(self, span_s: float, *, together: bool) -> int:
        """Cities that one charge may cover: what the quota grants while a reservation takes `span_s`, a call at least.

        `together`: they ride in group calls. One by one, smooth pacing sends a second of quota together.
        """
        granted = int(self.cities_per_window / self.window_s * max(LEAST_SPAN_S, 2 * span_s))
        least = CALL_SIZE if together or self.pacing == "burst" else self.second_of_quota
        return max(least, granted)

    @property
    def second_of_quota(self) -> int:
        """Cities that smooth pacing lets go together when they are requested one by one: a second's worth, 1 to 20."""
        return min(CALL_SIZE, max(1, round(self.cities_per_window / self.window_s)))


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing may go before that moment."""

    until: datetime
    reason: str
    """quota, key, provider, database, terms, month, pace, or probe (another call finds out which endpoint works)."""


Release = tuple[datetime, int]
"""When a charge is released, and its cost."""


def admit(
    start: datetime, want: int, free: int, releases: Iterable[Release], gather: timedelta
) -> tuple[int, datetime]:
    """How many of `want` may go, and when: as soon as any may, or a little later when that makes the call fuller.

    `free` is what is not held at `start`; `releases` are the next ones after it, in their order.
    """
    moment = start
    for release_at, cost in releases:
        if free >= want or (free > 0 and release_at - moment > gather):
            break
        free += cost
        moment = max(moment, release_at)
    return min(want, max(0, free)), moment


def next_start(planned: datetime, now: datetime, cost: int, terms: Terms, span_s: float = 0.0) -> datetime:
    """When the call after one of `cost` that goes now, and was planned for `planned`, may start.

    A call that went late, by up to the gathering time or the time that a reservation takes, does not move the plan:
    small delays must not add up.
    """
    if terms.pacing == "burst":
        return now
    is_late = now - planned > timedelta(seconds=max(terms.gather_s, span_s))
    return (now if is_late else planned) + timedelta(seconds=terms.spread_s(cost))


def room_beside(planned: datetime, now: datetime, lately: int, full: int, terms: Terms) -> int:
    """How many cities may go now, to fill up the call that has just gone.

    Sent later, they would also be released later and split every following call. `planned` is when the next call may
    start otherwise; `lately`, the cities that went within the last gathering time.
    """
    if lately == 0:
        return 0
    behind = math.floor(full - (planned - now).total_seconds() / terms.spread_s(1))
    return max(0, min(full - lately, behind))


def month_start(moment: datetime) -> datetime:
    """The first moment of its month."""
    return datetime(moment.year, moment.month, 1, tzinfo=UTC)


def next_month(moment: datetime) -> datetime:
    """The first moment of the month after."""
    return month_start(moment) + timedelta(days=calendar.monthrange(moment.year, moment.month)[1])


def month_allows(moment: datetime, spent: int, terms: Terms) -> int:
    """How many cities the month still allows at that moment.

    Even pacing never spends more than the budget's elapsed share of the month plus one day's share.
    """
    left = terms.cities_per_month - spent
    if terms.month_pacing == "even":
        length = next_month(moment) - month_start(moment)
        elapsed = min(length, moment - month_start(moment) + DAY)
        left = min(left, int(terms.cities_per_month * (elapsed / length)) - spent)
    return max(0, left)


def month_moment(moment: datetime, spent: int, want: int, terms: Terms) -> datetime:
    """When the month allows `want` more cities: now, later in the month, or when the next begins."""
    if spent + want > terms.cities_per_month:
        return next_month(moment)
    if terms.month_pacing == "none":
        return moment
    length = next_month(moment) - month_start(moment)
    due = month_start(moment) + length * ((spent + want) / terms.cities_per_month) - DAY
    # One millisecond makes up for the rounding in `month_allows`.
    return max(moment, due + timedelta(milliseconds=1))
