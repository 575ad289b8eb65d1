"""Opening a gate: making its row, or comparing the terms that it was made with. Decides and inserts, locks nothing."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, insert

from raingauge.errors import GateMismatch
from raingauge.pacing import Terms, month_of
from raingauge.storage.gate import Gate
from raingauge.storage.models import QuotaGate

LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)
KEPT_IN_GATE: Final = ("cities_per_window", "window_s", "pacing")


def make_gate(connection: Connection, account: str, terms: Terms, now: datetime) -> None:
    """Insert the account's row. Raises IntegrityError where it stands already."""
    connection.execute(
        insert(QuotaGate).values(
            account=account,
            cities_per_window=terms.cities_per_window,
            window_s=terms.window_s,
            pacing=terms.pacing,
            last_now=now,
            next_start_at=now,
            state="open",
            blocked_until=LONG_AGO,
            probe_until=LONG_AGO,
            endpoint="unknown",
            endpoint_at=LONG_AGO,
            month=month_of(now),
        )
    )


def differences(gate: Gate, terms: Terms) -> dict[str, Any]:
    """The gate's terms that are not these, as these have them."""
    return {name: getattr(terms, name) for name in KEPT_IN_GATE if getattr(gate, name) != getattr(terms, name)}


def reconcile(gate: Gate, terms: Terms, now: datetime, *, change: bool) -> dict[str, Any]:
    """The columns to change so that the gate has these terms: none where it has; otherwise only if asked to `change`.

    Raises:
        GateMismatch: consumers of one account would pace by different terms.
    """
    changes = differences(gate, terms)
    if not changes:
        return {}
    if not change:
        theirs = {name: asdict(gate)[name] for name in KEPT_IN_GATE}
        ours = {name: asdict(terms)[name] for name in KEPT_IN_GATE}
        raise GateMismatch(
            f"the gate of account {gate.account} has {theirs}, these settings say {ours}: "
            "make them the same, or run `python -m consumer quota adopt` to change the gate"
        )
    # What is held was held by the old terms: nothing goes until all of it would have been released by either.
    if gate.window_s < terms.window_s:
        until = now + timedelta(seconds=terms.worst_hold_s)
        changes |= {"state": "database", "blocked_until": until}
    return changes
