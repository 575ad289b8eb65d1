"""The topics of the hand-off: made when missing, looked at when there.

It must not change a topic that exists: that is a person's decision, so what is unfit is only warned of.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from raingauge.clock import Clock
from raingauge.contracts import MAX_MESSAGE_BYTES, dead_letter_topic
from raingauge.messaging.kafka_client import PATIENT, Patience, ended, log, said, started

COPIES: Final = 3
FOR_EVER: Final = "-1"
LOOK_AGAIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Topic:
    """What a topic has to be like."""

    name: str
    partitions: int
    max_message_bytes: int

    def settings(self, brokers: int) -> dict[str, str]:
        """Its settings in Kafka's words. With three copies a message is stored when two have it."""
        settings = {"retention.ms": FOR_EVER, "max.message.bytes": str(self.max_message_bytes)}
        return settings | ({"min.insync.replicas": "2"} if brokers >= COPIES else {})


def topics_of(topic: str, partitions: int) -> tuple[Topic, Topic]:
    """The topic itself and the one for its dead letters, which have room for what is said about them."""
    dead = Topic(dead_letter_topic(topic), 1, 2 * MAX_MESSAGE_BYTES)
    return Topic(topic, partitions, MAX_MESSAGE_BYTES), dead


async def ensure_topics(
    servers: Sequence[str], topic: str, partitions: int, clock: Clock, patience: Patience = PATIENT
) -> None:
    """Return when the topic and its dead letters' exist. It tries for as long as that takes: run it in a task."""
    ensure = partial(ensure_with, wanted=topics_of(topic, partitions))
    admin = await started(
        lambda: _Admin(bootstrap_servers=list(servers), request_timeout_ms=15_000), ensure, clock, patience
    )
    await ended(admin, patience.stop_s)


async def keep_topics(servers: Sequence[str], topic: str, partitions: int, clock: Clock) -> None:
    """See to the topics again and again, so that they come back when somebody deletes them. Run it in a task."""
    while True:
        await ensure_topics(servers, topic, partitions, clock)
        await clock.sleep(LOOK_AGAIN_S)


class _Admin(AIOKafkaAdminClient):  # type: ignore[misc]  # aiokafka has no types
    async def stop(self) -> None:
        """End it as the other clients are ended."""
        await self.close()


async def ensure_with(admin: Any, wanted: Sequence[Topic]) -> None:
    """Make the missing ones and warn of unfit ones.

    Raises:
        KafkaError: a topic is missing and cannot be made.
    """
    # All topics are listed: to ask for one by name would let the broker create it with its own defaults.
    found = {entry["topic"]: len(entry["partitions"]) for entry in await admin.describe_topics()}
    if missing := [topic for topic in wanted if topic.name not in found]:
        await _make(admin, missing)
    for topic in wanted:
        if found.get(topic.name, topic.partitions) < topic.partitions:
            _warn(topic, "partitions", str(topic.partitions), str(found[topic.name]))
    await _look_at_settings(admin, [topic for topic in wanted if topic.name in found])


async def _make(admin: Any, missing: Sequence[Topic]) -> None:
    brokers = len((await admin.describe_cluster())["brokers"])
    copies = min(COPIES, brokers)
    new = [NewTopic(t.name, t.partitions, copies, topic_configs=t.settings(brokers)) for t in missing]
    response = await admin.create_topics(new)
    for name, code, *message in response.topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):  # another process may have been quicker
            raise for_code(code)(f"{name}: {message}")
    log.info("handoff.topics_made", extra={"topics": [topic.name for topic in missing], "copies": copies})


async def _look_at_settings(admin: Any, existing: Sequence[Topic]) -> None:
    resources = [ConfigResource(ConfigResourceType.TOPIC, t.name, configs=t.settings(brokers=1)) for t in existing]
    try:
        responses = await admin.describe_configs(resources) if resources else []
    except (KafkaError, NotImplementedError) as error:
        log.info("handoff.topics_not_looked_at", extra={"error": said(error)})
        return
    by_name = {topic.name: topic for topic in existing}
    for _, _, _, name, entries in (resource for response in responses for resource in response.resources):
        _compare(by_name[name], {entry[0]: entry[1] for entry in entries})


def _compare(topic: Topic, settings: dict[str, str]) -> None:
    if settings.get("retention.ms", FOR_EVER) != FOR_EVER:
        _warn(topic, "retention.ms", FOR_EVER, settings["retention.ms"])
    if int(settings.get("max.message.bytes", topic.max_message_bytes)) < topic.max_message_bytes:
        _warn(topic, "max.message.bytes", str(topic.max_message_bytes), settings["max.message.bytes"])


def _warn(topic: Topic, setting: str, wanted: str, found: str) -> None:
    extra = {"topic": topic.name, "setting": setting, "wanted": wanted, "found": found}
    log.warning("handoff.topic_unfit", extra=extra)
