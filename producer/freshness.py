"""How many cities of collections that were just accepted need no call: what the answer to a POST is computed with.

It reads only; what counts as fresh is decided by `raingauge.quota.fairness`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from raingauge.model import CollectionRequest, CollectionState
from raingauge.quota.fairness import unknown_since
from raingauge.storage import cities

MAX_COUNTED: Final = 5000
"""Cities of a collection whose fresh ones a POST counts: for more it would take longer than storing them."""


def count_fresh(connection: Connection, taken: Sequence[tuple[CollectionState, CollectionRequest]]) -> list[int]:
    """Unsettled cities of each collection that need no call; 0 for finished and for large ones."""
    counted = [state.finished_at is None and len(request.city_ids) <= MAX_COUNTED for state, request in taken]
    new = [pair for pair, is_counted in zip(taken, counted, strict=True) if is_counted and not pair[0].settled]
    known: dict[int, tuple[datetime | None, datetime | None]] = {}
    if new:
        wanted = sorted({city_id for _, request in new for city_id in request.city_ids})
        since = min(state.since for state, _ in new)
        known = cities.known_since(
            connection, wanted, since, min(unknown_since(state.requested_at, state.max_age_s) for state, _ in new)
        )

    def count(state: CollectionState, request: CollectionRequest) -> int:
        if state.settled:
            return cities.count_fresh(connection, state, request.city_ids)
        return len(cities.needing_no_call(known, state, request.city_ids))

    return [count(*pair) if is_counted else 0 for pair, is_counted in zip(taken, counted, strict=True)]
