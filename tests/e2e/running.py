"""What the tests of running systems share: settings, and a topic of their own on the Kafka of `make services`."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from uuid import uuid4

from aiokafka.admin import AIOKafkaAdminClient

from raingauge.contracts import dead_letter_topic
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
    asyncio.run(_delete(topic, dead_letter_topic(topic), events))


async def _delete(*topics: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers="127.0.0.1:9092")
    await admin.start()
    try:
        await admin.delete_topics([*topics])
    finally:
        await admin.close()
