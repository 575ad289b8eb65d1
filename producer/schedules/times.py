"""When a schedule runs: its nominal times, how often that is in a month, and the expression in words.

Pure: moments in, moments out, in UTC; no clock of its own. Cron expressions have five fields and mean what they mean to
Debian's cron (https://manpages.debian.org/cron, "NOTES"): on the night when the clocks go back, a job at a fixed time
runs once; on the night when they go forward, one whose time is left out runs at the end of the gap.
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import InitVar, dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import islice
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from raingauge.errors import Permanent
from raingauge.model import EPOCH
from raingauge.quota.pacing import next_month

LEAST_EVERY_S: Final = 60
MOST_EVERY_S: Final = 31_536_000
LONGEST_CRON: Final = 120
CRON_FIELDS: Final = 5
SECOND: Final = timedelta(seconds=1)
MONTHS: Final = 12
"""Months whose runs are counted: schedules may run in some of them only."""
FIRST_SPAN: Final = timedelta(days=1)
SPAN_FACTOR: Final = 4


class WrongExpression(Permanent):
    """A schedule that names no times."""

    def __init__(self, field: str, what: str) -> None:
        super().__init__(what)
        self.field = field
        """cron, every_s or zone."""


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones() - {"localtime", "Factory"})  # what these mean depends on the machine


@dataclass(frozen=True, slots=True)
class Times:
    """The nominal times of a schedule: of a cron expression in a time zone, or every few seconds since the epoch.

    Raises:
        WrongExpression: there is neither or both, one is malformed, it never runs, or the zone is unknown.
    """

    cron: str | None = None
    every_s: int | None = None
    zone: str = "UTC"
    """A name of the IANA time zone database."""
    checked: InitVar[bool] = True
    """False: it was checked when it was stored. Since then its zone may have left this machine's database."""

    def __post_init__(self, checked: bool) -> None:
        if not checked:
            return
        if (self.cron is None) == (self.every_s is None):
            raise WrongExpression("cron", "give either `cron` or `every_s`")
        if not self.has_zone:
            raise WrongExpression("zone", "it is no name of the IANA time zone database, such as Europe/Berlin or UTC")
        if self.every_s is not None and not LEAST_EVERY_S <= self.every_s <= MOST_EVERY_S:
            raise WrongExpression("every_s", f"expected {LEAST_EVERY_S} to {MOST_EVERY_S:,} seconds")
        if self.cron is not None:
            _check(self.cron)

    @property
    def has_zone(self) -> bool:
        """Whether this machine knows the zone."""
        return self.zone in _zones()

    @property
    def are_known(self) -> bool:
        """Whether this machine can tell them: without the zone only those of `every_s`."""
        return self.every_s is not None or self.has_zone

    def after(self, moment: datetime) -> datetime:
        """The first nominal time after this moment."""
        return next(self._from(moment))

    def following(self, moment: datetime, count: int) -> list[datetime]:
        """The next nominal times after this moment."""
        return list(islice(self._from(moment), count))

    def last(self, begin: datetime, end: datetime, count: int) -> tuple[list[datetime], bool]:
        """The last nominal times from `begin` to `end`, both included, at most `count`; and whether there are more.

        It does not count through all of them when `begin` lies years back.
        """
        span = FIRST_SPAN
        while True:
            start = max(begin, end - span)
            found = deque(self._until(start - timedelta(microseconds=1), end), maxlen=count + 1)
            if len(found) > count:
                return list(found)[1:], True
            if start == begin:
                return list(found), False
            span *= SPAN_FACTOR

    def local(self, moment: datetime) -> datetime:
        """The same moment on the clocks of the zone."""
        return moment.astimezone(ZoneInfo(self.zone))

    def words(self) -> str:
        """The expression in English."""
        if self.cron is None:
            return f"Every {_spelled(self.every_s or 0)}"
        where = "" if self.zone == "UTC" else f" ({self.zone})"
        return _simulated(self.cron, EPOCH, "UTC").explain() + (where if self.has_zone else f" ({self.unknown()})")

    def unknown(self) -> str:
        """That this machine does not know the zone, in words."""
        return f"this machine does not know the time zone {self.zone}"

    def runs_by_month(self, now: datetime) -> list[tuple[datetime, int]]:
        """For each of the next twelve calendar months in UTC: its first moment, and how often it runs in it.

        Days are counted as if each had 24 hours, in the schedule's zone.
        """
        first = next_month(now)
        months = []
        for _ in range(MONTHS):
            following = next_month(first)
            months.append((first, self._runs(first, (following - first).days)))
            first = following
        return months

    def _runs(self, first: datetime, days: int) -> int:
        if self.every_s is not None:
            return math.ceil(days * 86_400 / self.every_s)
        simulated = _simulated(self.cron or "", first, "UTC")
        if first.month not in simulated.months:
            return 0
        dates = sum(simulated.match_day(date(first.year, first.month, day)) for day in range(1, days + 1))
        return dates * len(simulated.hours) * len(simulated.minutes)

    def _from(self, moment: datetime) -> Iterator[datetime]:
        """All nominal times after this moment. Raises WrongExpression: the zone is not known any more."""
        if self.every_s is not None:
            every = timedelta(seconds=self.every_s)
            due = EPOCH + ((moment - EPOCH) // every + 1) * every
            while True:
                yield due
                due += every
        if not self.has_zone:
            raise WrongExpression("zone", self.unknown())
        # In the hour that is repeated, cronsim's first answer may be the same time of the hour before.
        last = moment
        for local in _simulated(self.cron or "", moment, self.zone):
            if (due := local.astimezone(UTC)) > last:
                yield due
                last = due

    def _until(self, moment: datetime, end: datetime) -> Iterator[datetime]:
        for due in self._from(moment):
            if due > end:
                return
            yield due


def _simulated(cron: str, moment: datetime, zone: str) -> CronSim:
    return CronSim(cron, moment.astimezone(UTC if zone == "UTC" else ZoneInfo(zone)))


def _check(cron: str) -> None:
    """Raise WrongExpression for an expression that is malformed, or names a day that never comes."""
    if len(cron) > LONGEST_CRON:
        raise WrongExpression("cron", f"it is longer than {LONGEST_CRON} characters")
    if len(cron.split()) != CRON_FIELDS:
        what = "five fields are expected: minute, hour, day of the month, month, day of the week, as in `0 */6 * * *`"
        raise WrongExpression("cron", what)
    try:
        next(_simulated(cron, EPOCH, "UTC"))
    except CronSimError as error:
        what = f"{str(error).lower()}: minute, hour, day of the month, month, day of the week, as in `0 */6 * * *`"
        raise WrongExpression("cron", what) from error
    except (StopIteration, ValueError) as error:
        raise WrongExpression("cron", "there is no such day") from error


def _spelled(seconds: int) -> str:
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds % size == 0:
            return unit if seconds == size else f"{seconds // size:,} {unit}s"
    return f"{seconds:,} seconds"
