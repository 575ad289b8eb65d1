"""The topics of the hand-off: created when missing, checked when present.

It must not change an existing topic: that is an operator's decision, so unsuitable settings are only logged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Self

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from raingauge.clock import Clock
from raingauge.contracts import MAX_MESSAGE_BYTES, dead_letter_topic
from raingauge.errors import HandoffUnavailable
from raingauge.messaging.kafka.causes import one_line
from raingauge.messaging.kafka.client import DEFAULT_TIMEOUTS, Brokers, Timeouts, log, stop_client
from raingauge.messaging.kafka.cluster import Cluster
from raingauge.settings import BrokerSettings

REPLICAS: Final = 3
UNLIMITED: Final = "-1"
WEEK: Final = "604800000"
EVENT_PARTITIONS: Final = 3
CHECK_EVERY_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Topic:
    """The required properties of a topic."""

    name: str
    partitions: int
    max_message_bytes: int
    retention_ms: str = UNLIMITED
    compacted: bool = False
    """Kafka keeps the last message of each key."""

    def settings(self, replicas: int = 1) -> dict[str, str]:
        """Its Kafka configuration. With three replicas, a message is stored once two of them have it."""
        kept = {"cleanup.policy": "compact"} if self.compacted else {"retention.ms": self.retention_ms}
        settings = kept | {"max.message.bytes": str(self.max_message_bytes)}
        return settings | ({"min.insync.replicas": "2"} if replicas >= REPLICAS else {})


@dataclass(frozen=True, slots=True)
class Creation:
    """How missing topics are created. `replication_factor` 0: three, or one for each broker if there are fewer."""

    allowed: bool = True
    replication_factor: int = 0

    @classmethod
    def of(cls, settings: BrokerSettings) -> Self:
        """As `broker.create_topics` and `broker.replication_factor` say."""
        return cls(settings.create_topics, settings.replication_factor)


def topics_of(topic: str, partitions: int, events: str | None = None) -> tuple[Topic, ...]:
    """The topic of batches, its dead-letter topic, whose messages have room for additional headers, and that of events.

    Events are kept for a week: the database has them all.
    """
    dead = Topic(dead_letter_topic(topic), 1, 2 * MAX_MESSAGE_BYTES)
    of_events = (Topic(events, EVENT_PARTITIONS, MAX_MESSAGE_BYTES, WEEK),) if events else ()
    return Topic(topic, partitions, MAX_MESSAGE_BYTES), dead, *of_events


def stream_topics(readings: str, latest: str, partitions: int) -> tuple[Topic, ...]:
    """The topics of the streams. Readings are kept for a week: the database has them all."""
    return (
        Topic(readings, partitions, MAX_MESSAGE_BYTES, WEEK),
        Topic(latest, partitions, MAX_MESSAGE_BYTES, compacted=True),
    )


async def ensure_topics(
    cluster: Cluster, required: Sequence[Topic], clock: Clock, timeouts: Timeouts = DEFAULT_TIMEOUTS
) -> None:
    """Return when the topics exist. Retries for ever: run it in a task."""
    ensure = partial(ensure_with, required=required, creation=Creation.of(cluster.settings))
    make = partial(_make_admin, cluster)
    await stop_client(await Brokers(cluster, clock, timeouts).start(make, ensure), timeouts.stop_s)


async def keep_topics(cluster: Cluster, required: Sequence[Topic], clock: Clock) -> None:
    """Check the topics periodically, so that deleted ones are created again. Run it in a task."""
    while True:
        await ensure_topics(cluster, required, clock)
        await clock.sleep(CHECK_EVERY_S)


def _make_admin(cluster: Cluster) -> Any:
    return _Admin(**cluster.arguments(), request_timeout_ms=15_000)


class _Admin(AIOKafkaAdminClient):  # type: ignore[misc]  # aiokafka has no types
    async def stop(self) -> None:
        """Disconnect, under the name that the other clients use."""
        await self.close()


async def ensure_with(admin: Any, required: Sequence[Topic], creation: Creation = Creation()) -> None:
    """Create missing topics, if that is allowed, and warn about unsuitable ones.

    Raises:
        KafkaError: a topic is missing and cannot be created.
        HandoffUnavailable: a topic is missing and must not be created so.
    """
    # Lists all topics: a request for one topic by name would let the broker create it with its own defaults.
    found = {entry["topic"]: len(entry["partitions"]) for entry in await admin.describe_topics()}
    if missing := [topic for topic in required if topic.name not in found]:
        await _create(admin, missing, creation)
    for topic in required:
        if found.get(topic.name, topic.partitions) < topic.partitions:
            _warn(topic, "partitions", str(topic.partitions), str(found[topic.name]))
    await _check_settings(admin, [topic for topic in required if topic.name in found])


async def _create(admin: Any, missing: Sequence[Topic], creation: Creation) -> None:
    if not creation.allowed:
        raise HandoffUnavailable(f"broker.create_topics is false: {_described(missing)}")
    brokers = len((await admin.describe_cluster())["brokers"])
    replicas = creation.replication_factor or min(REPLICAS, brokers)
    if replicas > brokers:
        raise HandoffUnavailable(f"broker.replication_factor is {replicas}, more than there are brokers ({brokers})")
    new = [NewTopic(t.name, t.partitions, replicas, topic_configs=t.settings(replicas)) for t in missing]
    response = await admin.create_topics(new)
    for name, code, *message in response.topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):  # another process may have been faster
            raise for_code(code)(f"{name}: {message}")
    log.info("handoff.topics_made", extra={"topics": [topic.name for topic in missing], "copies": replicas})


def _described(missing: Sequence[Topic]) -> str:
    """What an operator has to create."""
    topics = (f"{topic.name} ({topic.partitions} partitions, {_as_written(topic.settings())})" for topic in missing)
    return f"create {', '.join(topics)}, or let this user see them"


def _as_written(settings: dict[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items())


async def _check_settings(admin: Any, existing: Sequence[Topic]) -> None:
    resources = [ConfigResource(ConfigResourceType.TOPIC, t.name, configs=t.settings()) for t in existing]
    try:
        responses = await admin.describe_configs(resources) if resources else []
    except (KafkaError, NotImplementedError) as error:
        log.info("handoff.topics_not_looked_at", extra={"error": one_line(error)})
        return
    by_name = {topic.name: topic for topic in existing}
    for _, _, _, name, entries in (resource for response in responses for resource in response.resources):
        _compare(by_name[name], {entry[0]: entry[1] for entry in entries})


def _compare(topic: Topic, settings: dict[str, str]) -> None:
    if topic.compacted and settings.get("cleanup.policy", "compact") != "compact":
        _warn(topic, "cleanup.policy", "compact", settings["cleanup.policy"])
    forever = topic.retention_ms == UNLIMITED and not topic.compacted
    if forever and settings.get("retention.ms", UNLIMITED) != UNLIMITED:
        _warn(topic, "retention.ms", UNLIMITED, settings["retention.ms"])
    if int(settings.get("max.message.bytes", topic.max_message_bytes)) < topic.max_message_bytes:
        _warn(topic, "max.message.bytes", str(topic.max_message_bytes), settings["max.message.bytes"])


def _warn(topic: Topic, setting: str, required: str, found: str) -> None:
    extra = {"topic": topic.name, "setting": setting, "wanted": required, "found": found}
    log.warning("handoff.topic_unfit", extra=extra)
