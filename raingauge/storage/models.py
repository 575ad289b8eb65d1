"""The tables, written once. Migrations build them, every statement speaks through them; no logic lives here.

All times are UTC with microseconds. Ids that a client chose compare byte by byte in every database.
"""

from datetime import datetime
from typing import Final

from sqlalchemy import (
    BigInteger,
    Computed,
    Double,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    Text,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from raingauge.database.types import UtcDateTime, exact, words
from raingauge.storage.weather import Weather

OPEN: Final = 0
DONE: Final = 1
CANCELLED: Final = 2
REMOVING_READINGS: Final = 1
REMOVING_ALL: Final = 2
STANDING: Final = "CASE WHEN finished_at IS NULL THEN 0 WHEN cancelled_at IS NULL THEN 1 ELSE 2 END"


class Schema(DeclarativeBase):
    """The schema."""

    type_annotation_map = {datetime: UtcDateTime, str: words(200), float: Double()}  # noqa: RUF012


class Collection(Schema):
    """One POST, named by the client's id."""

    __tablename__ = "collections"

    id: Mapped[str] = mapped_column(exact(64), primary_key=True)
    requested_at: Mapped[datetime]
    max_age_s: Mapped[int]
    cities_hash: Mapped[str] = mapped_column(exact(64))
    total: Mapped[int]
    collected: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    last_turn: Mapped[int] = mapped_column(BigInteger, default=0)
    """The turn of its last city in the queue."""
    enqueued: Mapped[int] = mapped_column(default=0)
    """Cities of its delivered batches, settled ones too."""
    released: Mapped[int] = mapped_column(default=0)
    """Batches that the relay may publish so far: those with a lower number."""
    last_progress_at: Mapped[datetime | None]
    idle_since: Mapped[datetime | None]
    """The relay checks a collection for lost messages when this moment lies far enough in the past."""
    finished_at: Mapped[datetime | None]
    """When it was settled or cancelled; NULL while it is open."""
    cancelled_at: Mapped[datetime | None]
    traceparent: Mapped[str | None] = mapped_column(exact(55))
    """The W3C trace context of the POST."""
    requested_by: Mapped[str | None] = mapped_column(exact(64))
    """The name of the token that the POST carried, or `schedule:` and the schedule's name."""
    readings_pruned_at: Mapped[datetime | None]
    """When its readings were deleted because of their age."""
    removing: Mapped[int | None] = mapped_column(SmallInteger, index=True)
    """REMOVING_READINGS or REMOVING_ALL while its rows are being removed, else NULL. To clients the latter is gone."""
    standing: Mapped[int | None] = mapped_column(SmallInteger, Computed(STANDING, persisted=True))
    """OPEN, DONE or CANCELLED: what lists are selected by. The database computes it."""

    __table_args__ = (
        Index("ix_collections_open", "finished_at", "idle_since"),
        Index("ix_collections_listed", "standing", "requested_at", "id"),
        Index("ix_collections_requested_by", "requested_by", "finished_at"),
        Index("ix_collections_prunable", "readings_pruned_at", "finished_at"),
    )


class Deletion(Schema):
    """A collection that was deleted: messages of it may still be in the hand-off."""

    __tablename__ = "deletions"

    id: Mapped[str] = mapped_column(exact(64), primary_key=True)
    """The collection's id. A later collection may have it, too."""
    requested_at: Mapped[datetime]
    """That of the last one that was deleted."""
    deleted_at: Mapped[datetime] = mapped_column(index=True)


class Lease(Schema):
    """Work that one process does at a time."""

    __tablename__ = "leases"

    id: Mapped[str] = mapped_column(exact(40), primary_key=True)
    """Of the work."""
    holder: Mapped[str] = mapped_column(exact(64))
    until: Mapped[datetime]


class Batch(Schema):
    """At most 20 cities of a collection; one message."""

    __tablename__ = "batches"

    collection_id: Mapped[str] = mapped_column(exact(64), ForeignKey("collections.id"), primary_key=True)
    batch: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    city_ids: Mapped[str] = mapped_column(Text)
    """JSON list."""
    size: Mapped[int]
    settled: Mapped[int] = mapped_column(default=0)
    publish_order: Mapped[int | None] = mapped_column(index=True)
    """Set while it waits for publication: the lowest goes first. NULL: unreleased, leased, published or over."""
    published_at: Mapped[datetime | None]
    leased_by: Mapped[str | None] = mapped_column(exact(64))
    lease_until: Mapped[datetime | None] = mapped_column(index=True)
    attempts: Mapped[int] = mapped_column(default=0)
    """How often it met an unexpected error."""
    settled_at: Mapped[datetime | None]


class QueuedCity(Schema):
    """A wanted city of a batch that is being worked on.

    It is ready (it has a turn), claimed (a call is fetching it: `charge_id`) or resting (neither). Claimed and resting
    cities get a turn again at `ready_at`.
    """

    __tablename__ = "queue"

    collection_id: Mapped[str] = mapped_column(exact(64), primary_key=True)
    city_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    batch: Mapped[int]
    account: Mapped[str] = mapped_column(exact(64))
    """The provider account of the consumer that enqueued it."""
    since: Mapped[datetime]
    """An observation fetched at or after this moment is fresh enough."""
    newcomer: Mapped[bool | None]
    """One of the first few cities of a small collection, which go ahead of the others. NULL: it has no turn."""
    turn: Mapped[int | None] = mapped_column(BigInteger)
    ready_at: Mapped[datetime | None]
    charge_id: Mapped[int | None] = mapped_column(BigInteger)
    attempts: Mapped[int] = mapped_column(default=0)
    """Failures that count; from 2 on it is requested alone."""

    __table_args__ = (
        Index("ix_queue_turn", "account", "newcomer", "turn"),
        Index("ix_queue_ready", "account", "ready_at"),
        Index("ix_queue_city", "city_id", "charge_id"),
    )


class City(Weather, Schema):
    """A city as the provider knows it, with its latest observation."""

    __tablename__ = "cities"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    name: Mapped[str | None]
    country: Mapped[str | None]
    latitude: Mapped[float | None]
    longitude: Mapped[float | None]
    unknown_at: Mapped[datetime | None]
    """When the provider last said that it does not know this id, if it had said so before."""
    doubted_at: Mapped[datetime | None]
    """When it said so first, since the last observation."""

    __table_args__ = (Index("ix_cities_fetched_at", "fetched_at"),)


class Reading(Weather, Schema):
    """What is stored for one city of one collection. Once written it never changes."""

    __tablename__ = "readings"

    collection_id: Mapped[str] = mapped_column(exact(64), ForeignKey("collections.id"), primary_key=True)
    city_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    status: Mapped[str] = mapped_column(exact(16))
    """collected or failed."""
    reason: Mapped[str | None]

    __table_args__ = (Index("ix_readings_history", "city_id", "fetched_at"),)


class QuotaGate(Schema):
    """The quota's row for one provider account; locking it orders all reservations."""

    __tablename__ = "quota_gate"

    account: Mapped[str] = mapped_column(exact(64), primary_key=True)
    cities_per_window: Mapped[int]
    window_s: Mapped[float]
    pacing: Mapped[str] = mapped_column(exact(16))
    last_now: Mapped[datetime]
    """Database time of the last charge; set back only when the clock is seen to step back."""
    next_start_at: Mapped[datetime]
    """Smooth pacing: when the next full call may start."""
    turn: Mapped[int] = mapped_column(BigInteger, default=0)
    """The highest turn that any reservation took."""
    state: Mapped[str] = mapped_column(exact(16))
    """open, or why it is closed: quota, key, provider, database, failover."""
    blocked_until: Mapped[datetime]
    strikes: Mapped[int] = mapped_column(default=0)
    """Refusals or failures in a row."""
    probe_until: Mapped[datetime]
    """A probe is under way until then at the latest."""
    endpoint: Mapped[str] = mapped_column(exact(16))
    """What `auto` found: unknown, refused (group refused, single not tried yet), group or single."""
    endpoint_at: Mapped[datetime]
    month: Mapped[str] = mapped_column(exact(7))
    """For example 2026-11 (UTC)."""
    month_spent: Mapped[int] = mapped_column(BigInteger, default=0)
    next_month_spent: Mapped[int] = mapped_column(BigInteger, default=0)
    """What the last seconds of the month have spent of the next one, too."""
    refused_key: Mapped[str | None] = mapped_column(exact(64))
    """A salted hash of the key that the provider refused last."""
    database_id: Mapped[str | None] = mapped_column(exact(200))
    """The server that the gate was last used on (`raingauge.database.identity`); NULL where servers have none."""


class QuotaCharge(Schema):
    """Quota held for calls. Never deleted before its release, never refunded."""

    __tablename__ = "quota_charges"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    account: Mapped[str] = mapped_column(exact(64))
    consumer: Mapped[str] = mapped_column(exact(64))
    cost: Mapped[int]
    reserved_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    """The last moment at which the provider may count one of its calls; held for one window longer."""
    closed_at: Mapped[datetime | None]
    """When all its answers were in; NULL before, or when they never arrived."""
    calls: Mapped[int | None]
    """Calls that it covers. NULL: version 0.1.0 reserved it."""
    outcome: Mapped[str | None] = mapped_column(exact(16))
    """Of a closed charge: answered, quota, key or endpoint, as `consumer.gate.Event`. NULL: version 0.1.0 closed it."""

    __table_args__ = (
        Index("ix_quota_charges_held", "account", "ends_at", "cost", "closed_at"),
        Index("ix_quota_charges_reserved", "account", "reserved_at"),
    )


class QuotaTerms(Schema):
    """What an account may spend, from a moment on: what the proof measures its charges by."""

    __tablename__ = "quota_terms"

    account: Mapped[str] = mapped_column(exact(64), primary_key=True)
    since: Mapped[datetime] = mapped_column(primary_key=True)
    cities_per_window: Mapped[int]
    window_s: Mapped[float]
    cities_per_month: Mapped[int] = mapped_column(BigInteger)


class Schedule(Schema):
    """A collection that is started again and again."""

    __tablename__ = "schedules"

    name: Mapped[str] = mapped_column(exact(40), primary_key=True)
    cron: Mapped[str | None] = mapped_column(exact(120))
    every_s: Mapped[int | None]
    zone: Mapped[str] = mapped_column(exact(64))
    city_ids: Mapped[str | None] = mapped_column(Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb"))
    """JSON list; NULL: the default cities."""
    cities: Mapped[int | None]
    """How many these are; NULL: the default cities."""
    max_age_s: Mapped[int]
    missed: Mapped[str] = mapped_column(exact(16))
    """skip or latest."""
    overlap: Mapped[str] = mapped_column(exact(16))
    """skip, queue or cancel_previous."""
    origin: Mapped[str] = mapped_column(exact(16))
    """settings or api."""
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]
    paused_at: Mapped[datetime | None]
    next_at: Mapped[datetime | None] = mapped_column(index=True)
    """The nominal time of the next run; NULL while it is paused."""


class ScheduledRun(Schema):
    """A nominal time of a schedule that has passed, and what became of it."""

    __tablename__ = "scheduled_runs"

    schedule: Mapped[str] = mapped_column(exact(40), primary_key=True)
    nominal_at: Mapped[datetime] = mapped_column(primary_key=True)
    decided_at: Mapped[datetime]
    collection_id: Mapped[str | None] = mapped_column(exact(64))
    """NULL: the run was skipped."""
    reason: Mapped[str | None]
    """Why it was skipped."""


class Token(Schema):
    """A client's key to the API. The key itself is not stored."""

    __tablename__ = "tokens"

    name: Mapped[str] = mapped_column(exact(64), primary_key=True)
    sha256: Mapped[str] = mapped_column(exact(64), unique=True)
    scope: Mapped[str] = mapped_column(exact(8))
    """read, write or admin; each includes those before it."""
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class ConsumerBeat(Schema):
    """A consumer that is alive, by its last heartbeat."""

    __tablename__ = "consumers"

    id: Mapped[str] = mapped_column(exact(64), primary_key=True)
    account: Mapped[str] = mapped_column(exact(64))
    seen_at: Mapped[datetime]
    partitions_held: Mapped[int] = mapped_column(default=0)
    """Each waits behind a message that this consumer cannot process."""


class Event(Schema):
    """Something that a user is notified of."""

    __tablename__ = "events"

    number: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    event_id: Mapped[str] = mapped_column(exact(36), unique=True)
    type: Mapped[str] = mapped_column(exact(40))
    user_id: Mapped[str]
    description: Mapped[str] = mapped_column(words(2000))
    status: Mapped[str] = mapped_column(exact(16))
    """NotProcessed or Processed."""
    created_at: Mapped[datetime]
    revision: Mapped[int] = mapped_column(default=0)
    """How often a client has changed it."""
    publish_at: Mapped[datetime | None] = mapped_column(index=True)
    """When it is to be published, or published again. NULL: it is processed."""


class Webhook(Schema):
    """A receiver of events, as the consumer that started last has it in its settings."""

    __tablename__ = "webhooks"

    id: Mapped[str] = mapped_column(exact(64), primary_key=True)
    """SHA-256 of its URL."""
    url: Mapped[str] = mapped_column(words(2083))
    """Without user, password and query."""
    types: Mapped[str] = mapped_column(Text)
    """JSON list of the event types that it receives; empty: it was removed from the settings."""


class WebhookDelivery(Schema):
    """An event that a webhook is to receive; stored with the event."""

    __tablename__ = "webhook_deliveries"

    event_number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    webhook_id: Mapped[str] = mapped_column(exact(64), primary_key=True)
    status: Mapped[str] = mapped_column(exact(16))
    """waiting, delivered, gone or given_up."""
    attempts: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime | None]
    """When it is attempted, or attempted again. NULL: it is not waiting."""
    last_status: Mapped[int | None]
    last_error: Mapped[str | None]

    __table_args__ = (Index("ix_webhook_deliveries_due", "webhook_id", "due_at"),)


class OutgoingReading(Schema):
    """A reading that is to be published on the streams; deleted when it is."""

    __tablename__ = "outgoing"

    number: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    collection_id: Mapped[str] = mapped_column(exact(64))
    city_id: Mapped[int]
    stored_at: Mapped[datetime]
    publish_at: Mapped[datetime] = mapped_column(index=True)
    """When it is to be published, or published again."""
