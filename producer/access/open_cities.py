"""How many unsettled cities the open collections of a client may have: checked in the transaction that accepts one.

The token's row is locked before anything is counted, so that two POSTs at once cannot pass the limit together. Clients
without a limit cost nothing here, and share no transaction with one that waits for its row.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, Protocol

from sqlalchemy import Connection

from producer.forecast import Progress
from raingauge.access import stored
from raingauge.errors import Transient
from raingauge.model import CollectionRequest, CollectionState

MAX_FORESEEN: Final = 100
"""Open collections whose ends are computed for `Retry-After`."""
RETRY_AFTER_S: Final = range(1, 3601)
UNKNOWN_S: Final = 60
"""`Retry-After` when nobody can know the end."""


class HasProgress(Protocol):
    """A collection with its forecast."""

    @property
    def state(self) -> CollectionState:
        """What is stored."""

    @property
    def progress(self) -> Progress:
        """What is expected."""


Views = Callable[[Connection, Sequence[CollectionState]], Sequence[HasProgress]]


class TooManyOpen(Transient):
    """A client would have more cities open than it may."""

    def __init__(self, request: CollectionRequest, open_now: int, retry_after_s: int | None) -> None:
        self.retry_after_s = retry_after_s
        """None: it never fits."""
        super().__init__(
            f"the token {request.requested_by} may have {request.max_open_cities} cities open; "
            f"it has {open_now}, and this collection has {len(request.city_ids)}"
        )


def lock(connection: Connection, now: datetime, requests: Sequence[CollectionRequest]) -> None:
    """Have other transactions that would accept collections of the same limited clients wait for this one."""
    if names := [each.requested_by for each in requests if each.max_open_cities and each.requested_by]:
        stored.lock(connection, now, names)


def refused(
    connection: Connection, requests: Sequence[CollectionRequest], now: datetime, views: Views
) -> Mapping[int, TooManyOpen]:
    """Why some of these new requests are refused, by their index; `views` computes forecasts of open collections.

    Of several with the same id the first that fits counts, and those after it are not refused here.
    """
    names = {each.requested_by for each in requests if each.max_open_cities and each.requested_by}
    if not names:
        return {}
    open_now = stored.open_cities(connection, sorted(names))
    errors: dict[int, TooManyOpen] = {}
    taken: set[str] = set()
    for index, request in enumerate(requests):
        if request.requested_by is None or not request.max_open_cities or request.id in taken:
            continue
        own = open_now.get(request.requested_by, 0)
        excess = own + len(request.city_ids) - request.max_open_cities
        if excess <= 0:
            taken.add(request.id)
            open_now[request.requested_by] = own + len(request.city_ids)
        elif len(request.city_ids) > request.max_open_cities:
            errors[index] = TooManyOpen(request, own, None)
        else:
            states = stored.open_collections(connection, request.requested_by, MAX_FORESEEN)
            errors[index] = TooManyOpen(request, own, _retry_after_s(views(connection, states), excess, now))
    return errors


def _retry_after_s(views: Sequence[HasProgress], excess: int, now: datetime) -> int:
    """Seconds until `excess` of their cities should be settled; each collection counts at its end."""
    ends = [(view.progress.expected_at, view.state) for view in views]
    known = sorted((end, state.total - state.settled) for end, state in ends if end is not None)
    for end, left in known:
        excess -= left
        if excess <= 0:
            wait_s = -(-(end - now).total_seconds() // 1)
            return int(min(max(wait_s, RETRY_AFTER_S[0]), RETRY_AFTER_S[-1]))
    return UNKNOWN_S
