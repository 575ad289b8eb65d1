"""The values that producer and consumer share. It imports nothing of this project.

Times are aware and in UTC; what the provider left out is None, never 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple

CALL_SIZE: Final = 20
"""Cities in one group call at most (https://openweathermap.org/current, "Call for several city IDs")."""
BATCH_SIZE: Final = CALL_SIZE
"""Cities in a batch at most."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""1970 in UTC: before anything that is stored."""

StreamFormat = Literal["json", "connect-json"]
"""`connect-json`: as Kafka Connect's JsonConverter reads it with `schemas.enable=true`."""


def batches_of(total: int) -> int:
    """How many batches that many cities make."""
    return -(-total // BATCH_SIZE)


def month_of(moment: datetime) -> str:
    """For example 2026-11."""
    return f"{moment.year:04d}-{moment.month:02d}"


def trace_id(traceparent: str | None) -> str | None:
    """The part of a traceparent that names the trace."""
    return traceparent[3:35] if traceparent else None


class BatchKey(NamedTuple):
    """A batch by its collection and its number within it."""

    collection_id: str
    batch: int


@dataclass(frozen=True, slots=True)
class CollectionRequest:
    """What a client requests. `city_ids` are distinct."""

    id: str
    city_ids: Sequence[int]
    max_age_s: int
    named: bool
    """Whether the client named the cities; otherwise they are the default ones."""
    any_age: bool = False
    """The client gave no `max_age_s`, so an existing collection matches whatever its own is."""
    traceparent: str | None = None
    """The W3C trace context of the request."""
    requested_by: str | None = None
    """The name of the token that the POST carried, or `schedule:` and the schedule's name."""
    max_open_cities: int = 0
    """Unsettled cities that the client's open collections may have; 0: any number."""


@dataclass(frozen=True, slots=True)
class CollectionState:
    """A collection as it is stored: the columns of `collections` that are shown."""

    id: str
    requested_at: datetime
    max_age_s: int
    cities_hash: str
    total: int
    collected: int
    failed: int
    last_turn: int
    last_progress_at: datetime | None
    finished_at: datetime | None
    cancelled_at: datetime | None
    enqueued: int = 0
    """Cities of its delivered batches, settled ones too."""
    readings_pruned_at: datetime | None = None
    """When its readings were deleted because of their age."""
    removing: int | None = None
    """What is being removed of it, as in `raingauge.storage.models.Collection`."""
    requested_by: str | None = None
    """The name of the token that the POST carried."""

    @property
    def settled(self) -> int:
        """Cities collected or failed."""
        return self.collected + self.failed

    @property
    def since(self) -> datetime:
        """An observation fetched at or after this moment is fresh enough for it."""
        return self.requested_at - timedelta(seconds=self.max_age_s)


class OpenCollection(NamedTuple):
    """What a collection that is not finished still needs."""

    id: str
    cities_hash: str
    """Collections with the same one want the same cities."""
    left: int
    """Unsettled cities."""
    settled: int
    last_turn: int
    enqueued: int


@dataclass(frozen=True, slots=True)
class Charge:
    """Quota held for calls. Moments are database times."""

    reserved_at: datetime
    ends_at: datetime
    """The last moment at which the provider may count one of its calls, as far as is known."""
    closed_at: datetime | None
    """When all answers were in; None before, or when they never arrived."""
    cost: int
    """Cities."""


DATABASE_STATES: Final = frozenset({"database", "failover"})
"""What the gate is closed for when charges may be lost: no answer opens it, its moment does."""


class MonthCount(NamedTuple):
    """The cities that are counted of a month, and those of the month after it."""

    month: str
    """For example 2026-11 (UTC)."""
    spent: int
    next_spent: int


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A charge as the ledger has it."""

    id: int
    charge: Charge
    calls: int | None
    """None: version 0.1.0 reserved it."""
    outcome: str | None
    """What closed it: answered, quota, key or endpoint. None: nothing did, or version 0.1.0 closed it."""


@dataclass(frozen=True, slots=True)
class TermsSince:
    """What the account may spend, from a moment on."""

    since: datetime | None
    """None: as far back as there are charges."""
    cities_per_window: int
    window_s: float
    cities_per_month: int


@dataclass(frozen=True, slots=True)
class Gate:
    """The state of one account's quota: the columns of `quota_gate`."""

    account: str
    cities_per_window: int
    window_s: float
    pacing: str
    last_now: datetime
    next_start_at: datetime
    turn: int
    state: str
    blocked_until: datetime
    strikes: int
    probe_until: datetime
    endpoint: str
    endpoint_at: datetime
    month: str
    month_spent: int
    next_month_spent: int
    refused_key: str | None = None
    database_id: str | None = None

    @property
    def opens_without_probe(self) -> bool:
        """Whether an ordinary call may go when its moment has come: nothing is to be learnt from the provider."""
        return self.state in {"open", *DATABASE_STATES}

    @property
    def is_untroubled(self) -> bool:
        """Whether it is open, and no call has failed since the last answer."""
        return self.state == "open" and self.strikes == 0

    def counted(self, now: datetime) -> MonthCount:
        """What is counted of the month that `now` lies in, or of a later one that has begun.

        That one stays when the clock steps back behind its begin: another month would take the place of its count.
        """
        month = max(self.month, month_of(now))
        if month == self.month:
            return MonthCount(month, self.month_spent, self.next_month_spent)
        last_month = datetime(now.year, now.month, 1, tzinfo=UTC) - timedelta(days=1)
        return MonthCount(month, self.next_month_spent if self.month == month_of(last_month) else 0, 0)

    def spent(self, now: datetime) -> int:
        """Cities spent of that month."""
        return self.counted(now).spent


class Observation(NamedTuple):
    """What the provider returned for one city."""

    city_id: int
    name: str | None
    country: str | None
    """ISO 3166 code of two letters."""
    latitude: float | None
    longitude: float | None
    observed_at: datetime
    """When the provider says it was so."""
    temperature: float
    """°C."""
    humidity: float | None
    """%; above 100 has been seen."""
    feels_like: float | None = None
    """°C."""
    pressure: float | None = None
    """hPa."""
    wind_speed: float | None = None
    """m/s."""
    wind_deg: float | None = None
    """Degrees, where the wind comes from."""
    clouds: float | None = None
    """% of the sky."""
    visibility: float | None = None
    """m."""
    rain_1h: float | None = None
    """mm in the last hour."""
    snow_1h: float | None = None
    """mm in the last hour."""
    condition_id: int | None = None
    """The provider's code, for example 800 for a clear sky."""
    description: str | None = None
    utc_offset_s: int | None = None
    """Seconds that local time is ahead of UTC."""


EventType = Literal[
    "message",
    "collection.finished",
    "collection.finished_with_failures",
    "collection.cancelled",
    "gate.closed",
    "key.refused",
    "dead_letter",
]
"""`message`: a client posted it. The others: the system caused it."""


@dataclass(frozen=True, slots=True)
class EventState:
    """An event as it is stored."""

    number: int
    """Its place in the order of events."""
    event_id: str
    """A UUID."""
    type: EventType
    user_id: str
    """Who is to be notified: a client's text; for the system's own events the collection, the account or the topic."""
    description: str
    status: Literal["NotProcessed", "Processed"]
    created_at: datetime
    revision: int
    """How often a client has changed it."""


DeliveryStatus = Literal["waiting", "delivered", "gone", "given_up"]
"""`gone`: the receiver answered 410. `given_up`: the last attempt failed."""


@dataclass(frozen=True, slots=True)
class DeliveryState:
    """How the delivery of an event to a webhook stands."""

    webhook: str
    """Its URL without user, password and query."""
    status: DeliveryStatus
    attempts: int
    """Those whose outcome is known."""
    last_status: int | None
    """The HTTP status of the last answer; None if the last attempt got none."""
    last_error: str | None
    """Why the last attempt failed."""
    next_attempt_at: datetime | None
    """None: it is not waiting."""
