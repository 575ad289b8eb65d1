"""Accepting one collection, as the producer does with several."""

from datetime import datetime

from sqlalchemy import Connection

from raingauge.storage.collections import CollectionRequest, CollectionState, OtherRequest, accept_all, find


def accept(connection: Connection, now: datetime, request: CollectionRequest) -> tuple[CollectionState, bool]:
    """Store a collection; answer it and whether it is new. Raises OtherRequest."""
    standing = find(connection, request.id)
    [answer] = accept_all(connection, now, [request], {} if standing is None else {request.id: standing})
    if isinstance(answer, OtherRequest):
        raise answer
    return answer
