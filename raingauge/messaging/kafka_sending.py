"""Giving a record to aiokafka's client, once its topic is there. It must not have the broker make the topic."""

import asyncio
import random
from dataclasses import dataclass
from typing import Any

from aiokafka.errors import KafkaError, KafkaTimeoutError, UnknownTopicOrPartitionError
from aiokafka.protocol.metadata import MetadataRequest

from raingauge.messaging.kafka_client import seen
from raingauge.messaging.port import Headers


@dataclass(frozen=True, slots=True)
class Record:
    """What is to be sent."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers


class Topics:
    """Which topics are there. Many may wait for one: the broker is asked once for all of them, and rarely."""

    def __init__(self, producer: Any, pause_s: float) -> None:
        self._client = producer.client
        self._pause_s = pause_s
        self._asked: dict[str, asyncio.Task[bool]] = {}

    async def require(self, topic: str) -> None:
        """Return when it is there.

        Raises:
            UnknownTopicOrPartitionError: it is not, or was not a moment ago.
            KafkaTimeoutError: nobody knows.
        """
        if self._client.cluster.partitions_for_topic(topic) is not None:
            return
        if topic not in self._asked:
            asking = self._asked[topic] = asyncio.create_task(self._is_there(topic))
            asking.add_done_callback(seen)
            asking.add_done_callback(lambda _: self._forget_later(topic))
        try:
            is_there = await asyncio.shield(self._asked[topic])
        except KafkaError as error:
            raise KafkaTimeoutError from error
        if not is_there:
            raise UnknownTopicOrPartitionError(topic)

    async def _is_there(self, topic: str) -> bool:
        # Asked by name a broker may make the topic, with its own defaults, unless it is told not to.
        request = MetadataRequest([topic], allow_auto_topic_creation=False)
        answer = await self._client.send(self._client.get_random_node(), request)
        return any(name == topic and code == 0 for code, name, *_ in answer.topics)

    def _forget_later(self, topic: str) -> None:
        asyncio.get_running_loop().call_later(self._pause_s, self._asked.pop, topic, None)


async def send(producer: Any, topics: Topics, record: Record) -> asyncio.Future[Any]:
    """Give the record to the client; the promise of an outcome.

    Raises:
        KafkaError: the client did not take it.
    """
    await topics.require(record.topic)
    headers = list(record.headers)
    stored: asyncio.Future[Any]
    if record.key is None and record.value is None:  # Kafka allows it, but aiokafka's send() does not
        batch = producer.create_batch()
        batch.append(timestamp=None, key=None, value=None, headers=headers)
        partition = random.choice(sorted(await producer.partitions_for(record.topic)))
        stored = await producer.send_batch(batch, record.topic, partition=partition)
    else:
        stored = await producer.send(record.topic, record.value, record.key, headers=headers)
    return stored
