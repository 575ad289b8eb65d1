"""What a reservation finds once it has the gate's lock: the time, and all that its decisions rest on, in one statement.

It decides nothing and writes nothing.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import BindParameter, CompoundSelect, Connection, Select, bindparam, func, literal_column, null, select
from sqlalchemy import union_all as together

from consumer.account import Account
from raingauge.storage.database import moment_beside, moment_of
from raingauge.storage.gate import ACCOUNT, Gate, held_after
from raingauge.storage.message import send
from raingauge.storage.models import City, Collection, QuotaCharge, QuotaGate, QuotaTicket, UtcDateTime
from raingauge.storage.readings import Want

_TIME, _CITY, _TICKET, _COLLECTION, _CHARGE = range(5)
"""What a row of the statement tells of."""


NEVER: Final = datetime(9999, 1, 1, tzinfo=UTC)
"""Nothing was fetched as late as this."""
BOUND_S: Final = 2.0
"""How much more is read of what lies around now than counts."""
NOBODY: Final = ""
"""No consumer has this name."""


class _Row(NamedTuple):
    """What is meant by its columns depends on its kind."""

    kind: int
    number: Any
    name: Any
    first: Any
    second: Any
    third: Any
    more: Any
    most: Any


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

    gate: Gate
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


def look(connection: Connection, account: Account, candidates: Sequence[Candidate], *, patience: timedelta) -> Look:
    """Lock the gate; look at all that concerns these candidates of a consumer.

    `patience`: a ticket counts for so long after its consumer was to come again, a second at most.

    Raises:
        GateMismatch: there is no gate.
    """
    database, consumer = account.database, account.consumer
    given = {
        "account": account.name,
        "cities": [candidate.city_id for candidate in candidates],
        "since": min((candidate.since for candidate in candidates), default=NEVER),
        "consumer": consumer,
        "collections": list({candidate.collection_id for candidate in candidates} - {None}),
    }
    statement = _statement(database.dialect, database.told, account.terms.window_s)
    looking = (statement, {**given, **database.moment(connection)})
    locked, found = send(connection, [account.locking, looking])
    gate = account.gate(locked)
    rows: dict[int, list[_Row]] = {_TIME: [], _CITY: [], _TICKET: [], _COLLECTION: [], _CHARGE: []}
    for row in map(_Row._make, found.rows):
        rows[row.kind].append(row)
    [time] = rows[_TIME]
    return Look(
        gate=gate,
        read_at=time.first,
        now=max(time.first, gate.last_now),
        held=int(time.number),
        cities={int(row.number): _known(row, consumer) for row in rows[_CITY]},
        tickets=[_ticket(row) for row in rows[_TICKET] if row.second >= gate.last_now - patience],
        collections=_opened(rows[_COLLECTION]),
        under_way=[UnderWay(row.first, json.loads(row.more)) for row in rows[_CHARGE] if row.more is not None],
    )


def open_ones(connection: Connection, collection_ids: Sequence[str]) -> Mapping[str, Open]:
    """Those of these collections that are open: for whom other consumers wait."""
    if not collection_ids:
        return {}
    [found] = send(connection, [(_OPEN, {"collections": list(collection_ids)})])
    return _opened(map(_Row._make, found.rows))


def known_cities(connection: Connection, candidates: Sequence[Candidate]) -> Mapping[int, Known]:
    """What a look tells of cities, of these that other consumers lend; claimed is what anybody has claimed."""
    if not candidates:
        return {}
    given = {
        "cities": [candidate.city_id for candidate in candidates],
        "since": min(candidate.since for candidate in candidates),
        "consumer": NOBODY,
    }
    [found] = send(connection, [(_KNOWN, given)])
    return {int(row.number): _known(row, NOBODY) for row in map(_Row._make, found.rows)}


def _ticket(row: _Row) -> Ticket:
    return Ticket(row.name, tuple(json.loads(row.more)), row.first, row.second, row.most)


def _known(row: _Row, consumer: str) -> Known:
    return Known(row.first, None if row.name == consumer else row.second, row.third)


def _opened(rows: Iterable[_Row]) -> Mapping[str, Open]:
    return {row.name: Open(row.first, row.second, int(row.number)) for row in rows}


_CITIES: Final[BindParameter[Any]] = bindparam("cities", expanding=True, literal_execute=True)
_COLLECTIONS: Final[BindParameter[Any]] = bindparam("collections", expanding=True)
_CONSUMER: Final[BindParameter[Any]] = bindparam("consumer")


def _row(kind: int, *columns: Any) -> Select[Any]:
    labelled = (column.label(name) for column, name in zip(columns, _Row._fields[1:], strict=True))
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
def _statement(dialect: str, told: bool, window_s: float) -> CompoundSelect[Any]:
    """One row with the time and what is held then; one for each city, ticket, collection, open charge. Built once."""
    now: Any = moment_of(dialect, told=told)
    if dialect == "postgresql":
        # Its clock goes on while a statement runs. What is released after this moment is held at this moment.
        now = select(now.label("now")).subquery("moment").c.now
    later = func.max if dialect == "sqlite" else func.greatest
    planned = select(later(QuotaGate.last_now, QuotaGate.next_start_at)).where(QuotaGate.account == ACCOUNT)
    held = held_after(later(now, planned.scalar_subquery())).scalar_subquery()
    return together(
        _row(_TIME, held, null(), now, now, now, null(), null()),
        _KNOWN,
        _row(
            *(_TICKET, literal_column("0"), QuotaTicket.id, QuotaTicket.taken_at, QuotaTicket.due_at),
            *(QuotaTicket.due_at, QuotaTicket.collection_ids, QuotaTicket.offers),
        ).where(
            QuotaTicket.account == bindparam("account"),
            QuotaTicket.due_at >= moment_beside(dialect, now, -BOUND_S),
        ),
        _OPEN,
        _row(
            *(_CHARGE, QuotaCharge.cost, QuotaCharge.consumer, QuotaCharge.reserved_at, QuotaCharge.release_at),
            *(QuotaCharge.closed_at, QuotaCharge.asked, null()),
        ).where(
            QuotaCharge.account == bindparam("account"),
            # What is held for longer than a window from now on is not closed: so its index leads to few rows.
            QuotaCharge.release_at > moment_beside(dialect, now, window_s - BOUND_S),
            QuotaCharge.closed_at.is_(None),
        ),
    )
