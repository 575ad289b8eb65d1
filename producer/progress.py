"""How far a collection is, what it waits for and when it will be done. Pure: rows in, words out."""

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from statistics import median_high
from typing import Final, Literal

from producer.sharing import Sharer, until_done
from raingauge.contracts import BATCH_SIZE
from raingauge.pacing import (
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
from raingauge.proof import Charge
from raingauge.storage.collections import CollectionState
from raingauge.storage.gate import Gate

Status = Literal["queued", "collecting", "waiting", "done", "cancelled"]
Reason = Literal["month", "key", "provider", "database", "no consumer"]

_REASONS: Final[dict[str, Reason]] = {"quota": "provider", "provider": "provider", "key": "key", "database": "database"}
MOST_MONTHS: Final = 1200
MOST_CHARGES: Final = 500
"""Charges that are worth reading for an estimate; the rest is taken for released when a call of now will be."""
MOST_STEPS: Final = 400
"""Reservations that are played forward for an estimate; of a large quota several go as one."""
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
    others: tuple[Sharer, ...]
    """Who shares the quota with it."""
    held: int
    """Cities held by open charges."""
    charges: Sequence[Charge] = ()
    """Those of them that were read."""
    fresh: int = 0
    """Unsettled cities of this collection that need no call, as far as somebody counted them."""
    endpoint: str = "auto"
    """As set: auto, group or single."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A collection's state in the words of the API."""

    status: Status
    reason: Reason | None
    expected_at: datetime | None
    """None: nobody knows, because a person has to act first."""


def progress(state: CollectionState, around: Surroundings) -> Progress:
    """Where a collection stands."""
    if state.finished_at is not None:
        return ended(state)
    reason = _reason(around)
    status: Status = "waiting" if reason else "collecting" if state.settled else "queued"
    return Progress(status, reason, expected_at(state.total - state.settled - around.fresh, around))


def ended(state: CollectionState) -> Progress:
    """Of a collection that is done or cancelled: nothing around it matters."""
    if state.cancelled_at is not None:
        return Progress("cancelled", None, None)
    return Progress("done", None, state.finished_at)


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
    """When the last of `remaining` cities is settled, if all goes on as it is.

    Open collections are served in turn: each other one gets as many cities as this one until then, or all of its own.
    """
    gate = around.gate
    if gate is None or not around.consumer_alive or gate.state == "key":
        return None
    if remaining <= 0:
        return around.now
    latency = _latency(around)
    units = until_done(remaining, around.others)
    units -= sum(charge.cost for charge in around.charges if _is_under_way(charge, around))
    if units <= 0:
        return around.now + latency
    if (asked_at := _Pace(gate, around, latency).asked_at(units)) is None:
        return None
    month_at = _month_moment(around.now, gate.spent(around.now), units, around.terms)
    return None if month_at is None else max(asked_at, month_at) + latency


def _is_under_way(charge: Charge, around: Surroundings) -> bool:
    """Whether an answer to its calls may still come."""
    age_s = (around.now - charge.reserved_at).total_seconds()
    return charge.closed_at is None and age_s <= SEND_DELAY_S + around.terms.timeout_s


def _latency(around: Surroundings) -> timedelta:
    """How long a charge is open, as a rule."""
    took = [charge.closed_at - charge.reserved_at for charge in around.charges if charge.closed_at is not None]
    return max(timedelta(), median_high(took)) if took else timedelta()


def _released_at(charge: Charge, around: Surroundings, latency: timedelta) -> datetime:
    """When a charge is released; one whose calls are under way as if they are answered as fast as others were."""
    if not _is_under_way(charge, around):
        return charge.release_at
    answered_at = max(around.now, charge.reserved_at + latency)
    return min(charge.release_at, answered_at + timedelta(seconds=around.terms.window_s))


class _Pace:
    """When the coming cities are asked for, as far as window and pace go: the ledger's own rule, played forward.

    What is asked for is held until its answer is in, and one window longer: so after a window all comes round again.
    """

    def __init__(self, gate: Gate, around: Surroundings, latency: timedelta) -> None:
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

    def asked_at(self, units: int) -> datetime | None:
        """When the last of so many cities is asked for; None: in more than a century."""
        quota = self._terms.cities_per_window
        rounds = max(0, (units - 1) // quota - 1)
        far = rounds * self._round.total_seconds() > CENTURY.total_seconds()
        return None if far else self._played(units - rounds * quota) + rounds * self._round

    def _played(self, units: int) -> datetime:
        """The same for a few: at most two windows' worth, reservation by reservation."""
        gather = timedelta(seconds=self._terms.gather_s)
        call = max(self._call, -(-units // MOST_STEPS))
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


def _call_size(gate: Gate, around: Surroundings) -> int:
    """Cities that are reserved at once."""
    endpoint = gate.endpoint if around.endpoint == "auto" else around.endpoint
    one_by_one = endpoint in {"single", "refused"} and around.terms.pacing == "smooth"
    return min(around.terms.second_of_quota if one_by_one else BATCH_SIZE, around.terms.cities_per_window)


def _is_probed(gate: Gate, around: Surroundings) -> bool:
    """Whether the next call is a probe of one city, and it is not under way already. As `consumer.gate` decides it."""
    if gate.probe_until > around.now:
        return False
    looks_for_endpoint = around.endpoint == "auto" and gate.endpoint in {"unknown", "refused"}
    return looks_for_endpoint or gate.state not in {"open", "database"}


def _month_moment(now: datetime, spent: int, units: int, terms: Terms) -> datetime | None:
    """When the months' budgets have allowed that many, at no more than the pace from each month's begin."""
    begins = paced = now
    for _ in range(MOST_MONTHS):
        if spent + units <= terms.cities_per_month:
            paced += timedelta(seconds=terms.spread_s(max(0, units - terms.cities_per_window)))
            return max(month_moment(begins, spent, units, terms), paced)
        taken = max(0, terms.cities_per_month - spent)
        begins, spent, units = next_month(month_start(begins)), 0, units - taken
        paced = max(begins, paced + timedelta(seconds=terms.spread_s(taken)))
    return None
