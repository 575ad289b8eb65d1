"""What the tests of running systems share: settings, and a topic of their own on the Kafka of `make services`."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from raingauge.contracts import dead_letter_topic
from tests.contract.messaging_helpers import SERVER, with_admin
from tests.support.databases import need_port


def settings_for(
    provider_url: str, database_url: str, settings: Mapping[str, object], key: str = "simulator"
) -> dict[str, str]:
    """The environment of a program; more settings as `section__name`."""
    addresses = {"openweather__base_url": provider_url, "database__url": database_url, "http__port": 0}
    named = {f"RAINGAUGE_{name.upper()}": str(value) for name, value in {**addresses, **settings}.items()}
    return {"OPENWEATHER_API_KEY": key} | named


@contextmanager
def kafka_settings() -> Iterator[dict[str, object]]:
    """Settings for fresh topics, which are deleted at the end, and a group."""
    need_port(9092, "Kafka")
    topic = f"cities_{uuid4().hex[:8]}"
    events = f"events_{topic}"
    names = {"broker__topic": topic, "broker__events_topic": events, "broker__group": f"group_{topic}"}
    yield {"broker__url": "kafka://127.0.0.1:9092", **names}
    topics = [topic, dead_letter_topic(topic), events]
    asyncio.run(with_admin(SERVER, lambda admin: admin.delete_topics(topics)))


def all_in(*topics: str) -> list[ConsumerRecord]:
    """Every message of these topics."""

    async def read() -> list[ConsumerRecord]:
        described = await with_admin(SERVER, lambda admin: admin.describe_topics([*topics]))
        partitions = [
            TopicPartition(one["topic"], part["partition"]) for one in described for part in one["partitions"]
        ]
        async with AIOKafkaConsumer(bootstrap_servers=SERVER, auto_offset_reset="earliest") as reader:
            ends = await reader.end_offsets(partitions)
            reader.assign(partitions)
            found: list[ConsumerRecord] = []
            while len(found) < sum(ends.values()):
                found += [one for some in (await reader.getmany(timeout_ms=1000)).values() for one in some]
            return found

    return asyncio.run(read())
