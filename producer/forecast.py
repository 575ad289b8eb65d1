"""How far a collection is, what it waits for, and when it will be done. Pure: no database, no clock of its own.

Who shares the quota with it is decided by `raingauge.quota.fairness`, when calls may go by `raingauge.quota.pacing`:
the rules that the consumers apply.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate, islice
from statistics import median_high
from typing import Final, Literal

from raingauge.model import BATCH_SIZE, CALL_SIZE, Charge, CollectionState, Gate, OpenCollection
from raingauge.quota.fairness import Share, cities_until, share
from raingauge.quota.pacing import (
    SEND_DELAY_S,
    Terms,
    admit,
    month_allows,
    month_moment,
    month_start,
    next_month,
    next_start,
    room_beside,
)

Status = Literal["queued", "collecting", "waiting", "done", "cancelled"]
Reason = Literal["month", "key", "provider", "database", "failover", "no consumer", "newer message"]

_REASONS: Final[dict[str, Reason]] = {
    "quota": "provider",
    "provider": "provider",
    "key": "key",
    "database": "database",
    "failover": "failover",
}
MAX_MONTHS: Final = 1200
MAX_CHARGES: Final = 500
"""Charges that are read for a forecast; the rest count as if charged now."""
MAX_STEPS: Final = 400
"""Reservations that are played forward; of a large quota several count as one."""
EXACT_UP_TO: Final = 200
"""Open collections; of more, those whose turns are alike are forecast alike."""
CENTURY: Final = timedelta(days=36_525)
"""A moment further away is not forecast."""


class Competition:
    """The open collections that share the quota, and the highest turn that was taken."""

    def __init__(self, open_collections: Iterable[OpenCollection], gate_turn: int = 0) -> None:
        shares: dict[str, list[tuple[str, Share]]] = {}
        self.size = 0
        for one in open_collections:
            self.size += 1
            theirs = share(gate_turn, one.last_turn, one.left, one.settled, one.enqueued)
            shares.setdefault(one.cities_hash, []).append((one.id, theirs))
        self._gate_turn = gate_turn
        self._shares = shares
        self._alone = _Ramps([group[0][1] for group in shares.values() if len(group) == 1])
        self._together = [(cities_hash, group) for cities_hash, group in shares.items() if len(group) > 1]
        self._units: dict[tuple[str, Share], int] = {}

    def units(self, state: CollectionState, left: int) -> int:
        """Cities requested until the last of the collection's `left` ones is, itself included.

        A call for a city serves all collections that want it; so those that want the same cities count as one.
        """
        mine = share(self._gate_turn, state.last_turn, left, state.settled, state.enqueued)
        if self.size <= EXACT_UP_TO:
            return self._count(state, mine)
        known = (state.cities_hash, mine)
        if known not in self._units:
            self._units[known] = self._count(state, mine)
        return self._units[known]

    def _count(self, state: CollectionState, mine: Share) -> int:
        left = units = mine.newcomers + mine.others
        groups = list(self._shares.items()) if self.size <= EXACT_UP_TO else self._together
        if groups is self._together:
            units += self._alone.until(mine.end)
            own = self._shares.get(state.cities_hash, [])
            if len(own) == 1:
                units -= cities_until(mine.end, own[0][1])
                groups = [*groups, (state.cities_hash, own)]
        for cities_hash, shares in groups:
            # Of equal turns those of the lower id go first.
            theirs = max(
                (cities_until(mine.end - (name > state.id), one) for name, one in shares if name != state.id), default=0
            )
            # Same cities: ours serve them too, so only their surplus counts.
            units += theirs if cities_hash != state.cities_hash else max(0, theirs - left)
        return units


class _Ramps:
    """How many cities of many collections are requested up to a turn, in all; as the sum of `cities_until`, quickly."""

    def __init__(self, shares: Sequence[Share]) -> None:
        self._newcomers = sum(one.newcomers for one in shares)
        self._begins = sorted(one.begin for one in shares)
        self._ends = sorted(one.end for one in shares)
        self._sums = [list(accumulate(turns, initial=0)) for turns in (self._begins, self._ends)]

    def until(self, turn: int) -> int:
        """Each has one city a turn from its begin to its end."""
        begun, ended = bisect_left(self._begins, turn), bisect_left(self._ends, turn)
        return self._newcomers + begun * turn - self._sums[0][begun] - (ended * turn - self._sums[1][ended])


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a forecast depends on besides the collection, at one moment."""

    now: datetime
    terms: Terms
    gate: Gate | None
    """None: no consumer has ever created it."""
    consumer_alive: bool
    competition: Competition
    held: int
    """Cities held by charges."""
    charges: Sequence[Charge] = ()
    """Those of them that were read."""
    partitions_held: int = 0
    """Partitions of the hand-off that wait behind a message that consumers cannot process."""
    endpoint: str = "auto"
    """The setting: auto, group or single."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A collection's state as the API shows it."""

    status: Status
    reason: Reason | None
    expected_at: datetime | None
    """None: unknown, because a person has to act first."""


class Forecast:
    """The progress of collections, given a snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._reason = _reason(snapshot)
        self._expected: dict[int, datetime | None] = {}

    def progress(self, state: CollectionState, fresh: int = 0, *, behind_held: bool = False) -> Progress:
        """A collection's progress; `fresh`: its unsettled cities that need no call.

        `behind_held`: its messages wait behind one that the consumers cannot process.
        """
        if state.finished_at is not None:
            return ended(state)
        left = state.total - state.settled - fresh
        units = self.snapshot.competition.units(state, left) if left > 0 else 0
        if units not in self._expected:
            self._expected[units] = expected_at(units, self.snapshot)
        if behind_held and self._reason is None:
            return Progress("waiting", "newer message", None)
        reason = self._reason or _month_reason(units, self.snapshot)
        status: Status = "waiting" if reason else "collecting" if state.settled else "queued"
        return Progress(status, reason, self._expected[units])


def ended(state: CollectionState) -> Progress:
    """The progress of a collection that is done or cancelled: it depends on nothing else."""
    if state.cancelled_at is not None:
        return Progress("cancelled", None, None)
    return Progress("done", None, state.finished_at)


def _reason(around: Snapshot) -> Reason | None:
    """What all open collections wait for, if they do."""
    if around.gate is None or not around.consumer_alive:
        return "no consumer"
    if around.gate.state != "open":
        return _REASONS[around.gate.state]
    return None


def _month_reason(units: int, around: Snapshot) -> Reason | None:
    """Whether the next call waits for the month: the ledger waits until it allows a whole call."""
    spent = 0 if around.gate is None else around.gate.spent(around.now)
    least = min(units, CALL_SIZE, max(1, around.terms.cities_per_month - spent))
    return "month" if month_allows(around.now, spent, around.terms) < least else None


def expected_at(units: int, around: Snapshot) -> datetime | None:
    """When the last of `units` cities is settled, if everything stays as it is; None if nobody can know."""
    gate = around.gate
    if gate is None or not around.consumer_alive or gate.state == "key":
        return None
    if units <= 0:
        return around.now
    latency = _latency(around)
    units -= sum(charge.cost for charge in around.charges if _is_under_way(charge, around))
    if units <= 0:
        return around.now + latency
    if (reserved_at := _Pace(gate, around, latency).reserved_at(units)) is None:
        return None
    month_at = _month_moment(around.now, gate.spent(around.now), units, around.terms)
    return None if month_at is None else max(reserved_at, month_at) + latency


def _is_under_way(charge: Charge, around: Snapshot) -> bool:
    """Whether its calls may still be answered."""
    age_s = (around.now - charge.reserved_at).total_seconds()
    return charge.closed_at is None and age_s <= SEND_DELAY_S + around.terms.timeout_s


def _latency(around: Snapshot) -> timedelta:
    """How long a charge is open, as a rule."""
    took = [charge.closed_at - charge.reserved_at for charge in around.charges if charge.closed_at is not None]
    return max(timedelta(), median_high(took)) if took else timedelta()


def _released_at(charge: Charge, around: Snapshot, latency: timedelta) -> datetime:
    """When a charge is released; calls under way are taken to be answered as fast as others were."""
    ends_at = charge.ends_at
    if _is_under_way(charge, around):
        ends_at = min(ends_at, max(around.now, charge.reserved_at + latency))
    return ends_at + timedelta(seconds=around.terms.window_s)


class _Pace:
    """When the coming cities are reserved, as far as window and pace allow: the ledger's own rule, played forward.

    A charge is held until its answers are in, and one window longer: so the schedule repeats with that period.
    """

    def __init__(self, gate: Gate, around: Snapshot, latency: timedelta) -> None:
        terms = around.terms
        self._terms = terms
        self._latency = latency
        self._round = timedelta(seconds=terms.window_s) + latency
        self._call = _call_size(gate, around)
        self._probe = _is_probed(gate, around)
        opens_at = around.now if gate.state == "open" else max(around.now, gate.blocked_until)
        self._first = opens_at if terms.pacing == "burst" else max(opens_at, gate.next_start_at)
        gathering = around.now - timedelta(seconds=terms.gather_s)
        lately = sum(charge.cost for charge in around.charges if charge.reserved_at > gathering)
        self._room = 0 if self._first <= opens_at else room_beside(self._first, opens_at, lately, self._call, terms)
        self._opens_at = opens_at
        releases = [(_released_at(charge, around, latency), charge.cost) for charge in around.charges]
        unread = around.held - sum(cost for _, cost in releases)
        releases += [(around.now + self._round, unread)] if unread > 0 else []
        self._releases = sorted(releases)
        self._free = terms.cities_per_window - sum(cost for _, cost in releases)

    def reserved_at(self, units: int) -> datetime | None:
        """When the last of `units` cities is reserved; None: in more than a century."""
        quota = self._terms.cities_per_window
        rounds = max(0, (units - 1) // quota - 1)
        far = rounds * self._round.total_seconds() > CENTURY.total_seconds()
        return None if far else self._played(units - rounds * quota) + rounds * self._round

    def _played(self, units: int) -> datetime:
        """The same for at most two windows' worth of cities, reservation by reservation."""
        gather = timedelta(seconds=self._terms.gather_s)
        call = max(self._call, -(-units // MAX_STEPS))
        releases, free, passed, probe, room = list(self._releases), self._free, 0, self._probe, self._room
        planned, moment = self._first, self._opens_at
        while units > 0:
            want = 1 if probe else min(room or call, units)
            cost, moment = admit(moment if room else planned, want, free, islice(releases, passed, None), gather)
            while passed < len(releases) and releases[passed][0] <= moment:
                free += releases[passed][1]
                passed += 1
            free, units = free - cost, units - cost
            insort(releases, (moment + self._round, cost), lo=passed)
            planned, room = next_start(planned, moment, cost, self._terms), 0
            if probe:
                moment, probe = moment + self._latency, False
                filled = moment < planned and self._latency <= gather
                room = room_beside(planned, moment, cost, call, self._terms) if filled else 0
                planned = max(planned, moment)
        return moment


def _call_size(gate: Gate, around: Snapshot) -> int:
    """Cities that are reserved at once."""
    endpoint = gate.endpoint if around.endpoint == "auto" else around.endpoint
    one_by_one = endpoint in {"single", "refused"} and around.terms.pacing == "smooth"
    return min(around.terms.second_of_quota if one_by_one else BATCH_SIZE, around.terms.cities_per_window)


def _is_probed(gate: Gate, around: Snapshot) -> bool:
    """Whether the next call is a probe of one city that is not under way yet, as `consumer.gate` decides it."""
    if gate.probe_until > around.now:
        return False
    looks_for_endpoint = around.endpoint == "auto" and gate.endpoint in {"unknown", "refused"}
    return looks_for_endpoint or not gate.opens_without_probe


def _month_moment(now: datetime, spent: int, units: int, terms: Terms) -> datetime | None:
    """When the months' budgets allow `units` more cities, at no more than the pace from each month's begin."""
    begins = paced = now
    for _ in range(MAX_MONTHS):
        if spent + units <= terms.cities_per_month:
            paced += timedelta(seconds=terms.spread_s(max(0, units - terms.cities_per_window)))
            return max(month_moment(begins, spent, units, terms), paced)
        taken = max(0, terms.cities_per_month - spent)
        begins, spent, units = next_month(month_start(begins)), 0, units - taken
        paced = max(begins, paced + timedelta(seconds=terms.spread_s(taken)))
    return None
