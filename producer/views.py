"""Views: collections with their progress. It reads what forecasts are computed from, and keeps them for a moment.

It reads within its caller's transaction; the arithmetic is `producer.forecast`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from producer.forecast import MAX_CHARGES, Competition, Forecast, Progress, Snapshot, ended
from raingauge.database.transactions import Transactions
from raingauge.model import CollectionState
from raingauge.quota.pacing import Terms
from raingauge.storage import collections, queue, quota

FORECAST_KEPT_S: Final = 0.1
"""How long a GET's `reason` and `expected_at` are used again; its counters are those of now."""
FEW: Final = 200
"""Open collections whose list is read for every forecast."""
KEPT_FOR_EACH: Final = timedelta(milliseconds=5)
"""How long a longer list is used again, for each collection on it: a hundred times what reading it takes."""
KEPT_AT_MOST: Final = timedelta(seconds=10)
DELIVERED_WITHIN: Final = timedelta(seconds=10)
"""If no partition waits, the batches of a collection are delivered within this time."""


@dataclass(frozen=True, slots=True)
class View:
    """A collection and its progress."""

    state: CollectionState
    progress: Progress


class Views:
    """Views of one account's collections."""

    def __init__(self, transactions: Transactions, terms: Terms, account: str, endpoint: str = "auto") -> None:
        self._transactions = transactions
        self._terms = terms
        self._account = account
        self._endpoint = endpoint
        self._competition = _CompetitionCache()
        self._kept_forecast: tuple[float, Forecast] | None = None

    def of(
        self, connection: Connection, states: Sequence[CollectionState], fresh: Sequence[int] | None = None
    ) -> list[View]:
        """The collections' views, in their order; `fresh`: how many unsettled cities of each need no call.

        Without `fresh` the forecast may be a moment old.
        """
        unfinished = [state for state in states if state.finished_at is None]
        if not unfinished:
            return [View(state, ended(state)) for state in states]
        if fresh is None:
            forecast = self._recent_forecast(connection, unfinished)
        else:
            forecast = Forecast(self.snapshot(connection))
        behind = _behind_held(connection, forecast.snapshot, unfinished)
        counts = fresh or [0] * len(states)
        return [
            View(state, forecast.progress(state, count, behind_held=state.id in behind))
            for state, count in zip(states, counts, strict=True)
        ]

    def _recent_forecast(self, connection: Connection, unfinished: Sequence[CollectionState]) -> Forecast:
        """A forecast of now, or one of a moment ago that knows these collections as they are now."""
        now_s = self._transactions.clock.monotonic()
        if self._kept_forecast is not None:
            read_at_s, forecast = self._kept_forecast
            changed_at = max(state.last_progress_at or state.requested_at for state in unfinished)
            # The change's transaction may have ended a little after its time.
            known = (forecast.snapshot.now - changed_at).total_seconds() > FORECAST_KEPT_S
            if known and now_s - read_at_s <= FORECAST_KEPT_S:
                return forecast
        forecast = Forecast(self.snapshot(connection))
        self._kept_forecast = now_s, forecast
        return forecast

    def snapshot(self, connection: Connection) -> Snapshot:
        """What forecasts depend on, within a transaction."""
        now = self._transactions.now(connection)
        gate = quota.find_gate(connection, self._account)
        window_s = self._terms.window_s if gate is None else gate.window_s
        window = timedelta(seconds=window_s)
        charges = quota.charges(connection, self._account, now - window, now, MAX_CHARGES)
        all_read = len(charges) < MAX_CHARGES
        held = sum(charge.cost for charge in charges)
        consumers, partitions_held = quota.consumers_alive(connection, now, self._account)
        return Snapshot(
            now=now,
            terms=self._terms,
            gate=gate,
            consumer_alive=consumers > 0,
            partitions_held=partitions_held,
            competition=self._competition.at(connection, now, 0 if gate is None else gate.turn),
            held=held if all_read else quota.held(connection, self._account, now, window_s),
            charges=charges,
            endpoint=self._endpoint,
        )


class _CompetitionCache:
    """The open collections. A long list is used again for a while: it only serves forecasts."""

    def __init__(self) -> None:
        self._read_at = datetime.min.replace(tzinfo=UTC)
        self._competition = Competition([])

    def at(self, connection: Connection, now: datetime, gate_turn: int) -> Competition:
        """Those open now, or a little before."""
        size, age = self._competition.size, now - self._read_at
        if size <= FEW or not timedelta() <= age <= min(KEPT_AT_MOST, size * KEPT_FOR_EACH):
            self._competition, self._read_at = Competition(collections.open_collections(connection), gate_turn), now
        return self._competition


def _behind_held(connection: Connection, snapshot: Snapshot, unfinished: Sequence[CollectionState]) -> frozenset[str]:
    """Ids of those that get no further while consumers hold messages: for some time nothing of them is queued."""
    if not snapshot.partitions_held:
        return frozenset()
    before = snapshot.now - DELIVERED_WITHIN
    quiet = [state.id for state in unfinished if (state.last_progress_at or state.requested_at) < before]
    return frozenset(quiet) - queue.queued_collections(connection, quiet)
