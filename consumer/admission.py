"""Whether anything may go and how much: what a reservation may answer, and the decisions behind it.

To be called under the gate's lock. It writes nothing.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from consumer.gate import Plan
from consumer.look import Candidate, Known, Look
from raingauge.pacing import CALL_SIZE, Terms, Wait, admit, month_allows, month_moment, next_month, room_beside
from raingauge.storage.gate import Gate, charged, held, next_releases
from raingauge.storage.wanted import UNKNOWN_FOR, Want


@dataclass(frozen=True, slots=True)
class Grant:
    """Cities that may be asked for now."""

    charge_id: int
    reserved_at: datetime
    """Database time."""
    city_ids: tuple[int, ...]
    call: Plan
    together: bool
    """In group calls of up to 20 cities, in their order; else one by one."""
    clean: bool
    """The gate was open and untroubled: an ordinary answer changes nothing of it."""
    lent: tuple[Want, ...] = ()
    """Who wants those of the cities that other consumers lent."""

    @property
    def group_calls(self) -> int:
        """How many these are. Cities that are asked for one by one count as one: at most 20 go together."""
        return -(-len(self.city_ids) // CALL_SIZE)


@dataclass(frozen=True, slots=True)
class NotNow:
    """Nothing may go for that long (seconds on any clock)."""

    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Some candidates need no call. Nothing was charged."""

    fresh: frozenset[int]
    """Fetched, or found unknown to the provider."""
    claimed: frozenset[int]
    """Being fetched by another consumer."""


@dataclass(frozen=True, slots=True)
class Over:
    """Some candidates are of collections that are done or cancelled. Nothing was charged."""

    collection_ids: frozenset[str]


def allowed(
    connection: Connection, gate: Gate, now: datetime, *, held_then: int, want: int, full: int, terms: Terms
) -> int | Wait:
    """How many of `want` cities may go now, or until when to wait. A full call has `full` cities.

    `held_then`: how many are held when the next call may start.
    """
    spent = gate.spent(now)
    want = min(want, terms.cities_per_month - spent)
    if want <= 0:
        return Wait(next_month(now), "month")
    if month_allows(now, spent, terms) < want:
        return Wait(month_moment(now, spent, want, terms), "month")
    start = max(now, gate.next_start_at)
    if start > now:
        lately = charged(connection, gate.account, now - timedelta(seconds=terms.gather_s))
        if (beside := room_beside(start, now, lately, full, terms)) > 0:
            start, want, held_then = now, min(want, beside), held(connection, gate.account, now)
    free = terms.cities_per_window - held_then
    # A charge is held to the worst case until it closes. If it closes now, it is released in a window: look again then.
    soonest = now + timedelta(seconds=terms.window_s)
    later = [] if free >= want else next_releases(connection, gate.account, start, want)
    releases = [(min(release_at, soonest), cost) for release_at, cost in later]
    number, moment = admit(start, want, free, releases, timedelta(seconds=terms.gather_s))
    if moment > now:
        return Wait(moment, "pace")
    return number


def left_out(chosen: Sequence[Candidate], all_of_them: Sequence[Candidate], found: Look) -> LeftOut | None:
    """The chosen candidates that need no call, if any; then also all others that have been fetched."""
    known, claimed, now = found.cities, found.claimed, found.now
    if not any(is_left_out(candidate, known, claimed, now) for candidate in chosen):
        return None
    fresh = frozenset(one.city_id for one in all_of_them if _is_fresh(one, known, now))
    return LeftOut(fresh, frozenset(one.city_id for one in chosen if one.city_id in claimed) - fresh)


def is_left_out(candidate: Candidate, known: Mapping[int, Known], claimed: Container[int], now: datetime) -> bool:
    """Whether a city needs no call: fetched or found unknown meanwhile, or claimed."""
    return candidate.city_id in claimed or _is_fresh(candidate, known, now)


def _is_fresh(candidate: Candidate, known: Mapping[int, Known], now: datetime) -> bool:
    if (city := known.get(candidate.city_id)) is None:
        return False
    if city.unknown_at is not None and city.unknown_at >= now - UNKNOWN_FOR and candidate.since <= now:
        return True  # unless it is to be asked for in any case
    return city.fetched_at is not None and city.fetched_at >= candidate.since
