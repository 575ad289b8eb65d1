"""Whom a collection shares the quota with, and how much they get until it is done: as `consumer.turns` has it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from raingauge.pacing import FIRST_FEW
from raingauge.storage.collections import CollectionState, OpenWork


@dataclass(frozen=True, slots=True)
class Sharer:
    """Other open collections that want the same cities as each other: usually one."""

    left: int
    """Cities that they need."""
    ahead: bool = True
    """Whether their next turn comes before that of the collection in question."""
    more: int = 0
    """How many more cities they get until then, because they are new, or fewer, because that one is."""


def in_turn(open_work: Iterable[OpenWork], state: CollectionState, left: int) -> tuple[Sharer, ...]:
    """Whom a collection with so many cities left shares the quota with."""
    by_cities: dict[str, list[OpenWork]] = {}
    for work in open_work:
        if work.id != state.id:
            by_cities.setdefault(work.cities_hash, []).append(work)
    same = by_cities.pop(state.cities_hash, [])
    # One that has more left wants more than this one's cities, and begins with that.
    longer = [([work], work.left - left) for work in same if work.left > left]
    longer += [(one, max(work.left for work in one)) for one in by_cities.values()]
    return tuple(_sharer(one, theirs, state) for one, theirs in longer)


def until_done(remaining: int, others: Iterable[Sharer]) -> int:
    """Cities that are asked for until the last of `remaining` is, itself included: each other one gets as many."""
    return remaining + sum(min(other.left, max(0, remaining + other.more - (not other.ahead))) for other in others)


def _sharer(one: Sequence[OpenWork], left: int, state: CollectionState) -> Sharer:
    """Those that want the same cities, beside this collection. Whoever makes up for a difference has its turn last."""
    more = max(map(_gift, one)) - _gift(state)
    ahead = min(map(_waits, one)) < _waits(state)
    return Sharer(left, more < 0 or (more == 0 and ahead), more)


def _gift(work: OpenWork | CollectionState) -> int:
    """What is left of the first few cities, which a new one gets before all others."""
    return max(0, FIRST_FEW - work.settled)


def _waits(work: OpenWork | CollectionState) -> tuple[bool, datetime, int, datetime]:
    """The lowest is next in turn: what never had progress, then what had it longest ago.

    One call serves many: of those that began together, the next is who has got less.
    """
    since = work.last_progress_at or work.requested_at
    return work.last_progress_at is not None, since, work.settled, work.requested_at
