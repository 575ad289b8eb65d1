"""Accepting one collection, as the producer does with several."""

from datetime import datetime

from sqlalchemy import Connection

from raingauge.model import CollectionRequest, CollectionState
from raingauge.storage.collections import OtherRequest, accept_all, find_all


def accept(
    connection: Connection, now: datetime, request: CollectionRequest, outstanding: int = 10
) -> tuple[CollectionState, bool]:
    """Store a collection; its state and whether it is new. Raises OtherRequest."""
    [result] = accept_all(connection, now, [request], find_all(connection, [request.id], deleted=True), outstanding)
    if isinstance(result, OtherRequest):
        raise result
    return result
