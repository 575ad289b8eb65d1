"""Collections: accepting them whole, and reading how far they are. It knows nothing of the hand-off or the provider."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from raingauge.contracts import split
from raingauge.errors import Permanent
from raingauge.storage.models import Batch, Collection

DEFAULT_CITIES = "default"
"""The hash of a request that left its cities out."""


class OtherRequest(Permanent):
    """A collection of this id stands already, for another request."""


@dataclass(frozen=True, slots=True)
class CollectionRequest:
    """What a client asks for. `city_ids` are distinct; `named` tells whether the client named them."""

    id: str
    city_ids: Sequence[int]
    max_age_s: int
    named: bool

    @property
    def cities_hash(self) -> str:
        """The same for the same set of cities, and for every request that left them out."""
        if not self.named:
            return DEFAULT_CITIES
        return hashlib.sha256(json.dumps(sorted(self.city_ids)).encode()).hexdigest()


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


_STATE = tuple(getattr(Collection, name) for name in CollectionState.__dataclass_fields__)


def find(connection: Connection, collection_id: str) -> CollectionState | None:
    """The collection as it stands, or None. One row, whatever its size."""
    row = connection.execute(select(*_STATE).where(Collection.id == collection_id)).one_or_none()
    return None if row is None else CollectionState(*row)


def accept(connection: Connection, now: datetime, request: CollectionRequest) -> tuple[CollectionState, bool]:
    """Store a collection and its batches; answer it and whether it is new.

    Raises:
        OtherRequest: its id stands for another request already.
    """
    try:
        with connection.begin_nested():
            _insert(connection, now, request)
        created = True
    except IntegrityError:
        created = False
    state = find(connection, request.id)
    if state is None:  # pragma: no cover
        raise AssertionError("a collection that exists was not found")
    if (state.cities_hash, state.max_age_s) != (request.cities_hash, request.max_age_s):
        raise OtherRequest(f"a collection {request.id} exists already, with other cities or another max_age_s")
    return state, created


def _insert(connection: Connection, now: datetime, request: CollectionRequest) -> None:
    connection.execute(
        insert(Collection).values(
            id=request.id,
            requested_at=now,
            max_age_s=request.max_age_s,
            cities_hash=request.cities_hash,
            total=len(request.city_ids),
        )
    )
    rows = [
        {"collection_id": request.id, "batch": number, "city_ids": json.dumps(city_ids), "size": len(city_ids)}
        for number, city_ids in enumerate(split(request.city_ids))
    ]
    connection.execute(insert(Batch), rows)


def open_remainders(connection: Connection) -> list[tuple[str, int]]:
    """Id and number of unsettled cities of every collection that is not finished."""
    remaining = Collection.total - Collection.collected - Collection.failed
    rows = connection.execute(select(Collection.id, remaining).where(Collection.finished_at.is_(None)))
    return [(row[0], row[1]) for row in rows]
