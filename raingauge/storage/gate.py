"""The quota's gate as a row: reading it, and what is held. Changing it is the ledger's work (`consumer.quota`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Integer, Select, String, bindparam, func, select

from raingauge.pacing import Release, month_of, month_start
from raingauge.proof import Charge
from raingauge.storage.message import Answer, Statement, ask, send
from raingauge.storage.models import QuotaCharge, QuotaGate, UtcDateTime
from raingauge.storage.packed import packed


@dataclass(frozen=True, slots=True)
class Gate:
    """The state of one account's quota; the columns of `quota_gate`."""

    account: str
    cities_per_window: int
    window_s: float
    pacing: str
    last_now: datetime
    next_start_at: datetime
    state: str
    blocked_until: datetime
    strikes: int
    probe_until: datetime
    endpoint: str
    endpoint_at: datetime
    month: str
    month_spent: int
    next_month_spent: int

    def spent(self, now: datetime) -> int:
        """Cities spent of the month that `now` lies in."""
        if self.month == month_of(now):
            return self.month_spent
        last_month = month_of(month_start(now) - timedelta(days=1))
        return self.next_month_spent if self.month == last_month else 0


ACCOUNT: Final = bindparam("account", type_=String)
"""For a statement: whose gate."""
_AFTER: Final = bindparam("after", type_=UtcDateTime)


def held_after(moment: ColumnElement[datetime]) -> Select[Any]:
    """For a statement: cities held at a moment, of the account that it is given as `account`."""
    released_later = (QuotaCharge.account == ACCOUNT, QuotaCharge.release_at > moment)
    return select(func.coalesce(func.sum(QuotaCharge.cost), 0)).where(*released_later)


# Built once: these run several times for every call of the provider.
GATE: Final = select(packed(*(getattr(QuotaGate, name) for name in Gate.__dataclass_fields__))).where(
    QuotaGate.account == ACCOUNT
)
"""Of the account that it is given as `account`; what is packed are the columns of `Gate`."""
GATE_LOCKED: Final = GATE.with_for_update()
"""The same, locked until the transaction ends."""
_UNRELEASED: Final = (QuotaCharge.account == ACCOUNT, QuotaCharge.release_at > _AFTER)
_RELEASES: Final = (
    select(QuotaCharge.release_at, QuotaCharge.cost)
    .where(*_UNRELEASED)
    .order_by(QuotaCharge.release_at)
    .limit(bindparam("most", type_=Integer))
)
_CHARGES: Final = (
    select(packed(*(getattr(QuotaCharge, name) for name in Charge.__dataclass_fields__)))
    .where(*_UNRELEASED, QuotaCharge.reserved_at <= bindparam("until", type_=UtcDateTime))
    .limit(bindparam("most", type_=Integer))
)
_HELD: Final = held_after(_AFTER)
_CHARGED: Final = select(func.coalesce(func.sum(QuotaCharge.cost), 0)).where(
    *_UNRELEASED, QuotaCharge.reserved_at > _AFTER
)


def find_gate(connection: Connection, account: str) -> Gate | None:
    """The gate of an account; None before any consumer made it."""
    rows = ask(connection, GATE, {"account": account})
    return Gate(*rows[0][0]) if rows else None


def held(connection: Connection, account: str, at: datetime) -> int:
    """Cities held at that moment."""
    return int(connection.scalar(_HELD, {"account": account, "after": at}) or 0)


def next_releases(connection: Connection, account: str, after: datetime, most: int) -> Sequence[Release]:
    """The next charges to be released, in their order."""
    rows = ask(connection, _RELEASES, {"account": account, "after": after, "most": most})
    return [(row[0], row[1]) for row in rows]


def charges_of(account: str, released_after: datetime, until: datetime, most: int) -> Statement:
    """The statement that asks for `charges`."""
    return _CHARGES, {"account": account, "after": released_after, "until": until, "most": most}


def charges_in(answer: Answer) -> list[Charge]:
    """The charges, by the answer to that statement."""
    return [Charge(*row) for [row] in answer.rows]


def charges(connection: Connection, account: str, released_after: datetime, until: datetime, most: int) -> list[Charge]:
    """Up to `most` charges that were reserved up to `until` and are released after that, in no order."""
    [answer] = send(connection, [charges_of(account, released_after, until, most)])
    return charges_in(answer)


def charged(connection: Connection, account: str, since: datetime) -> int:
    """Cities charged since then."""
    return int(connection.scalar(_CHARGED, {"account": account, "after": since}) or 0)
