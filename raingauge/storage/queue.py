"""The queue: the wanted cities of batches that are being worked on, and whose turn it is.

Reservations of one account are ordered by its gate's lock; settling changes rows without it. It decides nothing about
quota.
"""

from collections.abc import Collection as Many
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, delete, func, select, union_all, update
from sqlalchemy.exc import IntegrityError

from raingauge.database.causes import is_duplicate
from raingauge.errors import Overtaken
from raingauge.quota.fairness import needs_no_call, retry_turn, share_with_newcomers
from raingauge.storage.models import City, Collection, QueuedCity


@dataclass(frozen=True, slots=True)
class Candidate:
    """A city whose turn it is."""

    city_id: int
    turn: int
    attempts: int
    needs_no_call: bool
    """What is known of it settles it."""
    claim: tuple[int, datetime] | None
    """The charge whose call is fetching it now, and when that claim expires."""


def _lowest_turns() -> Select[Any]:
    """The rows with the lowest turns, `limit` of newcomers and as many others; what is known of their cities."""
    order = ("turn", "collection_id", "city_id")
    columns = (*order, "newcomer", "since", "attempts")
    parts = [
        select(*(getattr(QueuedCity, name) for name in columns))
        .where(QueuedCity.account == bindparam("owner"), QueuedCity.newcomer == newcomer)
        .order_by(*(getattr(QueuedCity, name) for name in order))
        .limit(bindparam("limit"))
        .subquery()
        for newcomer in (True, False)
    ]
    lowest = union_all(*(select(part) for part in parts)).subquery("lowest")
    found = select(lowest, City.fetched_at, City.unknown_at).outerjoin(City, City.id == lowest.c.city_id)
    return found.order_by(*(lowest.c[name] for name in order))


DELETED: Final = ":deleted"
"""In place of the id of a collection that was deleted while calls were fetching cities of it."""
_LOWEST_TURNS: Final = _lowest_turns()
_CLAIMS: Final = select(QueuedCity.city_id, QueuedCity.charge_id, QueuedCity.ready_at).where(
    QueuedCity.city_id.in_(bindparam("cities", expanding=True)),
    QueuedCity.charge_id >= 0,
    QueuedCity.ready_at > bindparam("now"),
)
_OF_ACCOUNT: Final = QueuedCity.account == bindparam("owner")
_DUE: Final = (_OF_ACCOUNT, QueuedCity.ready_at <= bindparam("now"))
_DUE_COLLECTIONS: Final = (
    select(QueuedCity.collection_id, Collection.last_turn, Collection.finished_at)
    .outerjoin(Collection, Collection.id == QueuedCity.collection_id)
    .where(*_DUE)
    .distinct()
)
_DUE_OF_ONE: Final = (*_DUE, QueuedCity.collection_id == bindparam("collection"))
_REMOVE_DUE: Final = delete(QueuedCity).where(*_DUE_OF_ONE)
_GIVE_TURNS: Final = (
    update(QueuedCity)
    .where(*_DUE_OF_ONE)
    .values(turn=bindparam("next_turn"), newcomer=False, ready_at=None, charge_id=None)
)
_NEXT_READY: Final = select(func.min(QueuedCity.ready_at)).where(_OF_ACCOUNT)
_CLAIM: Final = (
    update(QueuedCity)
    .where(QueuedCity.city_id.in_(bindparam("cities", expanding=True)), QueuedCity.turn >= 0)
    .values(turn=None, newcomer=None, charge_id=bindparam("charge"), ready_at=bindparam("until"))
)


def give_turns(connection: Connection, now: datetime, account: str, gate_turn: int) -> None:
    """Give due claimed and resting cities a turn again. Under the gate's lock.

    Those of a cancelled or deleted collection, which were claimed when it was cancelled, leave the queue.
    """
    due = {"owner": account, "now": now}
    for row in connection.execute(_DUE_COLLECTIONS, due).all():
        if row.finished_at is not None or row.collection_id == DELETED:
            connection.execute(_REMOVE_DUE, {**due, "collection": row.collection_id})
            continue
        turn = retry_turn(gate_turn, row.last_turn)
        connection.execute(_GIVE_TURNS, {**due, "collection": row.collection_id, "next_turn": turn})


def next_ready(connection: Connection, account: str) -> datetime | None:
    """When the next claimed or resting city gets a turn again; None: there is none."""
    return connection.scalar(_NEXT_READY, {"owner": account})


def remove_unclaimed(connection: Connection, ids: Sequence[str]) -> None:
    """Take the cities of cancelled collections out of the queue.

    Those that a call is fetching stay until it ends: others who want them wait for that call.
    """
    connection.execute(delete(QueuedCity).where(QueuedCity.collection_id.in_(ids), QueuedCity.charge_id.is_(None)))


def keep_claims(connection: Connection, collection_id: str) -> None:
    """Let a collection's claims outlive it, under another id, so that its cities are not fetched twice at once.

    Raises:
        Overtaken: another transaction did the same for one of the cities.
    """
    claimed = (QueuedCity.collection_id == collection_id, QueuedCity.charge_id >= 0)
    city_ids = connection.scalars(select(QueuedCity.city_id).where(*claimed)).all()
    if not city_ids:
        return
    # A city has one living claim: a row that is there already is of the same call, or of one that has ended.
    there = (QueuedCity.collection_id == DELETED, QueuedCity.city_id.in_(sorted(city_ids)))
    connection.execute(delete(QueuedCity).where(*there))
    try:
        connection.execute(update(QueuedCity).where(*claimed).values(collection_id=DELETED))
    except IntegrityError as error:
        if is_duplicate(error):
            raise Overtaken from error
        raise


def clip_moments(connection: Connection, account: str, now: datetime, until: datetime) -> None:
    """The database's clock stepped back: shorten claims and rests, and require no weather from the future."""
    mine = QueuedCity.account == account
    connection.execute(update(QueuedCity).where(mine, QueuedCity.ready_at > until).values(ready_at=until))
    connection.execute(update(QueuedCity).where(mine, QueuedCity.since > now).values(since=now))


def pick(connection: Connection, now: datetime, account: str, want: int, spent: int = 1) -> list[Candidate]:
    """Up to `want` cities whose turn it is and that need a call, the first few of small collections in front.

    `spent`: cities that the account has spent; it decides who gets the odd place.

    Beside them come those with a lower turn that need no call, or that a call is fetching now.
    """
    limit = want + want // 4
    while True:
        rows = connection.execute(_LOWEST_TURNS, {"owner": account, "limit": limit}).all()
        # Apart: in the same statement MariaDB would read all rows of each city, for each of them.
        claims = _claims(connection, now, {row.city_id for row in rows})
        newcomers = _candidates([row for row in rows if row.newcomer], claims)
        others = _candidates([row for row in rows if not row.newcomer], claims)
        is_all = max(sum(row.newcomer for row in rows), sum(not row.newcomer for row in rows)) < limit
        callable_ones = sum(map(needs_call, newcomers.values())) + sum(map(needs_call, others.values()))
        if is_all or callable_ones >= want:
            break
        limit *= 8  # several collections want the same cities: their rows come one behind the other
    new, old = (sum(map(needs_call, ones.values())) for ones in (newcomers, others))
    few = share_with_newcomers(want, new, old, spent)
    chosen = _first(newcomers.values(), few)
    taken = {candidate.city_id for candidate in chosen}
    return chosen + _first((one for one in others.values() if one.city_id not in taken), want - few)


def needs_call(candidate: Candidate) -> bool:
    """Whether it is to be requested."""
    return not candidate.needs_no_call and candidate.claim is None


def _first(candidates: Iterable[Candidate], number: int) -> list[Candidate]:
    """All up to the `number`-th that needs a call."""
    chosen: list[Candidate] = []
    for candidate in candidates:
        if number <= 0 and needs_call(candidate):
            break
        chosen.append(candidate)
        number -= needs_call(candidate)
    return chosen


def _claims(connection: Connection, now: datetime, city_ids: Many[int]) -> dict[int, tuple[int, datetime]]:
    """The cities among these that a call is fetching now: its charge, and when the claim expires."""
    if not city_ids:
        return {}
    claimed = connection.execute(_CLAIMS, {"cities": sorted(city_ids), "now": now})
    return {row.city_id: (row.charge_id, row.ready_at) for row in claimed}


def _candidates(rows: Sequence[Any], claims: Mapping[int, tuple[int, datetime]]) -> dict[int, Candidate]:
    """One of each city, in the order of their turns."""
    found: dict[int, Candidate] = {}
    for row in rows:
        if row.city_id not in found:
            settled = needs_no_call(row.fetched_at, row.unknown_at, row.since, row.since)
            found[row.city_id] = Candidate(row.city_id, row.turn, row.attempts, settled, claims.get(row.city_id))
    return found


def claim(connection: Connection, city_ids: Many[int], charge_id: int, until: datetime) -> None:
    """Have ready rows of these cities, of any account, wait for a charge until then. Under this account's gate lock."""
    connection.execute(_CLAIM, {"cities": sorted(city_ids), "charge": charge_id, "until": until})


def queued_collections(connection: Connection, ids: Many[str]) -> set[str]:
    """Those of these collections that have cities in the queue."""
    found = select(QueuedCity.collection_id).where(QueuedCity.collection_id.in_(ids)).distinct()
    return set(connection.scalars(found)) if ids else set()
