"""What a reservation finds under the gate's lock: the time, and all that its decisions rest on, in one statement.

To be called under the gate's lock. It decides nothing and writes nothing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import BindParameter, CompoundSelect, Connection, Select, bindparam, func, literal_column, null, select
from sqlalchemy import union_all as together

from raingauge.storage.database import Database, moment_as, moment_of
from raingauge.storage.gate import Gate, held_after
from raingauge.storage.models import City, Collection, QuotaCharge, QuotaTicket, UtcDateTime
from raingauge.storage.readings import Want

_TIME, _CITY, _TICKET, _COLLECTION, _CHARGE = range(5)
"""What a row of the statement tells of."""


NOBODY: Final = ""
"""No consumer has this name."""


class Candidate(NamedTuple):
    """A city to ask for; an observation fetched at or after `since` would do."""

    city_id: int
    since: datetime
    collection_id: str | None = None
    """Whose turn it is; None: nobody's in particular."""
    wants: tuple[Want, ...] = ()
    """Some who want it, the one whose turn it is first; none: no other consumer may ask for it."""


@dataclass(frozen=True, slots=True)
class Known:
    """A candidate that was fetched, perhaps late enough, or found unknown, or is claimed by another consumer."""

    fetched_at: datetime | None
    claimed_until: datetime | None
    """None: by nobody else."""
    unknown_at: datetime | None = None
    """When the provider last said that it does not know it."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A consumer that waits."""

    consumer: str
    collection_ids: tuple[str, ...]
    """Those that it asked for."""
    taken_at: datetime
    due_at: datetime
    """When it comes again."""
    offers: str | None
    """As `consumer.lending` writes it."""


@dataclass(frozen=True, slots=True)
class Open:
    """A collection that is neither done nor cancelled."""

    requested_at: datetime
    last_progress_at: datetime | None
    settled: int
    """Cities."""


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A charge that is not closed."""

    reserved_at: datetime
    asked: Mapping[str, int]
    """How many cities of which collections."""


@dataclass(frozen=True, slots=True)
class Look:
    """What there is."""

    read_at: datetime
    """The database's clock, read after the lock was taken."""
    now: datetime
    """The same, but never earlier than what a reservation before this one saw."""
    held: int
    """Cities held when the next call may start: now, or as the pace has planned it."""
    cities: Mapping[int, Known]
    tickets: Sequence[Ticket]
    """Of consumers that come again, or were to come not long ago."""
    collections: Mapping[str, Open]
    """Those of the candidates that are open."""
    under_way: Sequence[UnderWay]
    """Charges that are not closed, all consumers'; perhaps without some whose consumers were given up long ago."""


def look(
    connection: Connection,
    database: Database,
    gate: Gate,
    consumer: str,
    candidates: Sequence[Candidate],
    patience: timedelta,
) -> Look:
    """Look at all that concerns these candidates of a consumer.

    `patience`: a ticket counts for so long after its consumer was to come again.
    """
    given = {
        "account": gate.account,
        "after": max(gate.last_now, gate.next_start_at),
        "cities": [candidate.city_id for candidate in candidates],
        "since": min((candidate.since for candidate in candidates), default=gate.last_now),
        "consumer": consumer,
        "due_after": gate.last_now - patience,
        # What is held for longer than a window from now on is not closed: so its index leads to few rows.
        "held_after": gate.last_now + timedelta(seconds=gate.window_s),
        "collections": list({candidate.collection_id for candidate in candidates} - {None}),
    }
    statement = _statement(database.dialect, database.told)
    rows: dict[int, list[Any]] = {_TIME: [], _CITY: [], _TICKET: [], _COLLECTION: [], _CHARGE: []}
    for row in connection.execute(statement, {**given, **database.moment(connection)}):
        rows[row.kind].append(row)
    [time] = rows[_TIME]
    return Look(
        read_at=time.first,
        now=max(time.first, gate.last_now),
        held=int(time.number),
        cities={int(row.number): _known(row, consumer) for row in rows[_CITY]},
        tickets=[_ticket(row) for row in rows[_TICKET]],
        collections=_opened(rows[_COLLECTION]),
        under_way=[UnderWay(row.first, json.loads(row.more)) for row in rows[_CHARGE] if row.more is not None],
    )


def open_ones(connection: Connection, collection_ids: Sequence[str]) -> Mapping[str, Open]:
    """Those of these collections that are open: for whom other consumers wait."""
    return _opened(connection.execute(_OPEN, {"collections": collection_ids}).all()) if collection_ids else {}


def known_cities(connection: Connection, candidates: Sequence[Candidate]) -> Mapping[int, Known]:
    """What a look tells of cities, of these that other consumers lend; claimed is what anybody has claimed."""
    if not candidates:
        return {}
    given = {
        "cities": [candidate.city_id for candidate in candidates],
        "since": min(candidate.since for candidate in candidates),
        "consumer": NOBODY,
    }
    return {int(row.number): _known(row, NOBODY) for row in connection.execute(_KNOWN, given)}


def _ticket(row: Any) -> Ticket:
    return Ticket(row.name, tuple(json.loads(row.more)), row.first, row.second, row.most)


def _known(row: Any, consumer: str) -> Known:
    return Known(row.first, None if row.name == consumer else row.second, row.third)


def _opened(rows: Sequence[Any]) -> Mapping[str, Open]:
    return {row.name: Open(row.first, row.second, int(row.number)) for row in rows}


_CITIES: Final[BindParameter[Any]] = bindparam("cities", expanding=True, literal_execute=True)
_COLLECTIONS: Final[BindParameter[Any]] = bindparam("collections", expanding=True)
_CONSUMER: Final[BindParameter[Any]] = bindparam("consumer")


def _row(kind: int, *columns: Any) -> Select[Any]:
    names = ("number", "name", "first", "second", "third", "more", "most")
    labelled = (column.label(name) for column, name in zip(columns, names, strict=True))
    return select(literal_column(str(kind)).label("kind"), *labelled)


_OPEN: Final = _row(
    *(_COLLECTION, Collection.collected + Collection.failed, Collection.id),
    *(Collection.requested_at, Collection.last_progress_at, Collection.finished_at, null(), null()),
).where(Collection.id.in_(_COLLECTIONS), Collection.finished_at.is_(None))
_KNOWN: Final = _row(
    *(_CITY, City.id, City.claimed_by),
    *(City.fetched_at, City.claimed_until, City.unknown_at, null(), null()),
).where(
    City.id.in_(_CITIES),
    (City.fetched_at >= bindparam("since", type_=UtcDateTime))
    | City.unknown_at.is_not(None)
    | (City.claimed_by != _CONSUMER),
)


@cache
def _statement(dialect: str, told: bool) -> CompoundSelect[Any]:
    """One row with the time and what is held then; one for each city, ticket, collection, open charge. Built once."""
    now: Any = moment_of(dialect, told=told)
    if dialect == "postgresql":
        # Its clock goes on while a statement runs. What is released after this moment is held at this moment.
        now = select(now.label("now")).subquery("moment").c.now
    later = func.max if dialect == "sqlite" else func.greatest
    held = held_after(later(now, moment_as(dialect, "after"))).scalar_subquery()
    return together(
        _row(_TIME, held, null(), now, now, now, null(), null()),
        _KNOWN,
        _row(
            *(_TICKET, literal_column("0"), QuotaTicket.id, QuotaTicket.taken_at, QuotaTicket.due_at),
            *(QuotaTicket.due_at, QuotaTicket.collection_ids, QuotaTicket.offers),
        ).where(
            QuotaTicket.account == bindparam("account"),
            QuotaTicket.due_at >= bindparam("due_after", type_=UtcDateTime),
        ),
        _OPEN,
        _row(
            *(_CHARGE, QuotaCharge.cost, QuotaCharge.consumer, QuotaCharge.reserved_at, QuotaCharge.release_at),
            *(QuotaCharge.closed_at, QuotaCharge.asked, null()),
        ).where(
            QuotaCharge.account == bindparam("account"),
            QuotaCharge.release_at > bindparam("held_after", type_=UtcDateTime),
            QuotaCharge.closed_at.is_(None),
        ),
    )
