"""The hand-off through Kafka: what composition roots construct. Needs the extra `kafka`."""

from raingauge.messaging.kafka_client import Patience, servers_of
from raingauge.messaging.kafka_publisher import KafkaPublisher
from raingauge.messaging.kafka_subscription import KafkaSubscription
from raingauge.messaging.kafka_topics import ensure_topics, keep_topics

__all__ = ["KafkaPublisher", "KafkaSubscription", "Patience", "ensure_topics", "keep_topics", "servers_of"]
