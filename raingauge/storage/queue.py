"""The queue: the wanted cities of batches that are being worked on, and whose turn it is.

A wanted city of a delivered batch is in `queue` or in `readings`, never in both: whoever moves it holds the lock of its
collection. Whoever reserves holds the gate's lock and changes rows of the queue alone. It decides nothing about quota.
"""

import json
from collections import Counter
from collections.abc import Collection as Many
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Select, and_, bindparam, func, insert, or_, select, union_all, update

from raingauge.model import BatchKey
from raingauge.quota.fairness import (
    UNKNOWN_CITY,
    is_fresh,
    newcomers_in,
    retry_turn,
    share_with_newcomers,
    turns,
    unknown_since,
)
from raingauge.storage.models import Batch, City, Collection, QueuedCity, Reading
from raingauge.storage.settling import Settled, Wanted, batches_are, lock_collections, store

ROWS_PER_STATEMENT: Final = 1000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A city whose turn it is."""

    city_id: int
    turn: int
    newcomer: bool
    attempts: int
    needs_no_call: bool
    """Its latest observation will do: another call fetched it meanwhile."""
    claim: tuple[int, datetime] | None
    """The charge whose call is fetching it now, and when that claim expires."""


# -- enqueueing --------------------------------------------------------------------------------------------------------


def enqueue(
    connection: Connection,
    now: datetime,
    account: str,
    gate_turn: int,
    keys: Many[BatchKey],
    failing: str | None = None,
) -> Settled:
    """Put the unsettled cities of batches into the queue; settle those that need no call. Doing it twice does no harm.

    `failing`: fail them all for that reason instead.
    """
    result = Settled()
    collections = lock_collections(connection, {key.collection_id for key in keys})
    batches = _batches(connection, keys)
    result.unknown = set(keys) - batches.keys()
    work = {}
    for key, batch in batches.items():
        if batch.settled_at is not None or collections[key.collection_id].finished_at is not None:
            result.batches.add(key)
        else:
            work[key] = json.loads(batch.city_ids)
    known = _already_known(connection, work)
    rows = _new_rows(work, known, collections, account, gate_turn)
    if not rows:
        return result
    outcomes = _fresh(connection, rows, collections)
    if failing is not None:
        outcomes = dict.fromkeys((_wanted(row) for row in rows), failing)
    _insert_rows(connection, rows)
    _set_last_turns(connection, rows)
    store(connection, now, collections, outcomes, result)
    return result


def _batches(connection: Connection, keys: Many[BatchKey]) -> dict[BatchKey, Any]:
    found = select(Batch.collection_id, Batch.batch, Batch.city_ids, Batch.settled_at).where(batches_are(keys))
    rows = ((BatchKey(row.collection_id, row.batch), row) for row in connection.execute(found))
    return {key: row for key, row in rows if key in set(keys)}


def _already_known(connection: Connection, work: Mapping[BatchKey, Sequence[int]]) -> set[tuple[str, int]]:
    """Those of these cities that are in the queue, or have a reading."""
    if not work:
        return set()
    names = sorted({key.collection_id for key in work})
    cities = sorted({city_id for city_ids in work.values() for city_id in city_ids})
    both = [
        select(table.collection_id, table.city_id).where(table.collection_id.in_(names), table.city_id.in_(cities))
        for table in (QueuedCity, Reading)
    ]
    return {(row.collection_id, row.city_id) for row in connection.execute(union_all(*both))}


def _new_rows(
    work: Mapping[BatchKey, Sequence[int]],
    known: set[tuple[str, int]],
    collections: Mapping[str, Any],
    account: str,
    gate_turn: int,
) -> list[dict[str, Any]]:
    """The rows to insert, each with its turn, in the order of collections and batches."""
    rows: list[dict[str, Any]] = []
    last_turn = {name: row.last_turn for name, row in collections.items()}
    for key in sorted(work):
        name, first_few = key.collection_id, newcomers_in(key.batch, len(work[key]))
        new = [(city_id, place < first_few) for place, city_id in enumerate(work[key]) if (name, city_id) not in known]
        newcomers = sum(newcomer for _, newcomer in new)
        places, last_turn[name] = turns(gate_turn, last_turn[name], newcomers, len(new) - newcomers)
        collection = collections[name]
        since = collection.requested_at - timedelta(seconds=collection.max_age_s)
        rows += [
            {
                "collection_id": name,
                "city_id": city_id,
                "batch": key.batch,
                "account": account,
                "since": since,
                "newcomer": place.newcomer,
                "turn": place.number,
                "attempts": 0,
            }
            for (city_id, _), place in zip(new, places, strict=True)
        ]
    return rows


def _insert_rows(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    ordered = sorted(rows, key=lambda row: (row["collection_id"], row["city_id"]))
    for start in range(0, len(ordered), ROWS_PER_STATEMENT):
        connection.execute(insert(QueuedCity), ordered[start : start + ROWS_PER_STATEMENT])


def _set_last_turns(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    last: Counter[str] = Counter()
    for row in rows:
        if not row["newcomer"]:
            last[row["collection_id"]] = max(last[row["collection_id"]], row["turn"])
    for name, turn in sorted(last.items()):
        connection.execute(update(Collection).where(Collection.id == name).values(last_turn=turn))


def _wanted(row: Mapping[str, Any]) -> Wanted:
    return Wanted(*(row[name] for name in Wanted._fields))


def _fresh(
    connection: Connection, rows: Sequence[Mapping[str, Any]], collections: Mapping[str, Any]
) -> dict[Wanted, str | None]:
    """Those of the rows that need no call, and what settles them."""
    oldest = {name: unknown_since(row.requested_at, row.max_age_s) for name, row in collections.items()}
    recent = or_(City.fetched_at >= min(row["since"] for row in rows), City.unknown_at >= min(oldest.values()))
    cities = sorted({row["city_id"] for row in rows})
    found = select(City.id, City.fetched_at, City.unknown_at).where(City.id.in_(cities), recent)
    known = {row.id: row for row in connection.execute(found)}
    outcomes: dict[Wanted, str | None] = {}
    for row in rows:
        if (city := known.get(row["city_id"])) is None:
            continue
        wanted = _wanted(row)
        if is_fresh(city.fetched_at, wanted.since):
            outcomes[wanted] = None
        elif is_fresh(city.unknown_at, oldest[wanted.collection_id]):
            outcomes[wanted] = UNKNOWN_CITY
    return outcomes


# -- whose turn it is --------------------------------------------------------------------------------------------------


def _lowest_turns() -> Select[Any]:
    """The rows with the lowest turns, `limit` of newcomers and as many others; what is known of their cities."""
    parts = [
        select(QueuedCity.city_id, QueuedCity.turn, QueuedCity.newcomer, QueuedCity.since, QueuedCity.attempts)
        .where(QueuedCity.account == bindparam("owner"), QueuedCity.newcomer == newcomer, QueuedCity.turn >= 0)
        .order_by(QueuedCity.turn, QueuedCity.collection_id, QueuedCity.city_id)
        .limit(bindparam("limit"))
        .subquery()
        for newcomer in (True, False)
    ]
    lowest = union_all(*(select(part) for part in parts)).subquery("lowest")
    claimed = QueuedCity.__table__.alias("claimed")
    return (
        select(lowest, City.fetched_at, City.unknown_at, claimed.c.charge_id, claimed.c.ready_at)
        .outerjoin(City, City.id == lowest.c.city_id)
        .outerjoin(claimed, and_(claimed.c.city_id == lowest.c.city_id, claimed.c.charge_id.is_not(None)))
        .order_by(lowest.c.turn)
    )


_LOWEST_TURNS: Final = _lowest_turns()
_OF_ACCOUNT: Final = QueuedCity.account == bindparam("owner")
_DUE: Final = (_OF_ACCOUNT, QueuedCity.ready_at <= bindparam("now"))
_DUE_COLLECTIONS: Final = (
    select(QueuedCity.collection_id, Collection.last_turn)
    .join(Collection, Collection.id == QueuedCity.collection_id)
    .where(*_DUE)
    .distinct()
)
_GIVE_TURNS: Final = (
    update(QueuedCity)
    .where(*_DUE, QueuedCity.collection_id == bindparam("collection"))
    .values(turn=bindparam("next_turn"), newcomer=False, ready_at=None, charge_id=None)
)
_NEXT_READY: Final = select(func.min(QueuedCity.ready_at)).where(_OF_ACCOUNT)
_ANY_READY: Final = select(QueuedCity.city_id).where(_OF_ACCOUNT, QueuedCity.turn >= 0).limit(1)
_CLAIM: Final = (
    update(QueuedCity)
    .where(QueuedCity.city_id.in_(bindparam("cities", expanding=True)), QueuedCity.turn >= 0)
    .values(turn=None, charge_id=bindparam("charge"), ready_at=bindparam("until"))
)


def give_turns(connection: Connection, now: datetime, account: str, gate_turn: int) -> None:
    """Give claimed and resting cities a turn again whose moment has come. Under the gate's lock."""
    due = {"owner": account, "now": now}
    for row in connection.execute(_DUE_COLLECTIONS, due).all():
        turn = retry_turn(gate_turn, row.last_turn)
        connection.execute(_GIVE_TURNS, {**due, "collection": row.collection_id, "next_turn": turn})


def next_ready(connection: Connection, account: str) -> datetime | None:
    """When the next claimed or resting city gets a turn again; None: there is none."""
    return connection.scalar(_NEXT_READY, {"owner": account})


def clip_moments(connection: Connection, account: str, now: datetime, until: datetime) -> None:
    """The database's clock stepped back: shorten claims and rests, and want no weather of the future."""
    mine = QueuedCity.account == account
    connection.execute(update(QueuedCity).where(mine, QueuedCity.ready_at > until).values(ready_at=until))
    connection.execute(update(QueuedCity).where(mine, QueuedCity.since > now).values(since=now))


def pick(connection: Connection, now: datetime, account: str, want: int) -> list[Candidate]:
    """Up to `want` cities whose turn it is and that need a call, the first few of new collections in front.

    Beside them come those with a lower turn that need no call, or that a call is fetching now.
    """
    limit = want + want // 4
    while True:
        rows = connection.execute(_LOWEST_TURNS, {"owner": account, "limit": limit}).all()
        newcomers = _candidates(now, [row for row in rows if row.newcomer])
        others = _candidates(now, [row for row in rows if not row.newcomer])
        is_all = max(sum(row.newcomer for row in rows), sum(not row.newcomer for row in rows)) < limit
        callable_ones = sum(map(needs_call, newcomers.values())) + sum(map(needs_call, others.values()))
        if is_all or callable_ones >= want:
            break
        limit *= 8  # several collections want the same cities: their rows come one behind the other
    few = share_with_newcomers(want, sum(map(needs_call, newcomers.values())), sum(map(needs_call, others.values())))
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


def _candidates(now: datetime, rows: Sequence[Any]) -> dict[int, Candidate]:
    """One of each city, in the order of their turns."""
    found: dict[int, Candidate] = {}
    for row in rows:
        claim = (row.charge_id, row.ready_at) if row.charge_id is not None and row.ready_at > now else None
        settled_by = max(filter(None, (row.fetched_at, row.unknown_at)), default=None)
        one = Candidate(row.city_id, row.turn, row.newcomer, row.attempts, is_fresh(settled_by, row.since), claim)
        other = found.get(row.city_id)
        if other is None or (other.claim is None and claim is not None):
            found[row.city_id] = one
    return found


def claim(connection: Connection, city_ids: Many[int], charge_id: int, until: datetime) -> None:
    """Have the ready rows of these cities wait for the calls of a charge, at most until then. Under the gate's lock."""
    connection.execute(_CLAIM, {"cities": sorted(city_ids), "charge": charge_id, "until": until})


# -- batches -----------------------------------------------------------------------------------------------------------


def settled_batches(connection: Connection, keys: Many[BatchKey]) -> set[BatchKey]:
    """Those of these batches that need no further work."""
    if not keys:
        return set()
    over = or_(Batch.settled_at.is_not(None), Collection.finished_at.is_not(None))
    found = select(Batch.collection_id, Batch.batch).join(Collection, Collection.id == Batch.collection_id)
    rows = connection.execute(found.where(batches_are(keys), over))
    return {BatchKey(row.collection_id, row.batch) for row in rows} & set(keys)


def count_attempt(connection: Connection, key: BatchKey) -> int:
    """Record that a batch met an unexpected error; how often it did (0: there is no such batch)."""
    this = (Batch.collection_id == key.collection_id, Batch.batch == key.batch)
    connection.execute(update(Batch).where(*this).values(attempts=Batch.attempts + 1))
    return connection.scalar(select(Batch.attempts).where(*this)) or 0
