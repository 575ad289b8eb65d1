"""The provider account that a consumer spends from, and its row, the gate: locking it and changing it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, bindparam, update

from consumer.gate import EndpointSetting
from raingauge.errors import GateMismatch
from raingauge.pacing import Terms
from raingauge.storage.database import Database
from raingauge.storage.gate import Gate, find_gate
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
        gate = find_gate(connection, self.name, lock=True)
        if gate is None:
            raise GateMismatch(f"the gate of account {self.name} does not exist: start a consumer first")
        return gate

    def change(self, connection: Connection, changes: Mapping[str, Any]) -> None:
        """Set these columns of the gate, which is locked."""
        if changes:
            connection.execute(_CHANGE, {"gate": self.name, **changes})
