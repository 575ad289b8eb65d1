"""The quota ledger: reserves cities before they are asked for and closes the charge when the answers are in.

One row (the gate) per provider account orders all reservations of all consumers. The rule, its proof and its limits:
docs/quota.md. No worker's clock enters it. Blocking; every method raises DatabaseUnavailable when the database is away.
"""

import math
import random
from collections.abc import Container, Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, Update, bindparam, delete, func, select, update
from sqlalchemy.exc import IntegrityError

from consumer.account import Account
from consumer.admission import Grant
from consumer.attempt import Answer, Asked, Attempt
from consumer.gate import EndpointSetting, Event, after
from consumer.look import Candidate
from consumer.opening import make_gate, reconcile
from consumer.turns import Shares, forget_tickets
from raingauge.pacing import Terms, month_of
from raingauge.storage.database import Database, moment_beside, moment_of
from raingauge.storage.message import ask, finish
from raingauge.storage.models import QuotaCharge, QuotaGate, UtcDateTime

KEPT_FOR: Final = timedelta(days=1)
LATELY_WINDOWS: Final = 20
"""How far back collections are compared."""


@cache
def _closing(dialect: str, told: bool, window_s: float) -> Update:
    """The statement that ends charges: held one window longer from now on, the ledger's time. Built once."""
    later, earlier = (func.max, func.min) if dialect == "sqlite" else (func.greatest, func.least)
    seen = select(QuotaGate.last_now).where(QuotaGate.account == bindparam("gate")).scalar_subquery()
    now = later(moment_of(dialect, told=told), seen, type_=UtcDateTime)
    # On SQLite the clock and what is computed with it have whole milliseconds, and may both be cut off: round up.
    held_s = (math.ceil(window_s * 1000) + 2) / 1000 if dialect == "sqlite" else window_s
    release_at = moment_beside(dialect, now, held_s)
    return (
        update(QuotaCharge)
        .where(QuotaCharge.id.in_(bindparam("charges", expanding=True)), QuotaCharge.closed_at.is_(None))
        .values(
            release_at=earlier(QuotaCharge.release_at, release_at),
            closed_at=now,
            cities=None,
        )
    )


_UNCLAIM: Final = (
    update(QuotaCharge).where(QuotaCharge.id.in_(bindparam("charges", expanding=True))).values(cities=None)
)


class Ledger:
    """The ledger of one account, as one consumer uses it."""

    def __init__(
        self, database: Database, account: str, terms: Terms, endpoint: EndpointSetting, consumer: str
    ) -> None:
        self._database = database
        self._account = Account(database, account, terms, endpoint, consumer)
        self._terms = terms
        self._shares = Shares(timedelta(seconds=LATELY_WINDOWS * terms.window_s))

    @property
    def terms(self) -> Terms:
        """What the account may spend."""
        return self._terms

    def open(self, *, change: bool = False) -> None:
        """Make the account's gate, or check that it was made with the same terms; `change` writes ours into it.

        Raises:
            GateMismatch: consumers of one account would pace by different terms.
        """
        try:
            self._database.write(lambda c: make_gate(c, self._account.name, self._terms, self._database.now(c)))
        except IntegrityError:
            self._database.write(lambda connection: self._check(connection, change))

    def reserve(
        self,
        candidates: Sequence[Candidate],
        *,
        together: bool,
        calls: int = 1,
        avoid: Container[int] = frozenset(),
    ) -> Answer:
        """Hold quota for as many of the candidates (at least one, in turn order) as may go now, and claim them.

        `together`: they may ride in group calls, where there are such, and in so many of them at most. Then those that
        other consumers lend may ride along, except cities to `avoid`.
        """
        asked = Asked(candidates, calls if together else 0, avoid)
        return self._database.write(lambda c: Attempt(c, self._account, self._shares, asked).answer())

    def unclaim(self, connection: Connection, grants: Sequence[Grant]) -> None:
        """Say that nobody waits for these calls any more: their charges stay held to the worst case."""
        ask(connection, _UNCLAIM, {"charges": [grant.charge_id for grant in grants]})

    def close(self, connection: Connection, grants: Sequence[Grant]) -> None:
        """End the transaction that stores the answers: the charges are held one window longer, and no more."""
        database, name = self._database, self._account.name
        given = {"gate": name, "charges": [grant.charge_id for grant in grants], **database.moment(connection)}
        finish(connection, [(_closing(database.dialect, database.told, self._terms.window_s), given)])

    def report(self, grant: Grant, event: Event, retry_after_s: float | None = None) -> Mapping[str, Any]:
        """Tell the gate what became of a call; answer which of its columns changed."""

        def work(connection: Connection) -> Mapping[str, Any]:
            gate = self._account.lock(connection)
            now = self._database.now(connection)
            jitter = random.random()
            changes = after(gate, now, event, grant.call, self._account.endpoint, self._terms, retry_after_s, jitter)
            self._account.change(connection, changes)
            return changes

        return self._database.write(work)

    def prune(self) -> None:
        """Forget charges that were released long ago, and who waited then."""

        def work(connection: Connection) -> None:
            old = self._database.now(connection) - KEPT_FOR
            connection.execute(
                delete(QuotaCharge).where(QuotaCharge.account == self._account.name, QuotaCharge.release_at < old)
            )
            forget_tickets(connection, old)

        self._database.write(work)

    def set_month(self, spent: int) -> None:
        """Say how many cities of this month are spent already, by whatever program."""

        def work(connection: Connection) -> None:
            gate = self._account.lock(connection)
            month = month_of(self._database.now(connection))
            carried = gate.next_month_spent if gate.month == month else 0
            self._account.change(connection, {"month": month, "month_spent": spent, "next_month_spent": carried})

        self._database.write(work)

    def shut(self) -> None:
        """Close the gate for the longest hold: after a database was restored without its last commits."""

        def work(connection: Connection) -> None:
            self._account.lock(connection)
            until = self._database.now(connection) + timedelta(seconds=self._terms.worst_hold_s)
            self._account.change(connection, {"state": "database", "blocked_until": until})

        self._database.write(work)

    def _check(self, connection: Connection, change: bool) -> None:
        changes = reconcile(self._account.lock(connection), self._terms, self._database.now(connection), change=change)
        self._account.change(connection, changes)
