"""The provider account that a consumer spends from, and its row, the gate: locking it and changing it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, bindparam, update

from consumer.gate import EndpointSetting
from raingauge.errors import GateMismatch
from raingauge.pacing import Terms
from raingauge.storage.database import Database
from raingauge.storage.gate import GATE_LOCKED, Gate
from raingauge.storage.message import Answer, Statement, send
from raingauge.storage.models import QuotaGate

# Built once: it runs for every call of the provider.
_CHANGE: Final = update(QuotaGate).where(QuotaGate.account == bindparam("gate"))


@dataclass(frozen=True, slots=True)
class Account:
    """Whose quota it is, and which consumer spends it."""

    database: Database
    name: str
    terms: Terms
    endpoint: EndpointSetting
    consumer: str

    def lock(self, connection: Connection) -> Gate:
        """The gate, locked until the transaction ends.

        Raises:
            GateMismatch: there is none.
        """
        [answer] = send(connection, [self.locking])
        return self.gate(answer)

    @property
    def locking(self) -> Statement:
        """The statement that locks the gate."""
        return GATE_LOCKED, {"account": self.name}

    def gate(self, locked: Answer) -> Gate:
        """The gate, by the answer to that statement.

        Raises:
            GateMismatch: there is none.
        """
        if not locked.rows:
            raise GateMismatch(f"the gate of account {self.name} does not exist: start a consumer first")
        return Gate(*locked.rows[0][0])

    def changing(self, changes: Mapping[str, Any]) -> Statement:
        """The statement that sets these columns of the gate, which is locked."""
        return _CHANGE, {"gate": self.name, **changes}

    def change(self, connection: Connection, changes: Mapping[str, Any]) -> None:
        """Set these columns of the gate, which is locked."""
        if changes:
            connection.execute(*self.changing(changes))
