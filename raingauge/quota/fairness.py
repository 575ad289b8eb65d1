"""Whose city is next, and which cities need no call. Pure: the queue applies these rules, the forecast uses them too.

The order is start-time fair queuing (Goyal, Vin, Cheng: Start-time Fair Queueing, SIGCOMM 1996), with a *turn* in the
place of virtual time. A wanted city gets a turn when it is enqueued; reservations take the lowest turns. A collection's
turns go up by one, from the last turn that was taken. So open collections share equally whatever their size, a new one
starts beside the others and not behind them, and an idle one saves nothing up.
"""

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from raingauge.model import CALL_SIZE

SMALL: Final = CALL_SIZE
"""A new collection of at most that many cities does not wait its turn: its first few go ahead of all others."""
FIRST_FEW: Final = 5
UNKNOWN_FOR: Final = timedelta(days=1)
"""How long an id that the provider does not know is not requested again, unless `max_age_s` is 0."""
UNKNOWN_CITY: Final = "unknown city"


class Turn(NamedTuple):
    """A place in the queue."""

    number: int
    newcomer: bool
    """It goes ahead of those who are not, as far as `share_with_newcomers` lets it."""


def turns(gate_turn: int, last_turn: int, newcomers: int, others: int) -> tuple[list[Turn], int]:
    """The turns of a collection's next cities, first its newcomers, and its last turn after them.

    `gate_turn`: the highest turn taken so far; `last_turn`: the collection's last one.
    """
    first = max(gate_turn, last_turn) + 1
    regular = [Turn(number, newcomer=False) for number in range(first, first + others)]
    return [Turn(gate_turn, newcomer=True)] * newcomers + regular, first + others - 1 if others else last_turn


def retry_turn(gate_turn: int, last_turn: int) -> int:
    """The turn of a city whose call failed or never ended: its collection's last turn so far, unless that is past.

    So a collection ends with its last turn, as the forecast takes it.
    """
    return max(gate_turn + 1, last_turn)


def newcomers_in(batch: int, size: int, total: int) -> int:
    """How many cities of a batch, from its first one on, are the first few of a small collection of `total` cities."""
    return min(FIRST_FEW, size) if batch == 0 and total <= SMALL else 0


def share_with_newcomers(want: int, newcomers: int, others: int, spent: int) -> int:
    """How many of `want` places newcomers get, given how many of each wait: half while others wait.

    They get the odd place two times out of three, by the cities `spent` so far: a call of one city has no other.
    """
    odd = want % 2 if spent % 3 else 0
    return min(newcomers, max(want - others, want // 2 + odd))


def is_fresh(fetched_at: datetime | None, since: datetime) -> bool:
    """Whether a city's latest observation will do for who wants one fetched at or after `since`."""
    return fetched_at is not None and fetched_at >= since


def needs_no_call(
    fetched_at: datetime | None, unknown_at: datetime | None, since: datetime, not_known_since: datetime
) -> bool:
    """Whether what is known of a city settles it: an observation, or that the provider does not know it, new enough."""
    return is_fresh(fetched_at, since) or is_fresh(unknown_at, not_known_since)


def unknown_since(requested_at: datetime, max_age_s: int) -> datetime:
    """From when on an answer that an id is unknown counts for a collection; with `max_age_s` 0 only a new one does."""
    return requested_at - UNKNOWN_FOR if max_age_s else requested_at


class Share(NamedTuple):
    """The turns that the unsettled cities of an open collection have, or will get."""

    newcomers: int
    """Of its first few cities, if it is small: they go ahead."""
    begin: int
    """The turn before that of its first other city."""
    others: int

    @property
    def end(self) -> int:
        """The turn of its last city."""
        return self.begin + self.others


def share(gate_turn: int, last_turn: int, left: int, settled: int, enqueued: int) -> Share:
    """What an open collection with `left` unsettled cities was given or will be given, in turns.

    Those in the queue have the turns up to its last one; the others follow.
    """
    newcomers = min(left, max(0, FIRST_FEW - settled)) if left + settled <= SMALL else 0
    in_queue = max(0, enqueued - settled - newcomers)
    begin = last_turn - in_queue if in_queue else max(gate_turn, last_turn)
    return Share(newcomers, begin, left - newcomers)


def cities_until(turn: int, theirs: Share) -> int:
    """How many cities of a collection are requested up to a turn."""
    return theirs.newcomers + min(theirs.others, max(0, turn - theirs.begin))
