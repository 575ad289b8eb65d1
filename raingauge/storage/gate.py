"""The quota's gate as a row: reading it, and what is held. Changing it is the ledger's work (`consumer.quota`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from raingauge.pacing import Release, month_of
from raingauge.storage.models import QuotaCharge, QuotaGate


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
        return self.next_month_spent if self.month < month_of(now) else 0


_COLUMNS = tuple(getattr(QuotaGate, name) for name in Gate.__dataclass_fields__)


def find_gate(connection: Connection, account: str, *, lock: bool = False) -> Gate | None:
    """The gate of an account, locked until the transaction ends if asked for; None before any consumer made it."""
    statement = select(*_COLUMNS).where(QuotaGate.account == account)
    row = connection.execute(statement.with_for_update() if lock else statement).one_or_none()
    return None if row is None else Gate(*row)


def held(connection: Connection, account: str, at: datetime) -> int:
    """Cities held at that moment."""
    charges = (QuotaCharge.account == account, QuotaCharge.release_at > at)
    return int(connection.scalar(select(func.coalesce(func.sum(QuotaCharge.cost), 0)).where(*charges)) or 0)


def next_releases(connection: Connection, account: str, after: datetime, most: int) -> Sequence[Release]:
    """The next charges to be released, in their order."""
    rows = connection.execute(
        select(QuotaCharge.release_at, QuotaCharge.cost)
        .where(QuotaCharge.account == account, QuotaCharge.release_at > after)
        .order_by(QuotaCharge.release_at)
        .limit(most)
    )
    return [(row[0], row[1]) for row in rows]
