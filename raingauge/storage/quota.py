"""The quota's rows: the gate, the charges and the consumers' heartbeats. Deciding about them is the ledger's work."""

import functools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, delete, func, insert, select, update

from raingauge.contracts import utc_text
from raingauge.database.identity import Identity
from raingauge.database.upsert import upsert
from raingauge.model import Charge, Gate, LedgerEntry, TermsSince, month_of
from raingauge.quota.pacing import Terms
from raingauge.storage import events
from raingauge.storage.events import NewEvent
from raingauge.storage.models import ConsumerBeat, QuotaCharge, QuotaGate, QuotaTerms

BEAT_S: Final = 5.0
ALIVE_FOR: Final = timedelta(seconds=20)
FORGOTTEN_AFTER: Final = timedelta(days=1)
KEPT_FOR: Final = timedelta(days=1)
"""How long charges are kept after their release at least."""
PRUNED_AT_ONCE: Final = 1_000
"""Charges that are deleted in one transaction."""
TERMS_KEPT: Final = ("cities_per_window", "window_s", "cities_per_month")
CLOCK_GRAIN: Final = timedelta(milliseconds=1)
"""SQLite's clock cuts off what is less."""
LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)

_GATE: Final = select(*(getattr(QuotaGate, name) for name in Gate.__dataclass_fields__))
_CHARGE: Final = select(*(getattr(QuotaCharge, name) for name in Charge.__dataclass_fields__))
_FIND_GATE: Final = _GATE.where(QuotaGate.account == bindparam("account"))
_CHANGE_GATE: Final = update(QuotaGate).where(QuotaGate.account == bindparam("gate"))
_ENDS_LATER: Final = (QuotaCharge.account == bindparam("account"), QuotaCharge.ends_at > bindparam("after"))
_HELD: Final = select(func.coalesce(func.sum(QuotaCharge.cost), 0)).where(*_ENDS_LATER)
_COUNT_OPEN: Final = select(func.count() - func.count(QuotaCharge.closed_at)).where(*_ENDS_LATER)
_CHARGED: Final = select(func.coalesce(func.sum(QuotaCharge.cost), 0)).where(
    QuotaCharge.account == bindparam("account"), QuotaCharge.reserved_at > bindparam("after")
)
_CHARGES: Final = (
    _CHARGE.where(*_ENDS_LATER, QuotaCharge.reserved_at <= bindparam("until"))
    .order_by(QuotaCharge.ends_at)
    .limit(bindparam("limit"))
)
_RESERVED: Final = (
    _CHARGE.where(QuotaCharge.account == bindparam("account"))
    .where(QuotaCharge.reserved_at > bindparam("after"), QuotaCharge.reserved_at <= bindparam("until"))
    .order_by(QuotaCharge.reserved_at)
)
_ENDED: Final = (
    select(QuotaCharge.id)
    .where(QuotaCharge.account == bindparam("account"), QuotaCharge.ends_at < bindparam("before"))
    .order_by(QuotaCharge.ends_at)
    .limit(bindparam("limit"))
)
_TERMS: Final = select(*(getattr(QuotaTerms, name) for name in TERMS_KEPT)).where(
    QuotaTerms.account == bindparam("account")
)
_LAST_TERMS: Final = _TERMS.order_by(QuotaTerms.since.desc()).limit(1)
_NOTED_TERMS: Final = _TERMS.with_only_columns(QuotaTerms.since, *_TERMS.selected_columns).order_by(QuotaTerms.since)
_ENTRIES: Final = _RESERVED.with_only_columns(
    QuotaCharge.id, QuotaCharge.calls, QuotaCharge.outcome, *_RESERVED.selected_columns
).order_by(QuotaCharge.id)
_NEXT_ENDS: Final = (
    select(QuotaCharge.ends_at, QuotaCharge.cost)
    .where(*_ENDS_LATER)
    .order_by(QuotaCharge.ends_at)
    .limit(bindparam("limit"))
)
_CONSUMERS_ALIVE: Final = select(func.count(), func.coalesce(func.sum(ConsumerBeat.partitions_held), 0)).where(
    ConsumerBeat.account == bindparam("account"), ConsumerBeat.seen_at >= bindparam("since")
)


def find_gate(connection: Connection, account: str) -> Gate | None:
    """The gate of an account; None before any consumer created it."""
    row = connection.execute(_FIND_GATE, {"account": account}).one_or_none()
    return None if row is None else Gate(*row)


@functools.lru_cache(maxsize=8)
def _lock_gate_on(server: Identity) -> Select[Any]:
    return _FIND_GATE.add_columns(server.label("server")).with_for_update()


def lock_gate_on(connection: Connection, account: str, server: Identity) -> tuple[Gate, str | None] | None:
    """The account's gate, locked until the transaction ends, and the value of `server` there.

    Holding the lock orders all reservations of the account.
    """
    row = connection.execute(_lock_gate_on(server), {"account": account}).one_or_none()
    return None if row is None else (Gate(*row[:-1]), row.server)


def insert_gate(connection: Connection, account: str, now: datetime, terms: Mapping[str, Any]) -> None:
    """Create the gate of an account, open; `terms`: its Q, W and pacing.

    Raises:
        IntegrityError: it exists.
    """
    row = {
        "account": account,
        "last_now": now,
        "next_start_at": now,
        "state": "open",
        "blocked_until": LONG_AGO,
        "probe_until": LONG_AGO,
        "endpoint": "unknown",
        "endpoint_at": LONG_AGO,
        "month": month_of(now),
    }
    connection.execute(insert(QuotaGate).values(row | dict(terms)))


def change_gate(connection: Connection, account: str, changes: Mapping[str, Any]) -> None:
    """Set these columns of the gate."""
    if changes:
        connection.execute(_CHANGE_GATE, {**changes, "gate": account})


def change_gate_with_event(connection: Connection, now: datetime, gate: Gate, changes: Mapping[str, Any]) -> None:
    """Set these columns; where they close the gate, or close it for another reason, an event says so."""
    change_gate(connection, gate.account, changes)
    state = changes.get("state", gate.state)
    if state in {gate.state, "open"}:
        return
    until = utc_text(changes["blocked_until"])
    if state == "key":
        what = f"the provider refuses the key of account {gate.account}; it is tried again at {until}"
        event = NewEvent("key.refused", gate.account, what)
    else:
        what = f"the gate of account {gate.account} is closed until {until}: {state}"
        event = NewEvent("gate.closed", gate.account, what)
    events.record(connection, now, [event])


def insert_charge(
    connection: Connection,
    account: str,
    consumer: str,
    cost: int,
    reserved_at: datetime,
    ends_at: datetime,
    calls: int | None = None,
) -> int:
    """Hold quota for `cost` cities in that many calls; return the charge's id."""
    moments = {"reserved_at": reserved_at, "ends_at": ends_at}
    charge = {"account": account, "consumer": consumer, "cost": cost, "calls": calls, **moments}
    inserted: Any = connection.execute(insert(QuotaCharge), charge).inserted_primary_key
    return int(inserted[0])


def close_charge(
    connection: Connection, charge_id: int, reserved_at: datetime, closed_at: datetime, outcome: str | None = None
) -> None:
    """All answers are in: hold the charge for one window from then on, and never for longer than before.

    After a failover that lost the charge, its id may be a newer charge's, which stays open: hence `reserved_at`.
    `ends_at` is never set before the gate's time, which may be a little ahead of the clock.
    """
    sqlite = connection.dialect.name == "sqlite"
    earlier, later = (func.min, func.max) if sqlite else (func.least, func.greatest)
    moment = bindparam("moment", closed_at + CLOCK_GRAIN if sqlite else closed_at, type_=QuotaCharge.ends_at.type)
    gate = select(QuotaGate.last_now).where(QuotaGate.account == QuotaCharge.account).scalar_subquery()
    connection.execute(
        update(QuotaCharge)
        .where(QuotaCharge.id == charge_id, QuotaCharge.reserved_at == reserved_at, QuotaCharge.closed_at.is_(None))
        .values(
            closed_at=closed_at,
            outcome=outcome,
            ends_at=earlier(QuotaCharge.ends_at, later(moment, func.coalesce(gate, moment))),
        )
    )


def clip_charges(connection: Connection, account: str, ends_at: datetime) -> None:
    """Have no charge of the account end later than that."""
    late = (QuotaCharge.account == account, QuotaCharge.ends_at > ends_at)
    connection.execute(update(QuotaCharge).where(*late).values(ends_at=ends_at))


def forget_charges(connection: Connection, account: str, ended_before: datetime, limit: int = PRUNED_AT_ONCE) -> bool:
    """Delete up to `limit` charges that were released long ago, the oldest first; return whether there may be more."""
    given = {"account": account, "before": ended_before, "limit": limit}
    old = connection.scalars(_ENDED, given).all()
    if old:
        connection.execute(delete(QuotaCharge).where(QuotaCharge.id.in_(old)))
    return len(old) == limit


def note_terms(connection: Connection, account: str, now: datetime, terms: Terms) -> None:
    """Record that these terms apply from `now` on, if they are new. The gate has to be locked."""
    last = connection.execute(_LAST_TERMS, {"account": account}).one_or_none()
    values = {name: getattr(terms, name) for name in TERMS_KEPT}
    if last is None or last._asdict() != values:
        connection.execute(delete(QuotaTerms).where(QuotaTerms.account == account, QuotaTerms.since >= now))
        connection.execute(insert(QuotaTerms), {"account": account, "since": now, **values})


def held(connection: Connection, account: str, at: datetime, window_s: float) -> int:
    """Cities held at that moment."""
    ended_after = at - timedelta(seconds=window_s)
    return int(connection.scalar(_HELD, {"account": account, "after": ended_after}) or 0)


def count_open(connection: Connection, account: str, at: datetime, window_s: float) -> int:
    """Charges held at that moment that are not closed: no answer, or none yet."""
    ended_after = at - timedelta(seconds=window_s)
    return int(connection.scalar(_COUNT_OPEN, {"account": account, "after": ended_after}) or 0)


def charged(connection: Connection, account: str, since: datetime) -> int:
    """Cities charged since that moment."""
    return int(connection.scalar(_CHARGED, {"account": account, "after": since}) or 0)


def next_ends(connection: Connection, account: str, after: datetime, limit: int) -> Sequence[tuple[datetime, int]]:
    """The ends and costs of the next `limit` charges that end after that moment, in their order."""
    found = connection.execute(_NEXT_ENDS, {"account": account, "after": after, "limit": limit})
    return [(row.ends_at, row.cost) for row in found]


def charges(
    connection: Connection, account: str, ended_after: datetime, reserved_until: datetime, limit: int
) -> list[Charge]:
    """Up to `limit` charges that ended after one moment and were reserved up to another, the first to end first."""
    given = {"account": account, "after": ended_after, "until": reserved_until, "limit": limit}
    return [Charge(*row) for row in connection.execute(_CHARGES, given)]


def reserved_charges(connection: Connection, account: str, after: datetime, until: datetime) -> list[Charge]:
    """The charges reserved after one and up to another moment, in that order."""
    given = {"account": account, "after": after, "until": until}
    return [Charge(*row) for row in connection.execute(_RESERVED, given)]


# -- the file of a proof ----------------------------------------------------------------------------------------------


def kept_since(connection: Connection, account: str) -> tuple[datetime, datetime] | None:
    """When the oldest charge that is kept was reserved, and when the first one to end ended. None: there is none."""
    one = select(func.min(QuotaCharge.reserved_at), func.min(QuotaCharge.ends_at))
    reserved_at, ends_at = connection.execute(one.where(QuotaCharge.account == account)).one()
    return None if reserved_at is None else (reserved_at, ends_at)


def noted_terms(connection: Connection, account: str) -> list[TermsSince]:
    """What the account may spend, and from when on, in that order."""
    return [TermsSince(*row) for row in connection.execute(_NOTED_TERMS, {"account": account})]


def entries(connection: Connection, account: str, after: datetime, until: datetime) -> list[LedgerEntry]:
    """The charges reserved after one and up to another moment, in that order, with all that is known of them."""
    found = connection.execute(_ENTRIES, {"account": account, "after": after, "until": until})
    return [LedgerEntry(number, Charge(*charge), calls, outcome) for number, calls, outcome, *charge in found]


# -- heartbeats --------------------------------------------------------------------------------------------------------


def beat(connection: Connection, now: datetime, consumer: str, account: str, partitions_held: int = 0) -> None:
    """Record that this consumer is alive, and forget those long dead."""
    row = {"id": consumer, "account": account, "seen_at": now, "partitions_held": partitions_held}
    upsert(connection, ConsumerBeat, [row], ("seen_at", "partitions_held"))
    connection.execute(delete(ConsumerBeat).where(ConsumerBeat.seen_at < now - FORGOTTEN_AFTER))


def leave(connection: Connection, consumer: str) -> None:
    """Record that this consumer stops."""
    connection.execute(delete(ConsumerBeat).where(ConsumerBeat.id == consumer))


def consumers_alive(connection: Connection, now: datetime, account: str) -> tuple[int, int]:
    """How many consumers of the account were alive lately, and how many partitions they hold."""
    consumers, partitions = connection.execute(_CONSUMERS_ALIVE, {"account": account, "since": now - ALIVE_FOR}).one()
    return consumers, int(partitions)
