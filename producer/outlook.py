"""What becomes of collections, given what stands around them: read once, told for many. It only reads."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Final

from sqlalchemy import Connection

from producer.progress import MOST_CHARGES, Progress, Surroundings, ended, progress
from producer.sharing import Sharer, in_turn
from raingauge.pacing import Terms
from raingauge.storage import cities
from raingauge.storage.collections import OPEN_WORK, CollectionRequest, CollectionState, OpenWork, open_in
from raingauge.storage.consumers import attended, attending
from raingauge.storage.gate import charges_in, charges_of, held
from raingauge.storage.message import send

MOST_COUNTED: Final = 5000
"""Of a larger collection a POST does not count the fresh cities: that would take longer than storing it."""
FEW: Final = 200
"""Open collections whose list is read every time."""
KEPT_FOR_EACH: Final = timedelta(milliseconds=5)
"""How long a longer list is used again, for each collection on it: a hundred times what reading it takes."""
KEPT_AT_MOST: Final = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class View:
    """A collection as it stands, and what becomes of it."""

    state: CollectionState
    progress: Progress
    written: dict[bytes, bytes] = field(default_factory=dict, compare=False, repr=False)
    """What was made of it for one who asked, for the others who asked at the same time."""


@dataclass(frozen=True, slots=True)
class Account:
    """Whose quota it is, as the settings have it."""

    name: str
    terms: Terms
    endpoint: str


class Crowd:
    """The open collections. Where they are many, their list is used again for a while: it only serves estimates."""

    def __init__(self) -> None:
        self._kept = _Kept(datetime.min.replace(tzinfo=UTC), ())

    def at(self, now: datetime) -> Sequence[OpenWork] | None:
        """Those open a little before, if their list is used again; None: it is to be read."""
        kept, number = self._kept, len(self._kept.open)
        if number <= FEW or not timedelta() <= now - kept.read_at <= min(KEPT_AT_MOST, number * KEPT_FOR_EACH):
            return None
        return kept.open

    def keep(self, now: datetime, open_now: Sequence[OpenWork]) -> Sequence[OpenWork]:
        """This is the list, read now."""
        self._kept = _Kept(now, open_now)
        return open_now

    def sharers(self, others: Sequence[OpenWork], state: CollectionState, left: int) -> tuple[Sharer, ...]:
        """`in_turn` of these and a collection.

        To a list all that were posted after it was read, and wait for their first reading, are the same: last in turn.
        """
        kept = self._kept
        if others is not kept.open or state.last_progress_at is not None or state.requested_at <= kept.read_at:
            return in_turn(others, state, left)
        if (told := kept.told.get((state.cities_hash, left))) is None:
            told = kept.told[state.cities_hash, left] = in_turn(others, state, left)
        return told


@dataclass(frozen=True, slots=True)
class _Kept:
    """A list of open collections, when it was read, and what was told of it."""

    read_at: datetime
    open: Sequence[OpenWork]
    told: dict[tuple[str, int], tuple[Sharer, ...]] = field(default_factory=dict)


class Outlook:
    """What stands around all collections at one moment of the database's; read when the first open one asks for it.

    Used within one transaction.
    """

    def __init__(self, connection: Connection, now: datetime, account: Account, crowd: Crowd) -> None:
        self._connection = connection
        self._account = account
        self._crowd = crowd
        self._now = now
        self._told: dict[object, Progress] = {}

    def view(self, state: CollectionState, fresh: int = 0) -> View:
        """A collection in these surroundings; `fresh`: how many of its cities need no call."""
        if state.finished_at is not None:
            return View(state, ended(state))
        # Nothing else of a collection enters: what was told of one holds for those that are alike.
        left = state.total - state.settled
        alike = (state.cities_hash, left, state.settled, fresh, state.requested_at, state.last_progress_at)
        if alike not in self._told:
            around, open_now = self._read
            others = self._crowd.sharers(open_now, state, left - fresh)
            self._told[alike] = progress(state, replace(around, others=others, fresh=fresh))
        return View(state, self._told[alike])

    @cached_property
    def _read(self) -> tuple[Surroundings, Sequence[OpenWork]]:
        now, name = self._now, self._account.name
        asked = [attending(now, name), charges_of(name, now, now, MOST_CHARGES)]
        open_now = self._crowd.at(now)
        whole, charged, *opened = send(self._connection, asked if open_now is not None else [*asked, OPEN_WORK])
        if open_now is None:
            open_now = self._crowd.keep(now, open_in(opened[0]))
        gate, consumer_alive = attended(whole)
        read = charges_in(charged)
        all_read = len(read) < MOST_CHARGES
        around = Surroundings(
            now=now,
            terms=self._account.terms,
            gate=gate,
            consumer_alive=consumer_alive,
            others=(),
            held=sum(charge.cost for charge in read) if all_read else held(self._connection, name, now),
            charges=read,
            endpoint=self._account.endpoint,
        )
        return around, open_now


def fresh_cities(
    connection: Connection, now: datetime, taken: Sequence[tuple[CollectionState, CollectionRequest]]
) -> list[int]:
    """How many unsettled cities of each of these need no call; 0 for what is done or large."""
    counted = [
        (state, request)
        for state, request in taken
        if state.finished_at is None and len(request.city_ids) <= MOST_COUNTED
    ]
    new = [(_since(state), request) for state, request in counted if not state.settled]
    known: dict[int, datetime] = {}
    if new:
        wanted = sorted({city_id for _, request in new for city_id in request.city_ids})
        known = cities.fetched_since(connection, now, wanted, min(since for since, _ in new))

    def fresh(state: CollectionState, request: CollectionRequest) -> int:
        since = _since(state)
        if state.settled:
            return cities.count_fresh(connection, now, state.id, request.city_ids, since)
        return sum(city_id in known and known[city_id] >= since for city_id in request.city_ids) if known else 0

    asked = {id(request) for _, request in counted}
    return [fresh(state, request) if id(request) in asked else 0 for state, request in taken]


def _since(state: CollectionState) -> datetime:
    """Observations from then on are good enough."""
    return state.requested_at - timedelta(seconds=state.max_age_s)
