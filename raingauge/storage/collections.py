"""Collections: accepting them whole, finding, listing and cancelling them. It knows neither Kafka nor the provider."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, bindparam, case, func, insert, or_, select, true, union_all, update
from sqlalchemy.exc import IntegrityError

from raingauge.contracts import split
from raingauge.database.causes import is_duplicate
from raingauge.errors import Overtaken, Permanent
from raingauge.model import CollectionRequest, CollectionState, OpenCollection, batches_of
from raingauge.storage import events, queue
from raingauge.storage.counters import lock_collections
from raingauge.storage.events import NewEvent
from raingauge.storage.models import REMOVING_ALL, Batch, Collection

DEFAULT_CITIES: Final = "default"
"""The hash of a request that names no cities."""
SORTED_AT_ONCE: Final = 5_000
"""Cities: sorting holds Python's lock, and other threads need it, too."""
ENDED_WITHIN: Final = timedelta(hours=1)
"""What counts as ended lately."""
NO_STANDING: Final = -1
ROWS_AT_ONCE: Final = 2_000
"""Batches in one INSERT."""


class OtherRequest(Permanent):
    """A collection with this id exists, for another request."""


class BeingDeleted(OtherRequest):
    """The collection with this id is deleted, and rows of it are still being removed."""


_COLUMNS: Final = tuple(CollectionState.__dataclass_fields__)
_STATE: Final = select(*(getattr(Collection, name) for name in _COLUMNS)).where(
    Collection.id.in_(bindparam("ids", expanding=True))
)
_LEFT: Final = (Collection.total - Collection.collected - Collection.failed).label("left")
_OPEN: Final = select(
    *(Collection.id, Collection.cities_hash, _LEFT, Collection.collected + Collection.failed),
    *(Collection.last_turn, Collection.enqueued),
).where(Collection.finished_at.is_(None))
_COPY_BATCHES: Final = insert(Batch).from_select(
    ["collection_id", "batch", "city_ids", "size", "settled", "publish_order", "attempts"],
    select(Collection.id, Batch.batch, Batch.city_ids, Batch.size, Batch.settled, Batch.publish_order, Batch.attempts)
    .join(Batch, Batch.collection_id == bindparam("first"))
    .where(Collection.id.in_(bindparam("others", expanding=True))),
    include_defaults=False,
)


def cities_hash(request: CollectionRequest) -> str:
    """The same for the same set of cities, and for every request that names none.

    SHA-256 of the sorted ids as a JSON list.
    """
    if not request.named:
        return DEFAULT_CITIES
    starts = range(0, len(request.city_ids), SORTED_AT_ONCE)
    ordered = [city_id for start in starts for city_id in sorted(request.city_ids[start : start + SORTED_AT_ONCE])]
    ordered.sort()  # quick, because it consists of sorted runs
    return hashlib.sha256(json.dumps(ordered).encode()).hexdigest()


def find_all(connection: Connection, ids: Sequence[str], *, deleted: bool = False) -> dict[str, CollectionState]:
    """Those of these collections that exist, by id. One row for each, whatever its size.

    `deleted`: those, too, that are deleted and of which rows are still being removed.
    """
    found = (CollectionState(*row) for row in connection.execute(_STATE, {"ids": list(ids)}))
    return {state.id: state for state in found if deleted or state.removing != REMOVING_ALL}


def find(connection: Connection, collection_id: str) -> CollectionState | None:
    """The collection, or None."""
    return find_all(connection, [collection_id]).get(collection_id)


def newest(
    connection: Connection, standings: Sequence[int], after: CollectionState | None, limit: int
) -> list[CollectionState]:
    """Up to `limit` collections of these standings, the newest first, of those older than `after`.

    Those of the same moment are in the order of their ids, backwards. Of each standing at most `limit` rows are read,
    by an index.
    """
    table = Collection.__table__.c
    older: list[ColumnElement[bool]] = [true()]
    if after is not None:
        # The first condition bounds what is read of the index, the second only leaves out those of the same moment.
        older = [
            table.requested_at <= after.requested_at,
            or_(table.requested_at < after.requested_at, table.id < after.id),
        ]
    selected = (
        select(*(table[name] for name in _COLUMNS))
        .where(_stands(connection, standing), *older, table.removing.is_distinct_from(REMOVING_ALL))
        .order_by(table.standing.desc(), table.requested_at.desc(), table.id.desc())
        .limit(limit)
        .subquery()
        for standing in standings
    )
    found = union_all(*(select(rows) for rows in selected)).subquery()
    ordered = select(found).order_by(found.c.requested_at.desc(), found.c.id.desc()).limit(limit)
    return [CollectionState(*row) for row in connection.execute(ordered)]


def finished_since(connection: Connection, since: datetime, limit: int) -> list[CollectionState]:
    """Up to `limit` collections that were settled or cancelled after this moment, the last first; by an index."""
    table = Collection.__table__.c
    found = (
        select(*(table[name] for name in _COLUMNS))
        .where(table.finished_at > since, table.removing.is_distinct_from(REMOVING_ALL))
        .order_by(table.finished_at.desc())
        .limit(limit)
    )
    return [CollectionState(*row) for row in connection.execute(found)]


def _stands(connection: Connection, standing: int) -> ColumnElement[bool]:
    """The condition on the index's first column.

    With one value MariaDB sometimes reads all of that standing instead of those older than a moment; with two, of which
    one never occurs, it reads the range.
    """
    column = Collection.__table__.c.standing
    return (
        column.in_((standing, NO_STANDING)) if connection.dialect.name in {"mysql", "mariadb"} else column == standing
    )


def open_collections(connection: Connection) -> list[OpenCollection]:
    """Every collection that is neither settled nor cancelled."""
    return [OpenCollection(*row) for row in connection.execute(_OPEN)]


def cities_of(connection: Connection, collection_id: str, begin: int, batches: int) -> tuple[list[int], int | None]:
    """The cities of up to `batches` batches from number `begin` on; and where to go on, or None if these are all."""
    of_these = select(Batch.city_ids).where(Batch.collection_id == collection_id, Batch.batch >= begin)
    found = connection.scalars(of_these.order_by(Batch.batch).limit(batches + 1)).all()
    city_ids = [city_id for text in found[:batches] for city_id in json.loads(text)]
    return city_ids, begin + batches if len(found) > batches else None


def count_states(connection: Connection, now: datetime, most: int) -> dict[str, int]:
    """Open collections, queued (nothing is settled) and collecting; and the done and cancelled ones of the last hour.

    Reads at most `most` open and `most` ended ones, by the index of open collections.
    """
    progress = case((Collection.collected + Collection.failed > 0, "collecting"), else_="queued").label("state")
    end = case((Collection.cancelled_at.is_(None), "done"), else_="cancelled").label("state")
    still_open = select(progress).where(Collection.finished_at.is_(None))
    ended = select(end).where(Collection.finished_at > now - ENDED_WITHIN)
    counts: dict[str, int] = {}
    for rows in (still_open.limit(most).subquery(), ended.limit(most).subquery()):
        found = connection.execute(select(rows.c.state, func.count()).group_by(rows.c.state))
        counts |= {row[0]: row[1] for row in found}
    return counts


def foresee(connection: Connection, now: datetime, request: CollectionRequest) -> tuple[CollectionState, bool]:
    """What `accept_all` would return for this request: the collection and whether it is new; nothing is stored.

    Raises:
        OtherRequest: its id belongs to another request.
    """
    state = find_all(connection, [request.id], deleted=True).get(request.id)
    return (_new_state(now, request), True) if state is None else (_matching(state, request), False)


def cancel_all(connection: Connection, now: datetime, ids: Sequence[str]) -> dict[str, CollectionState]:
    """End those of these collections that are open; return the states afterwards of those that exist, by id.

    It waits for whoever is settling cities of them. From then on no city is settled; what is under way is finished.
    """
    rows = lock_collections(connection, ids)  # in the order in which consumers lock them
    is_open = (Collection.id.in_(ids), Collection.finished_at.is_(None))
    connection.execute(update(Collection).where(*is_open).values(cancelled_at=now, finished_at=now))
    queue.remove_unclaimed(connection, ids)
    if cancelled := [_cancelled(row) for row in rows.values() if row.finished_at is None]:
        events.record(connection, now, cancelled)
    return find_all(connection, ids)


def _cancelled(row: Any) -> NewEvent:
    settled = row.collected + row.failed
    return NewEvent(
        "collection.cancelled", row.id, f"collection {row.id} is cancelled: {settled} of {row.total} settled"
    )


def accept_all(
    connection: Connection,
    now: datetime,
    requests: Sequence[CollectionRequest],
    existing: Mapping[str, CollectionState],
    outstanding: int,
) -> list[tuple[CollectionState, bool] | OtherRequest]:
    """Store collections and their batches. For each request: the collection and whether it is new, or OtherRequest.

    `existing`: those of them that `find_all` has found, deleted ones too. `outstanding`: how many batches of each the
    relay may publish at once; each that is settled releases the next.

    Raises:
        Overtaken: another producer stored one of them at the same time.
    """
    new: dict[str, CollectionRequest] = {}
    for request in sorted(requests, key=lambda request: request.id):  # opposite orders would deadlock
        if request.id not in existing:
            new.setdefault(request.id, request)
    known = {**existing, **_insert(connection, now, [*new.values()], outstanding)}
    return [
        (known[request.id], True) if new.get(request.id) is request else _compared(known[request.id], request)
        for request in requests
    ]


def _compared(state: CollectionState, request: CollectionRequest) -> tuple[CollectionState, bool] | OtherRequest:
    try:
        return _matching(state, request), False
    except OtherRequest as error:
        return error


def _matching(state: CollectionState, request: CollectionRequest) -> CollectionState:
    if state.removing == REMOVING_ALL:
        what = f"the collection {request.id} is being deleted: its id is free when all of it is removed; try again then"
        raise BeingDeleted(what)
    same_age = request.any_age or state.max_age_s == request.max_age_s
    if not same_age or state.cities_hash != cities_hash(request):
        raise OtherRequest(f"a collection {request.id} exists already, with other cities or another max_age_s")
    return state


def _new_state(now: datetime, request: CollectionRequest) -> CollectionState:
    return CollectionState(
        id=request.id,
        requested_at=now,
        max_age_s=request.max_age_s,
        cities_hash=cities_hash(request),
        total=len(request.city_ids),
        collected=0,
        failed=0,
        last_turn=0,
        last_progress_at=None,
        finished_at=None,
        cancelled_at=None,
        requested_by=request.requested_by,
    )


def _insert(
    connection: Connection, now: datetime, requests: Sequence[CollectionRequest], outstanding: int
) -> dict[str, CollectionState]:
    """Store new collections and their batches; return their states by id."""
    states = {request.id: _new_state(now, request) for request in requests}
    if not states:
        return states
    try:
        connection.execute(
            insert(Collection),
            [
                {name: getattr(states[request.id], name) for name in _COLUMNS}
                | {
                    "idle_since": now,
                    "released": min(outstanding, batches_of(len(request.city_ids))),
                    "traceparent": request.traceparent,
                    "requested_by": request.requested_by,
                }
                for request in requests
            ],
        )
    except IntegrityError as error:
        if is_duplicate(error):
            raise Overtaken from error
        raise
    # Many want the same cities, most of them the default ones: their batches are sent once and copied.
    alike: dict[tuple[int, ...], list[str]] = {}
    for request in requests:
        alike.setdefault(tuple(request.city_ids), []).append(request.id)
    rows = _batches(((ids[0], city_ids) for city_ids, ids in alike.items()), outstanding)
    while some := list(islice(rows, ROWS_AT_ONCE)):
        connection.execute(insert(Batch), some)
    for first, *others in alike.values():
        if others:
            connection.execute(_COPY_BATCHES, {"first": first, "others": others})
    return states


def _batches(collections: Iterable[tuple[str, Sequence[int]]], outstanding: int) -> Iterator[dict[str, Any]]:
    """The rows of their batches."""
    for collection_id, city_ids in collections:
        for number, some in enumerate(split(city_ids)):
            yield {
                "collection_id": collection_id,
                "batch": number,
                "city_ids": json.dumps(some),
                "size": len(some),
                "settled": 0,
                "publish_order": number if number < outstanding else None,
                "attempts": 0,
            }
