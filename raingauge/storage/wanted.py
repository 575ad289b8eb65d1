"""What batches still want: what is left of them, and which of their cities need no call. It only reads."""

import json
from collections.abc import Collection as Many
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import BindParameter, Connection, Executable, bindparam, select

from raingauge.storage.batches import BatchRef
from raingauge.storage.message import Statement, ask
from raingauge.storage.models import Batch, City, Collection, Reading, UtcDateTime
from raingauge.storage.packed import packed

UNKNOWN_FOR: Final = timedelta(days=1)
"""How long an id that the provider does not know is taken for unknown without asking again."""

UNKNOWN_CITY: Final = "unknown city"

# Built once: these run for every call of the provider.
_COLLECTIONS: Final[BindParameter[Any]] = bindparam("collections", expanding=True)
_CITIES: Final[BindParameter[Any]] = bindparam("cities", expanding=True)
_BATCHES: Final = (
    select(
        packed(
            *(Batch.collection_id, Batch.batch, Batch.city_ids, Batch.settled),
            *(Collection.requested_at, Collection.max_age_s),
            Batch.settled_at.is_not(None) | Collection.finished_at.is_not(None),
        )
    )
    .join(Collection, Collection.id == Batch.collection_id)
    .where(Batch.collection_id.in_(_COLLECTIONS), Batch.batch.in_(bindparam("numbers", expanding=True)))
)
_SETTLED: Final = select(Reading.collection_id, Reading.city_id).where(
    Reading.collection_id.in_(_COLLECTIONS), Reading.city_id.in_(_CITIES)
)
_FRESH: Final = select(City.id, City.fetched_at, City.unknown_at).where(
    City.id.in_(_CITIES),
    (City.fetched_at >= bindparam("since", type_=UtcDateTime))
    | (City.unknown_at >= bindparam("unknown_since", type_=UtcDateTime)),
)
_FRESH_LOCKED: Final = _FRESH.with_for_update()

Outcome = str | None
"""Of a city that is settled: None, it is collected, and its weather is what `cities` has; or why it failed."""


class _Row(NamedTuple):
    """A batch as `_BATCHES` has it."""

    collection_id: str
    batch: int
    city_ids: str
    settled: int
    requested_at: datetime
    max_age_s: int
    is_over: bool
    """It is settled, or its collection finished."""


class Want(NamedTuple):
    """One city of one batch, not settled yet. An observation fetched at or after `since` is good enough for it."""

    ref: BatchRef
    city_id: int
    since: datetime


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """What is left of a batch. An observation fetched at or after `since` is good enough for it."""

    ref: BatchRef
    since: datetime
    city_ids: tuple[int, ...]
    """Cities without a reading; none when the batch is settled, or its collection finished or cancelled."""

    @property
    def wants(self) -> list[Want]:
        """The same, city by city."""
        return [Want(self.ref, city_id, self.since) for city_id in self.city_ids]


def open_batches(connection: Connection, refs: Many[BatchRef]) -> dict[BatchRef, OpenBatch]:
    """What is left of each batch; a batch that the database does not know is not in the answer."""
    if not refs:
        return {}
    # Not by pairs: for them SQLite uses no index. So there may be more than was asked for.
    given = {"collections": list({ref.collection_id for ref in refs}), "numbers": list({ref.batch for ref in refs})}
    found = (_Row(*row) for [row] in ask(connection, _BATCHES, given))
    asked_for = set(refs)
    rows = [row for row in found if BatchRef(row.collection_id, row.batch) in asked_for]
    begun = [row for row in rows if row.settled > 0 and not row.is_over]
    settled = _settled_cities(
        connection, [(row.collection_id, city) for row in begun for city in json.loads(row.city_ids)]
    )
    return {BatchRef(row.collection_id, row.batch): _left(row, settled) for row in rows}


def _left(row: _Row, settled: set[tuple[str, int]]) -> OpenBatch:
    cities = () if row.is_over else json.loads(row.city_ids)
    if row.settled > 0:
        cities = [city for city in cities if (row.collection_id, city) not in settled]
    since = row.requested_at - timedelta(seconds=row.max_age_s)
    return OpenBatch(BatchRef(row.collection_id, row.batch), since, tuple(cities))


def _settled_cities(connection: Connection, cities: Sequence[tuple[str, int]]) -> set[tuple[str, int]]:
    """Which of these (collection id, city id) have a reading."""
    if not cities:
        return set()
    return {(row[0], row[1]) for row in ask(connection, *settled_among(cities))}


def settled_among(cities: Sequence[tuple[str, int]]) -> Statement:
    """The statement that tells which of these, and perhaps some others, have a reading."""
    names, ids = {collection for collection, _ in cities}, {city for _, city in cities}
    return _SETTLED, {"collections": list(names), "cities": list(ids)}


def fresh(connection: Connection, now: datetime, wants: Many[Want], *, lock: bool = False) -> dict[Want, Outcome]:
    """The wanted cities that need no call: observed late enough for their batch, or known to be unknown.

    `lock`: and stay so until the transaction ends, so that what settling copies is what was found here.
    """
    if not wants:
        return {}
    since = min(want.since for want in wants)
    seen = _seen(connection, now, {want.city_id for want in wants}, since, _FRESH_LOCKED if lock else _FRESH)
    return _fresh(seen, wants, now)


def fresh_in(connection: Connection, now: datetime, batches: Many[OpenBatch]) -> list[Want]:
    """The same of what is left of batches."""
    cities = {city_id for batch in batches for city_id in batch.city_ids}
    if not cities or not (seen := _seen(connection, now, cities, min(batch.since for batch in batches), _FRESH)):
        return []
    return [*_fresh(seen, [want for batch in batches for want in batch.wants], now)]


def _seen(
    connection: Connection, now: datetime, cities: Many[int], since: datetime, statement: Executable
) -> Mapping[int, tuple[datetime | None, datetime | None]]:
    """Those of these cities that were fetched since then or found unknown not long ago: when each was."""
    given = {"cities": sorted(cities), "since": since, "unknown_since": now - UNKNOWN_FOR}
    return {row[0]: (row[1], row[2]) for row in ask(connection, statement, given)}


def _fresh(
    seen: Mapping[int, tuple[datetime | None, datetime | None]], wants: Many[Want], now: datetime
) -> dict[Want, Outcome]:
    settled: dict[Want, Outcome] = {}
    for want in wants:
        fetched_at, unknown_at = seen.get(want.city_id, (None, None))
        if fetched_at is not None and fetched_at >= want.since:
            settled[want] = None
        elif unknown_at is not None and unknown_at >= now - UNKNOWN_FOR:
            settled[want] = UNKNOWN_CITY
    return settled
