"""The hand-off through Kafka, as composition roots construct it. Needs the extra `kafka`."""

from raingauge.messaging.kafka.admission import admitted
from raingauge.messaging.kafka.client import Timeouts
from raingauge.messaging.kafka.cluster import Cluster, cluster_of, servers_of
from raingauge.messaging.kafka.publisher import KafkaPublisher
from raingauge.messaging.kafka.subscription import KafkaSubscription
from raingauge.messaging.kafka.topics import ensure_topics, keep_topics, stream_topics, topics_of

__all__ = [
    "Cluster",
    "KafkaPublisher",
    "KafkaSubscription",
    "Timeouts",
    "admitted",
    "cluster_of",
    "ensure_topics",
    "keep_topics",
    "servers_of",
    "stream_topics",
    "topics_of",
]
