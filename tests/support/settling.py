"""Settling cities of a collection as a consumer does, without a call."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from sqlalchemy import Connection, select

from raingauge.model import BatchKey, Observation
from raingauge.storage.enqueueing import enqueue
from raingauge.storage.models import Batch
from raingauge.storage.settling import Fetched, fail_city, settle


def settle_cities(
    connection: Connection,
    now: datetime,
    collection_id: str,
    observations: Iterable[Observation] = (),
    failures: Mapping[int, str] | None = None,
    batches: Iterable[int] | None = None,
) -> None:
    """Enqueue batches of the collection (None: all), then settle these cities of it."""
    numbers = connection.scalars(select(Batch.batch).where(Batch.collection_id == collection_id)).all()
    enqueue(connection, now, "test", 0, [BatchKey(collection_id, n) for n in (numbers if batches is None else batches)])
    observed = {observation.city_id: observation for observation in observations}
    if observed:
        settle(connection, now, Fetched(0, [*observed], now, observed), lambda _attempts: None, releases=False)
    for city_id, reason in (failures or {}).items():
        fail_city(connection, now, city_id, reason)
