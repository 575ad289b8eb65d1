"""Producer and consumers as processes on real Kafka and real MariaDB, sharing one quota."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from sqlalchemy import func, select

from raingauge.database import open_database
from raingauge.settings import Settings
from raingauge.storage.models import Reading
from tests.contract.messaging_helpers import with_admin
from tests.e2e.running import all_in, kafka_settings, settings_for
from tests.support.databases import server_schema
from tests.support.eventually import eventually
from tests.support.processes import Program, program, simulator

pytestmark = [pytest.mark.services, pytest.mark.timeout(180)]

WINDOW_S = 6.0
QUOTA = 60
CITIES = 167
OPTIMUM_S = 160 * WINDOW_S / 60
MOST_CALLS = 14
"""Ten at full scale (tests/simulation/test_optimum.py); at a tenth of it, a busy machine's delays split some."""
NOTIFICATION = "has been sent to 1: collection 1 is done: 167 cities collected"
INSPECTION = "127.0.0.1:9094"


@dataclass
class System:
    """What runs."""

    weather: Program
    producer: Program
    consumers: list[Program]
    database_url: str
    topic: str
    group: str


@contextmanager
def system(consumers: int, *simulated: str) -> Iterator[System]:
    with ExitStack() as parts:
        kafka = parts.enter_context(kafka_settings())
        url = parts.enter_context(server_schema("mariadb"))
        weather = parts.enter_context(
            simulator("--quota", str(QUOTA), "--window-s", str(WINDOW_S), "--latency-s", "0.02", *simulated)
        )
        settings = settings_for(weather.url, url, {"quota__window_s": WINDOW_S} | kafka)
        producer = parts.enter_context(program("producer", settings=settings))
        workers = [parts.enter_context(program("consumer", settings=settings)) for _ in range(consumers)]
        for worker in workers:
            eventually(partial(ready, worker), 30)
        yield System(weather, producer, workers, url, str(kafka["broker__topic"]), str(kafka["broker__group"]))


def ready(consumer: Program) -> bool:
    """Whether it has partitions to work on."""
    return any("handoff.assigned" in line for line in consumer.lines)


def notifications(running: System) -> list[str]:
    """What the consumers printed of events, without their ids."""
    lines = [line for consumer in running.consumers for line in consumer.lines if line.startswith("Event ")]
    return [line.split(maxsplit=2)[2] for line in lines]


async def lag(topic: str, group: str) -> int:
    """Messages that the group has not acknowledged."""
    committed = await with_admin(INSPECTION, lambda admin: admin.list_consumer_group_offsets(group))
    [described] = await with_admin(INSPECTION, lambda admin: admin.describe_topics([topic]))
    async with AIOKafkaConsumer(bootstrap_servers=INSPECTION) as reader:
        partitions = [TopicPartition(topic, entry["partition"]) for entry in described["partitions"]]
        assert partitions
        ends = await reader.end_offsets(partitions)
    done = {partition: entry.offset for partition, entry in committed.items()}
    return sum(end - max(0, done.get(partition, 0)) for partition, end in ends.items())


def test_two_consumers_share_one_quota_and_store_each_city_once() -> None:
    with system(consumers=2) as running:
        answer = running.producer.collect(id=1)
        assert (answer.status_code, answer.json()["batches"]) == (202, 9)
        state = running.producer.done(1, OPTIMUM_S + 40)
        published = [json.loads(message.value) for message in all_in(running.topic)]
        witness = running.weather.get("/control/witness")
        eventually(lambda: notifications(running) == [NOTIFICATION], 20)
        eventually(lambda: asyncio.run(lag(running.topic, running.group)) == 0, 20)
        seen, metrics = running.producer.scrape(), [consumer.scrape() for consumer in running.consumers]
        with closing(open_database(running.database_url)) as database:
            rows = database.read(lambda c: c.execute(select(func.count(Reading.city_id.distinct()))).scalar_one())
    assert sorted(len(message["city_ids"]) for message in published) == [7] + [20] * 8
    assert {message["collection_id"] for message in published} == {"1"}
    assert (state["collected"], state["failed"], rows) == (CITIES, 0, CITIES)
    assert set(witness["statuses"]) == {"200"}
    assert witness["most_in_window"] <= QUOTA
    assert witness["units"] == CITIES
    assert witness["calls"] <= MOST_CALLS
    assert witness["last_at_s"] - witness["first_at_s"] <= 1.05 * OPTIMUM_S
    assert sum(each["raingauge_provider_cities_requested_total"] for each in metrics) == CITIES
    lags = [name for each in metrics for name in each if "lag_messages" in name]
    assert len(set(lags)) == len(lags) == Settings.model_fields["broker"].default.partitions
    assert sum(each[name] for each in metrics for name in each if "lag_messages" in name) == 0
    assert (seen["raingauge_consumers_alive"], seen["raingauge_collections{state=done}"]) == (2, 1)
    assert seen["raingauge_quota_month_spent_cities"] == CITIES
    for part in (running.producer, *running.consumers):
        assert "Traceback" not in part.output


def test_a_retired_group_endpoint_is_probed_once_for_all_consumers() -> None:
    with system(2, "--group", "removed") as running:
        running.producer.collect(id="seven", cities=list(range(3439525, 3439525 + 40)))
        running.producer.done("seven")
        witness = running.weather.get("/control/witness")
    assert witness["group_units"] == 1
    assert witness["units"] == 41
    assert witness["most_in_window"] <= QUOTA
