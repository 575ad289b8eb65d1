"""The producer's metrics: what it counts itself, and what the database says of the account, read for scrapes.

Every query is bounded: by an index and a limit, or by the time since the last scrape. It changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from prometheus_client import Counter, Gauge
from sqlalchemy import Connection

from producer.quota import QuotaReports, Standing
from producer.relays.batches import Relay
from raingauge.model import Charge
from raingauge.observability.metrics import Telemetry
from raingauge.quota.pacing import Terms
from raingauge.quota.proof import NOTHING, Replay
from raingauge.storage import events, outbox, streams
from raingauge.storage.collections import count_states
from raingauge.storage.quota import consumers_alive, reserved_charges

MOST: Final = 10_000
"""Rows that are counted in one state; whatever is more counts as that."""
STATES: Final = ("queued", "collecting", "done", "cancelled")
REASONS: Final = ("quota", "key", "provider", "database", "failover")
UNREAD: Final = float("nan")
"""A gauge before the first read: no alert compares with it."""
EARLIEST, LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


class ProducerMetrics:
    """All of a producer's metrics."""

    def __init__(self, telemetry: Telemetry, relay: Relay, reports: QuotaReports) -> None:
        self._registry = telemetry.registry
        self._reports = reports
        self._proof = RunningProof()
        self.accepted = Counter("raingauge_collections_accepted", "New collections.", registry=self._registry)
        self._removed = Counter("raingauge_removed_rows", "Rows that were pruned.", ["table"], registry=self._registry)
        pending = Gauge(
            "raingauge_relay_pending_batches",
            "Batches given to the hand-off and not confirmed yet.",
            registry=self._registry,
        )
        pending.set_function(lambda: relay.pending)
        self._read_at = self._gauge(
            "database_read_timestamp_seconds", "When the database was last read for metrics.", 0
        )
        self._backlog = self._gauge(
            "outbox_backlog_batches", f"Batches released and not published; {MOST} stands for more."
        )
        self._events_due = self._gauge("events_due", f"Events that are due for publication; {MOST} stands for more.")
        self._stream_lag = self._gauge(
            "stream_lag_seconds", "Age of the oldest reading that waits for the streams; 0 when none does."
        )
        self._consumers = self._gauge("consumers_alive", "Consumers of the account with a heartbeat in the last 20 s.")
        self._limit = self._gauge("quota_window_limit_cities", "Q: cities that the account may request in a window.")
        self._held = self._gauge("quota_window_held_cities", "Cities held by charges that are not released.")
        self._worst = self._gauge(
            "quota_window_proof_cities", "Most cities that arrived in any window of the last hour or two, as recorded."
        )
        self._budget = self._gauge("quota_month_budget_cities", "Cities that may be spent in this month.")
        self._spent = self._gauge("quota_month_spent_cities", "Cities spent in this month.")
        self._forecast = self._gauge(
            "quota_month_forecast_cities", "Cities spent at the month's end, if each hour is like the last one."
        )
        self._states = Gauge(
            "raingauge_collections",
            f"Collections: open ones by state, and those that ended in the last hour; {MOST} stands for more.",
            ["state"],
            registry=self._registry,
        )
        self._closed = Gauge(
            "raingauge_gate_closed", "1 while the gate is closed for this reason.", ["reason"], registry=self._registry
        )
        telemetry.read_before_scrapes(self._read)

    def count_removed(self, rows: Mapping[str, int]) -> None:
        """Count rows that were removed, by table."""
        for table, number in rows.items():
            self._removed.labels(table).inc(number)

    def _gauge(self, name: str, help_text: str, value: float = UNREAD) -> Gauge:
        gauge = Gauge(f"raingauge_{name}", help_text, registry=self._registry)
        gauge.set(value)
        return gauge

    async def _read(self) -> None:
        found = await self._reports.transactions.read(self._transaction)
        standing = found.standing
        for state in STATES:
            self._states.labels(state).set(found.states.get(state, 0))
        self._backlog.set(found.backlog)
        self._events_due.set(found.events_due)
        self._stream_lag.set(found.stream_lag_s)
        self._consumers.set(found.consumers)
        if standing is None:  # no consumer has made the gate: nothing was ever requested
            self._limit.set(self._reports.terms.cities_per_window)
            for gauge in (self._held, self._spent, self._forecast, self._worst):
                gauge.set(0)
        else:
            self._limit.set(standing.terms.cities_per_window)
            self._held.set(standing.held)
            self._spent.set(standing.spent)
            self._forecast.set(standing.forecast)
            self._worst.set(self._proof.add(standing.terms, _final(standing), found.charges))
        self._budget.set(self._reports.terms.cities_per_month)
        for reason in REASONS:
            self._closed.labels(reason).set(standing is not None and standing.gate.state == reason)
        self._read_at.set(found.now.timestamp())

    def _transaction(self, connection: Connection) -> "_Found":
        """It only reads: when a scrape has given up waiting, nothing must be set any more."""
        now = self._reports.transactions.now(connection)
        standing, account = self._reports.read_standing(connection), self._reports.account
        return _Found(
            now=now,
            states=count_states(connection, now, MOST),
            backlog=outbox.backlog(connection, MOST),
            events_due=events.count_due(connection, now, MOST),
            stream_lag_s=streams.stream_lag_s(connection, now),
            consumers=consumers_alive(connection, now, account)[0],
            standing=standing,
            charges=() if standing is None else self._proof.unread(connection, account, _final(standing)),
        )


@dataclass(frozen=True, slots=True)
class _Found:
    """What is read for scrapes, in one transaction."""

    now: datetime
    states: Mapping[str, int]
    backlog: int
    events_due: int
    stream_lag_s: float
    consumers: int
    standing: Standing | None
    charges: Sequence[Charge]


class RunningProof:
    """The most cities in any window of the last hour or two. Each charge is read once, when it cannot change any more.

    The rule is the proof's (docs/quota.md). A pause between scrapes that is longer than `PORTION` is left out.
    """

    PORTION: Final = timedelta(minutes=5)
    PERIOD: Final = timedelta(hours=1)

    def __init__(self) -> None:
        self._terms: Terms | None = None
        self._replay: Replay | None = None
        self._before = 0
        self._began_at = self._read_until = EARLIEST

    def unread(self, connection: Connection, account: str, final: datetime) -> list[Charge]:
        """The charges since those that were added last; `final`: none that was reserved until then can change."""
        return reserved_charges(connection, account, max(self._read_until, final - self.PORTION), final)

    def add(self, terms: Terms, final: datetime, charges: Sequence[Charge]) -> int:
        """Add them; returns the most cities in any window. New terms restart the proof."""
        if self._replay is None or terms != self._terms:
            charges = charges if self._terms is None else ()
            self._terms, self._replay = terms, Replay(terms, EARLIEST, LATEST)
            self._before, self._began_at = 0, final
        self._replay.add(charges)
        self._read_until = max(self._read_until, final)
        worst = max(self._before, self._replay.worst.cities)
        if final - self._began_at >= self.PERIOD:
            self._before, self._began_at, self._replay.worst = self._replay.worst.cities, final, NOTHING
        return worst


def _final(standing: Standing) -> datetime:
    """Charges reserved until then are answered or count as never answered."""
    return standing.now - timedelta(seconds=standing.terms.claim_s)
