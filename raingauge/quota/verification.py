"""Judges a bundle: whether the ledger kept the limits that held when each charge was reserved, in windows and months.

Pure: charges in, a verdict out. The windows are found by `proof.Replay`, as in GET /quota/proof. It must not read files
or the present gate: what it says rests on the bundle alone.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from raingauge.model import Charge, LedgerEntry, TermsSince, month_of
from raingauge.quota.bundle import Header
from raingauge.quota.pacing import MARGIN_S, SEND_DELAY_S, Terms, month_start, next_month
from raingauge.quota.proof import NOTHING, Replay, Worst

NO_ANSWER: Final = "no answer"
UNNAMED: Final = "closed by version 0.1.0"


@dataclass(frozen=True, slots=True)
class Judged:
    """The worst window among those whose last charge was reserved under the same terms."""

    terms: TermsSince
    worst: Worst

    @property
    def holds(self) -> bool:
        """Whether the window can have seen no more than the terms allow."""
        return self.worst.cities <= self.terms.cities_per_window


@dataclass(frozen=True, slots=True)
class Month:
    """What a calendar month (UTC) can have seen of the period."""

    month: str
    cities: int
    budget: int
    whole: bool
    """Whether all of it lies in the period."""

    @property
    def holds(self) -> bool:
        """Whether it is within its budget."""
        return self.cities <= self.budget


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the bundle says."""

    windows: Sequence[Judged]
    months: Sequence[Month]
    outcomes: Counter[str]
    """Charges by what became of them."""
    charges: int
    cities: int
    calls: int | None
    """None: of some charges nobody knows."""

    @property
    def violations(self) -> list[str]:
        """The limits that were exceeded, each with its window or month."""
        windows = [_exceeded(one) for one in self.windows if not one.holds]
        return windows + [
            f"{month.month} can have seen {month.cities:,} cities, and {month.budget:,} were allowed"
            for month in self.months
            if not month.holds
        ]


class Verification:
    """Takes the charges of a bundle in their order, and judges them.

    A window belongs to the terms that held when the last of its charges was reserved: by these the ledger admitted it,
    together with all that was held before.
    """

    def __init__(self, header: Header, claim_s: float) -> None:
        self._header = header
        self._claim = timedelta(seconds=claim_s)
        ends = [*(each.since for each in header.terms[1:]), None]
        self._windows = [
            _Windows(each, end, header, claim_s, first=number == 0)
            for number, (each, end) in enumerate(zip(header.terms, ends, strict=True))
        ]
        self._current = 0
        self._months: Counter[str] = Counter()
        self._outcomes: Counter[str] = Counter()
        self._cities = self._calls = self._unknown_calls = 0

    def add(self, entry: LedgerEntry) -> None:
        """The next charge."""
        charge = entry.charge
        while self._windows[self._current].is_over(charge.reserved_at):
            self._current += 1
        for windows in self._windows[self._current :]:
            if not windows.add(charge):
                break
        self._outcomes[entry.outcome or (NO_ANSWER if charge.closed_at is None else UNNAMED)] += 1
        self._cities += charge.cost
        self._calls += entry.calls or 0
        self._unknown_calls += entry.calls is None
        if charge.reserved_at <= self._header.until and charge.reserved_at + self._claim >= self._header.since:
            for month in {month_of(charge.reserved_at), month_of(charge.reserved_at + self._claim)}:
                self._months[month] += charge.cost

    def verdict(self) -> Verdict:
        """What the charges say."""
        return Verdict(
            windows=[Judged(windows.terms, windows.worst) for windows in self._windows],
            months=[
                Month(month_of(begin), self._months[month_of(begin)], self._budget(begin), self._is_whole(begin))
                for begin in _months(self._header.since, self._header.until)
            ],
            outcomes=self._outcomes,
            charges=self._outcomes.total(),
            cities=self._cities,
            calls=None if self._unknown_calls else self._calls,
        )

    def _budget(self, begin: datetime) -> int:
        """The largest that held in the month."""
        terms, end = self._header.terms, next_month(begin)
        ends = [*(each.since for each in terms[1:]), None]
        return max(
            each.cities_per_month
            for number, (each, until) in enumerate(zip(terms, ends, strict=True))
            if (number == 0 or each.since is None or each.since < end) and (until is None or until > begin)
        )

    def _is_whole(self, begin: datetime) -> bool:
        return begin >= self._header.since and next_month(begin) <= self._header.until


class _Windows:
    """The windows that belong to one period of terms."""

    def __init__(self, terms: TermsSince, end: datetime | None, header: Header, claim_s: float, *, first: bool) -> None:
        self.terms = terms
        self._end = end
        self._begin = None if first else terms.since
        full = Terms(
            terms.cities_per_window,
            terms.window_s,
            pacing="burst",
            cities_per_month=terms.cities_per_month,
            month_pacing="none",
            timeout_s=claim_s - SEND_DELAY_S - MARGIN_S,
        )
        self._reach = timedelta(seconds=full.worst_hold_s)
        self._replay = Replay(full, header.since, header.until)

    @property
    def worst(self) -> Worst:
        """The worst of them; none if no charge was reserved under its terms."""
        return NOTHING if self._begin is not None else self._replay.worst

    def is_over(self, moment: datetime) -> bool:
        """Whether no charge that is reserved then, or later, belongs to it."""
        return self._end is not None and moment >= self._end

    def add(self, charge: Charge) -> bool:
        """Take in a charge; False: it is so early that it cannot share a window with any of these terms."""
        if self._begin is not None:
            if charge.reserved_at < self._begin - self._reach:
                return False
            if charge.reserved_at >= self._begin:
                self._begin = None
                self._replay.forget_worst()  # it belongs to the terms before
        self._replay.add([charge])
        return True


def longest_claim_s(header: Header, entry: LedgerEntry) -> float:
    """How late a call of it may have arrived: a consumer may have had a longer timeout than the header has."""
    charge = entry.charge
    if charge.closed_at is not None:
        return header.claim_s
    return max(header.claim_s, (charge.ends_at - charge.reserved_at).total_seconds())


def _months(since: datetime, until: datetime) -> Iterator[datetime]:
    """The begins of the months from one moment to another."""
    begin = month_start(since)
    while begin <= until:
        yield begin
        begin = next_month(begin)


def _exceeded(judged: Judged) -> str:
    worst, terms = judged.worst, judged.terms
    begin = "" if worst.begin is None else f" from {worst.begin:%Y-%m-%d %H:%M:%S.%f} UTC"
    return (
        f"the window of {terms.window_s:g} s{begin} can have seen {worst.cities:,} cities, "
        f"and {terms.cities_per_window:,} were allowed"
    )
