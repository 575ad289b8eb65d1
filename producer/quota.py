"""Reports on the quota: the state of the account, and whether the quota was kept. It speaks no HTTP.

It reads what the ledger wrote and changes nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Literal

from sqlalchemy import Connection

from producer.collections import DEADLINE_S
from raingauge.database.transactions import Transactions
from raingauge.model import Charge, Gate
from raingauge.quota.pacing import Release, Terms, month_allows, next_month
from raingauge.quota.proof import Replay, Worst
from raingauge.storage.quota import (
    KEPT_FOR,
    charges,
    consumers_alive,
    count_open,
    find_gate,
    held,
    next_ends,
    reserved_charges,
)

RECENT: Final = timedelta(hours=1)
"""What the present rate is taken from."""
PORTION: Final = timedelta(minutes=10)
"""Of the charges, replayed in one transaction: some thousands on a large plan."""
PORTION_S: Final = 5.0
"""Each portion of a proof may take that much longer than other answers."""
MAX_RELEASED_AT_ONCE: Final = 1_000
"""Charges that are read to find what is released next."""
WINDOWS_SHOWN: Final = 10
"""How many windows the course of what is held goes back, as far as charges are kept."""
MAX_CHARGES_SHOWN: Final = 10_000
"""Charges that are read for it; of a plan that has more it is shorter."""
POINTS_SHOWN: Final = 240

Endpoint = Literal["group", "single", "unknown"]
Period = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Standing:
    """How an account stands at a moment of the database's."""

    now: datetime
    gate: Gate
    terms: Terms
    """Q, W and pacing as the gate has them, the month's as the settings have them."""
    held: int
    """Cities held by charges that are not released."""
    charges_open: int
    """Those of them that are not closed: no answer, or none yet."""
    next_release: Release | None
    recent: int
    """Cities charged in the last hour, by the end of the charges."""
    endpoint: Endpoint
    consumers: int
    """Consumers of the account that are alive."""

    @property
    def free(self) -> int:
        """Cities that the window would admit."""
        return max(0, self.terms.cities_per_window - self.held)

    @property
    def spent(self) -> int:
        """Cities spent of the month."""
        return self.gate.spent(self.now)

    @property
    def month_allows(self) -> int:
        """Cities that the month allows at this moment."""
        return month_allows(self.now, self.spent, self.terms)

    @property
    def forecast(self) -> int:
        """Cities spent at the month's end, if each hour until then is like the last one."""
        return self.spent + round(self.recent * ((next_month(self.now) - self.now) / RECENT))


@dataclass(frozen=True, slots=True)
class Course:
    """What was held over time."""

    terms: Terms
    points: Sequence[tuple[datetime, int]]
    """Moments at equal distances, and the cities held at each."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What the charges of a time say about the promise."""

    since: datetime
    until: datetime
    terms: Terms
    worst: Worst


class QuotaReports:
    """Reports on one account's quota; None: no consumer has created its gate.

    Raises (all methods): DatabaseUnavailable, in time.
    """

    def __init__(self, transactions: Transactions, account: str, terms: Terms, endpoint: str) -> None:
        self.transactions = transactions
        self.account = account
        self.terms = terms
        self._endpoint = endpoint

    async def standing(self) -> Standing | None:
        """The account at this moment."""
        return await self.transactions.read(self.read_standing, DEADLINE_S)

    def read_standing(self, connection: Connection) -> Standing | None:
        """The same, within a transaction."""
        gate = find_gate(connection, self.account)
        if gate is None:
            return None
        now = max(self.transactions.now(connection), gate.last_now)  # as the ledger takes it
        window = timedelta(seconds=gate.window_s)
        ends = next_ends(connection, self.account, now - window, MAX_RELEASED_AT_ONCE)
        return Standing(
            now=now,
            gate=gate,
            terms=_terms_of(gate, self.terms),
            held=held(connection, self.account, now, gate.window_s),
            charges_open=count_open(connection, self.account, now, gate.window_s),
            next_release=_next_release(ends, window),
            recent=held(connection, self.account, now, RECENT.total_seconds()),
            endpoint=_endpoint_in_use(gate.endpoint, self._endpoint),
            consumers=consumers_alive(connection, now, self.account)[0],
        )

    async def course(self) -> Course | None:
        """What was held during the last windows."""
        return await self.transactions.read(self._read_course, DEADLINE_S)

    def _read_course(self, connection: Connection) -> Course | None:
        gate = find_gate(connection, self.account)
        if gate is None:
            return None
        now = max(self.transactions.now(connection), gate.last_now)
        window = timedelta(seconds=gate.window_s)
        span, limit = min(WINDOWS_SHOWN * window, KEPT_FOR), MAX_CHARGES_SHOWN
        while len(found := charges(connection, self.account, now - span - window, now, limit)) == limit:
            if span < window:
                break
            span /= 2
        moments = [now - span + step * span / POINTS_SHOWN for step in range(POINTS_SHOWN + 1)]
        return Course(_terms_of(gate, self.terms), held_at(found, window, moments))

    async def proof(self, period_of: Callable[[datetime], Period]) -> Proof | None:
        """The charges of a period replayed; `period_of` maps the database's time to the period.

        It reads them portion by portion: a day of a large plan has a million.
        """

        def begin(connection: Connection) -> tuple[Gate | None, Period]:
            return find_gate(connection, self.account), period_of(self.transactions.now(connection))

        # By itself and first, so that a database that is away is reported as early as elsewhere.
        gate, (since, until) = await self.transactions.read(begin, DEADLINE_S)
        if gate is None:
            return None
        terms = _terms_of(gate, self.terms)
        window = timedelta(seconds=terms.window_s)
        replay = Replay(terms, since, until)
        # The proof does not trust `ends_at`: a charge that was released too early is to be seen.
        after, last = since - window - timedelta(seconds=terms.claim_s), until + window
        while after < last:
            end = min(after + PORTION, last)
            read = partial(reserved_charges, account=self.account, after=after, until=end)
            portion = await self.transactions.read(read, DEADLINE_S + PORTION_S)
            await self.transactions.run_blocking(partial(replay.add, portion))
            after = end
        return Proof(since, until, terms, replay.worst)


def held_at(found: Sequence[Charge], window: timedelta, moments: Sequence[datetime]) -> list[tuple[datetime, int]]:
    """The cities held at each of these moments, which are in order. A charge is held until a window after its end."""
    changes = sorted(
        [(charge.reserved_at, charge.cost) for charge in found]
        + [(charge.ends_at + window, -charge.cost) for charge in found]
    )
    points, total, next_change = [], 0, 0
    for moment in moments:
        while next_change < len(changes) and changes[next_change][0] <= moment:
            total += changes[next_change][1]
            next_change += 1
        points.append((moment, total))
    return points


def _terms_of(gate: Gate, terms: Terms) -> Terms:
    """What holds: Q, W and pacing stand in the gate."""
    pacing: Literal["smooth", "burst"] = "burst" if gate.pacing == "burst" else "smooth"
    return replace(terms, cities_per_window=gate.cities_per_window, window_s=gate.window_s, pacing=pacing)


def _next_release(ends: Sequence[tuple[datetime, int]], window: timedelta) -> Release | None:
    """The next moment at which charges are released, and their cities."""
    return (ends[0][0] + window, sum(cost for end, cost in ends if end == ends[0][0])) if ends else None


def _endpoint_in_use(found: str, setting: str) -> Endpoint:
    """What consumers call: as set, or as they found out."""
    chosen = found if setting == "auto" else setting
    if chosen == "group":
        return "group"
    # A group endpoint that was refused leaves the single one, though nobody has had an answer from that yet.
    return "single" if chosen in {"single", "refused"} else "unknown"
