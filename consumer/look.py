"""What a reservation finds once it has the gate's lock: the time, and all that its decisions rest on, in one statement.

It decides nothing and writes nothing.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import chain
from typing import Any, Final, NamedTuple

from sqlalchemy import BindParameter, CompoundSelect, Connection, Select, bindparam, func, literal_column, select
from sqlalchemy import union_all as together

from consumer.account import Account
from raingauge.pacing import Terms
from raingauge.storage.database import moment_beside, moment_of
from raingauge.storage.gate import ACCOUNT, Gate, held_after
from raingauge.storage.message import Answer, send
from raingauge.storage.models import City, Collection, QuotaCharge, QuotaGate, QuotaTicket, UtcDateTime
from raingauge.storage.packed import json_list, maybe_time, time_of
from raingauge.storage.wanted import Want

_TIME, _CITY, _TICKET, _COLLECTION, _CHARGE = range(5)
"""What a row of the statement tells of."""


NEVER: Final = datetime(9999, 1, 1, tzinfo=UTC)
"""Nothing was fetched as late as this."""
BOUND_S: Final = 2.0
"""How much more is read of what lies around now than counts."""


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
    """A candidate that was fetched, perhaps late enough, or found unknown."""

    fetched_at: datetime | None
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
    """A charge whose calls may be under way: it is not closed, and not so old that its consumer must be dead."""

    consumer: str
    asked: Mapping[str, int]
    """How many cities of which collections."""
    cities: Sequence[int]
    """Which they are; none when they are not waited for any more."""


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
    """All consumers'."""
    claimed: frozenset[int]
    """Cities that other consumers are fetching."""
    claimed_here: frozenset[int]
    """Cities that this one is fetching."""


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
        "collections": list({candidate.collection_id for candidate in candidates} - {None}),
    }
    statement = _statement(database.dialect, database.told, account.terms.window_s)
    looking = (statement, {**given, **database.moment(connection)})
    locked, found = send(connection, [account.locking, looking])
    gate = account.gate(locked)
    kinds = _by_kind(found)
    [(held, read_at)] = kinds[_TIME]
    now = time_of(read_at)
    tickets = [_ticket(*row) for row in kinds[_TICKET]]
    under_way = _under_way(kinds[_CHARGE], max(now, gate.last_now), account.terms)
    return Look(
        gate=gate,
        read_at=now,
        now=max(now, gate.last_now),
        held=int(held),
        cities=_known(kinds[_CITY]),
        tickets=[ticket for ticket in tickets if ticket.due_at >= gate.last_now - patience],
        collections=_opened(kinds[_COLLECTION]),
        under_way=under_way,
        claimed=_claimed(call for call in under_way if call.consumer != consumer),
        claimed_here=_claimed(call for call in under_way if call.consumer == consumer),
    )


def open_ones(connection: Connection, collection_ids: Sequence[str]) -> Mapping[str, Open]:
    """Those of these collections that are open: for whom other consumers wait."""
    if not collection_ids:
        return {}
    [found] = send(connection, [(_OPEN, {"collections": list(collection_ids)})])
    return _opened(_by_kind(found)[_COLLECTION])


def known_cities(connection: Connection, candidates: Sequence[Candidate]) -> Mapping[int, Known]:
    """What a look tells of cities, of these that other consumers lend."""
    if not candidates:
        return {}
    since = min(candidate.since for candidate in candidates)
    given = {"cities": [candidate.city_id for candidate in candidates], "since": since}
    [found] = send(connection, [(_KNOWN, given)])
    return _known(_by_kind(found)[_CITY])


def _by_kind(answer: Answer) -> Mapping[int, Sequence[Any]]:
    """The rows of an answer, by what they tell of."""
    kinds: dict[int, list[Any]] = {_TIME: [], _CITY: [], _TICKET: [], _COLLECTION: [], _CHARGE: []}
    for kind, *row in json.loads(f"[{','.join(row for [row] in answer.rows)}]"):
        kinds[kind].append(row)
    return kinds


def _known(rows: Iterable[Any]) -> Mapping[int, Known]:
    return {city_id: Known(maybe_time(fetched), maybe_time(unknown)) for city_id, fetched, unknown in rows}


def _ticket(consumer: str, taken_at: str, due_at: str, collection_ids: str, offers: str | None) -> Ticket:
    return Ticket(consumer, tuple(json.loads(collection_ids)), time_of(taken_at), time_of(due_at), offers)


def _under_way(rows: Iterable[Any], now: datetime, terms: Terms) -> list[UnderWay]:
    """Of open charges. Their two ends are the same moment, unless the clock or the terms were changed."""
    claim, window = timedelta(seconds=terms.claim_s), timedelta(seconds=terms.window_s)
    return [
        UnderWay(consumer, json.loads(asked or "{}"), json.loads(cities or "[]"))
        for reserved_at, release_at, consumer, asked, cities in rows
        if now < min(time_of(reserved_at) + claim, time_of(release_at) - window)
    ]


def _claimed(calls: Iterable[UnderWay]) -> frozenset[int]:
    return frozenset(chain.from_iterable(call.cities for call in calls))


def _opened(rows: Iterable[Any]) -> Mapping[str, Open]:
    return {name: Open(time_of(asked), maybe_time(progress), settled) for name, asked, progress, settled in rows}


_CITIES: Final[BindParameter[Any]] = bindparam("cities", expanding=True, literal_execute=True)
_COLLECTIONS: Final[BindParameter[Any]] = bindparam("collections", expanding=True)


def _row(kind: int, *columns: Any) -> Select[Any]:
    return select(json_list(literal_column(str(kind)), *columns).label("row"))


_OPEN: Final = _row(
    _COLLECTION,
    *(Collection.id, Collection.requested_at, Collection.last_progress_at, Collection.collected + Collection.failed),
).where(Collection.id.in_(_COLLECTIONS), Collection.finished_at.is_(None))
_KNOWN: Final = _row(_CITY, City.id, City.fetched_at, City.unknown_at).where(
    City.id.in_(_CITIES), (City.fetched_at >= bindparam("since", type_=UtcDateTime)) | City.unknown_at.is_not(None)
)


@cache
def _statement(dialect: str, told: bool, window_s: float) -> CompoundSelect[Any]:
    """One row with the time and what is held then; one for each city, ticket, collection, open charge. Built once."""
    # What is released after this moment is held at this moment.
    now = moment_of(dialect, told=told)
    later = func.max if dialect == "sqlite" else func.greatest
    planned = select(later(QuotaGate.last_now, QuotaGate.next_start_at)).where(QuotaGate.account == ACCOUNT)
    held = held_after(later(now, planned.scalar_subquery())).scalar_subquery()
    return together(
        _row(_TIME, held, now),
        _KNOWN,
        _row(
            *(_TICKET, QuotaTicket.id, QuotaTicket.taken_at, QuotaTicket.due_at),
            *(QuotaTicket.collection_ids, QuotaTicket.offers),
        ).where(
            QuotaTicket.account == bindparam("account"),
            QuotaTicket.due_at >= moment_beside(dialect, now, -BOUND_S),
        ),
        _OPEN,
        _row(
            *(_CHARGE, QuotaCharge.reserved_at, QuotaCharge.release_at),
            *(QuotaCharge.consumer, QuotaCharge.asked, QuotaCharge.cities),
        ).where(
            QuotaCharge.account == bindparam("account"),
            # Whoever is still to answer is held for longer than a window from now on: the index leads to few rows.
            QuotaCharge.release_at > moment_beside(dialect, now, window_s),
            QuotaCharge.closed_at.is_(None),
        ),
    )
