"""Collections: accepting them whole, and reading how far they are. It knows nothing of the hand-off or the provider."""

import hashlib
import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from raingauge.contracts import BATCH_SIZE, split
from raingauge.errors import Overtaken, Permanent
from raingauge.storage.database import is_duplicate
from raingauge.storage.message import Answer, Statement, send
from raingauge.storage.models import Batch, Collection
from raingauge.storage.packed import packed
from raingauge.storage.rows import store

DEFAULT_CITIES = "default"
"""The hash of a request that left its cities out."""
PIECE: Final = 5_000
"""Cities of a large collection that are worked on in one go."""
TOGETHER: Final = 16
"""Collections, or such pieces, whose batches are inserted with one statement."""


class OtherRequest(Permanent):
    """A collection of this id stands already, for another request."""


def _digest(city_ids: Sequence[int]) -> str:
    """Of the sorted ids as a JSON list. Piece by piece: other threads stand still while one sorts a long list."""
    pieces = range(0, len(city_ids), PIECE)
    ordered = [city_id for start in pieces for city_id in sorted(city_ids[start : start + PIECE])]
    ordered.sort()  # quick: it finds the pieces in their order
    digest = hashlib.sha256(b"[")
    for start in pieces:
        digest.update((", " if start else "").encode() + ", ".join(map(str, ordered[start : start + PIECE])).encode())
    digest.update(b"]")
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class CollectionRequest:
    """What a client asks for. `city_ids` are distinct; `named` tells whether the client named them.

    `any_age`: the client said nothing of ages, so a collection that stands is the same whatever its `max_age_s`.
    """

    id: str
    city_ids: Sequence[int]
    max_age_s: int
    named: bool
    any_age: bool = False

    @property
    def cities_hash(self) -> str:
        """The same for the same set of cities, and for every request that left them out."""
        if not self.named:
            return DEFAULT_CITIES
        return _digest(self.city_ids)


@dataclass(frozen=True, slots=True)
class CollectionState:
    """A collection as it stands."""

    id: str
    requested_at: datetime
    max_age_s: int
    cities_hash: str
    total: int
    collected: int
    failed: int
    last_progress_at: datetime | None
    finished_at: datetime | None
    cancelled_at: datetime | None

    @property
    def settled(self) -> int:
        """Cities collected or failed."""
        return self.collected + self.failed


@dataclass(frozen=True, slots=True)
class OpenWork:
    """What a collection that is not finished still needs."""

    id: str
    cities_hash: str
    left: int
    """Unsettled cities."""
    settled: int
    requested_at: datetime
    last_progress_at: datetime | None


# Built once: these run for every request.
_FOUND: Final = select(packed(*map(Collection.__table__.c.get, CollectionState.__dataclass_fields__))).where(
    Collection.id.in_(bindparam("ids", expanding=True))
)
_NEW: Final = insert(Collection)
_NEW_COLUMNS: Final = ("id", "requested_at", "max_age_s", "cities_hash", "total", "collected", "failed")
_new_row: Final = operator.attrgetter(*_NEW_COLUMNS)
_NEW_BATCH: Final = insert(Batch)
_BATCH_COLUMNS: Final = ("collection_id", "batch", "city_ids", "size", "settled", "attempts")
_SAME_BATCHES: Final = insert(Batch).from_select(
    ["collection_id", "batch", "city_ids", "size"],
    select(Collection.id, Batch.batch, Batch.city_ids, Batch.size)
    .join(Batch, Batch.collection_id == bindparam("first"))
    .where(Collection.id.in_(bindparam("others", expanding=True))),
)
"""Many ask for the same cities, most of them for the default ones: their batches are written once and copied."""
_REMAINING: Final = Collection.total - Collection.collected - Collection.failed
_OPEN_WORK: Final = packed(
    *(Collection.id, Collection.cities_hash, _REMAINING, Collection.collected + Collection.failed),
    *(Collection.requested_at, Collection.last_progress_at),
)
OPEN_WORK: Final[Statement] = select(_OPEN_WORK).where(Collection.finished_at.is_(None)), {}
"""The statement that asks what every open collection still needs, and what tells whether two want the same cities."""


def finding(ids: Sequence[str]) -> Statement:
    """The statement that asks for these collections. One row for each, whatever its size."""
    return _FOUND, {"ids": list(ids)}


def found(answer: Answer) -> dict[str, CollectionState]:
    """Those of the collections that there are, as they stand, by the answer to that statement."""
    return {row[0]: CollectionState(*row) for [row] in answer.rows}


def find(connection: Connection, collection_id: str) -> CollectionState | None:
    """The collection as it stands, or None."""
    [answer] = send(connection, [finding([collection_id])])
    return found(answer).get(collection_id)


def foresee(connection: Connection, now: datetime, request: CollectionRequest) -> CollectionState:
    """The collection that `accept_all` would answer, without storing anything.

    Raises:
        OtherRequest: its id stands for another request already.
    """
    state = find(connection, request.id)
    return _new_state(now, request) if state is None else _of_request(state, request)


def _new_state(now: datetime, request: CollectionRequest) -> CollectionState:
    """As it stands when it has just been accepted."""
    hashed, total = request.cities_hash, len(request.city_ids)
    return CollectionState(request.id, now, request.max_age_s, hashed, total, 0, 0, None, None, None)


def cancel(connection: Connection, now: datetime, collection_id: str) -> CollectionState | None:
    """End a collection before it is settled; answer it as it stands then, None: there is none.

    What is done or cancelled already stays as it is. From then on nothing of it is published or settled.
    """
    is_open = (Collection.id == collection_id, Collection.finished_at.is_(None))
    connection.execute(update(Collection).where(*is_open).values(cancelled_at=now, finished_at=now))
    return find(connection, collection_id)


def _of_request(state: CollectionState, request: CollectionRequest) -> CollectionState:
    same_age = request.any_age or state.max_age_s == request.max_age_s
    if not same_age or state.cities_hash != request.cities_hash:
        raise OtherRequest(f"a collection {request.id} exists already, with other cities or another max_age_s")
    return state


def accept_all(
    connection: Connection,
    now: datetime,
    requests: Sequence[CollectionRequest],
    standing: Mapping[str, CollectionState],
) -> list[tuple[CollectionState, bool] | OtherRequest]:
    """Store collections and their batches; answer each as it stands, and whether it is new, in their order.

    `standing`: those of them that there are. An OtherRequest is answered where an id stands for another request.

    Raises:
        Overtaken: another producer stored one of them at the same time.
    """
    new: dict[str, CollectionRequest] = {}
    for request in sorted(requests, key=lambda r: r.id):  # in one order everywhere: opposite ones would deadlock
        if request.id not in standing:
            new.setdefault(request.id, request)
    known = {**standing, **_insert(connection, now, [*new.values()])}
    return [
        (known[request.id], True) if new.get(request.id) is request else _compared(known[request.id], request)
        for request in requests
    ]


def _compared(state: CollectionState, request: CollectionRequest) -> tuple[CollectionState, bool] | OtherRequest:
    try:
        return _of_request(state, request), False
    except OtherRequest as error:
        return error


def _insert(connection: Connection, now: datetime, requests: Sequence[CollectionRequest]) -> dict[str, CollectionState]:
    """Store new collections and their batches; answer them as they stand."""
    states = {request.id: _new_state(now, request) for request in requests}
    if not states:
        return states
    try:
        store(connection, _NEW, _NEW_COLUMNS, [_new_row(state) for state in states.values()])
    except IntegrityError as error:
        if is_duplicate(error):
            raise Overtaken from error
        raise
    alike: dict[tuple[int, ...], list[str]] = {}
    for request in requests:
        alike.setdefault(tuple(request.city_ids), []).append(request.id)
    firsts = ((ids[0], city_ids, start) for city_ids, ids in alike.items() for start in range(0, len(city_ids), PIECE))
    while some := list(islice(firsts, TOGETHER)):
        store(connection, _NEW_BATCH, _BATCH_COLUMNS, [row for piece in some for row in _batches(*piece)])
    for first, *others in alike.values():
        if others:
            connection.execute(_SAME_BATCHES, {"first": first, "others": others})
    return states


def _batches(collection_id: str, city_ids: Sequence[int], start: int) -> list[tuple[Any, ...]]:
    return [
        (collection_id, number, json.dumps(some), len(some), 0, 0)
        for number, some in enumerate(split(city_ids[start : start + PIECE]), start // BATCH_SIZE)
    ]


def open_in(answer: Answer) -> list[OpenWork]:
    """What the open collections still need, by the answer to that statement."""
    return [OpenWork(*row) for [row] in answer.rows]
