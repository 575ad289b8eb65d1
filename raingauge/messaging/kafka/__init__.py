"""The hand-off through Kafka, as composition roots construct it. Needs the extra `kafka`."""

from raingauge.messaging.kafka.client import Timeouts, servers_of
from raingauge.messaging.kafka.publisher import KafkaPublisher
from raingauge.messaging.kafka.subscription import KafkaSubscription
from raingauge.messaging.kafka.topics import ensure_topics, keep_topics, stream_topics, topics_of

__all__ = [
    "KafkaPublisher",
    "KafkaSubscription",
    "Timeouts",
    "ensure_topics",
    "keep_topics",
    "servers_of",
    "stream_topics",
    "topics_of",
]
