"""What a person changes at an account's gate: its terms, the month's count, whether it is open.

It must not call the provider, nor change a charge.
"""

from datetime import datetime

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from consumer import gate as gates
from consumer.ledger import create_gate, differences, lock_gate
from raingauge.database.transactions import Transactions
from raingauge.model import Gate, month_of
from raingauge.quota.pacing import Terms, next_month
from raingauge.storage import quota


class GateControl:
    """The gate of one account, under the terms of the settings.

    Raises (all methods): DatabaseUnavailable; and all but `adopt`, GateMismatch if there is no gate.
    """

    def __init__(self, transactions: Transactions, account: str, terms: Terms) -> None:
        self._transactions = transactions
        self._account = account
        self._terms = terms

    async def adopt(self) -> str:
        """Write these terms into the account's gate; return the terms that it had, or "no gate"."""
        try:
            await self._transactions.write(self._create)
        except IntegrityError:
            return await self._transactions.write(self._adopt)
        return "no gate"

    async def set_month(self, spent: int) -> tuple[int, int]:
        """Record how many cities of this month are spent, by whatever program; return the number before, and now."""

        def work(connection: Connection) -> tuple[int, int]:
            gate, now = lock_gate(connection, self._account), self._transactions.now(connection)
            counted, this = gate.counted(now), month_of(now)
            # After a step back across its begin, the gate counts the month after this one.
            carried = {this: counted.next_spent, month_of(next_month(now)): counted.spent}.get(counted.month, 0)
            changes = {"month": this, "month_spent": spent, "next_month_spent": carried}
            quota.change_gate(connection, self._account, changes)
            return counted.spent, spent

        return await self._transactions.write(work)

    async def shut(self) -> datetime:
        """Close the gate for the longest hold at least, after a restore without the last commits; return until when."""

        def work(connection: Connection) -> datetime:
            gate, now = lock_gate(connection, self._account), self._transactions.now(connection)
            changes = gates.shut(gate, now, self._terms, since=now)
            quota.change_gate_with_event(connection, now, gate, changes)
            until: datetime = changes["blocked_until"]
            return until

        return await self._transactions.write(work)

    async def reopen(self) -> Gate:
        """Open the gate at once, whatever the provider or a person closed it for; return the gate before."""

        def work(connection: Connection) -> Gate:
            gate = lock_gate(connection, self._account)
            quota.change_gate(connection, self._account, {"state": "open", "strikes": 0})
            return gate

        return await self._transactions.write(work)

    def _create(self, connection: Connection) -> None:
        create_gate(connection, self._transactions.now(connection), self._account, self._terms)

    def _adopt(self, connection: Connection) -> str:
        # A charge stores when its calls end, not when it is released: so a longer window holds at once.
        gate = lock_gate(connection, self._account)
        quota.change_gate(connection, self._account, differences(gate, self._terms))
        quota.note_terms(connection, self._account, self._transactions.now(connection), self._terms)
        return f"{gate.cities_per_window} cities in {gate.window_s:g} s, {gate.pacing}"
