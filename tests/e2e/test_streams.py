"""The streams on real Kafka: complete although the producer is killed, and readable by Kafka Connect."""

import asyncio
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from uuid import uuid4

import pytest
from aiokafka import ConsumerRecord
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from jsonschema import Draft202012Validator
from sqlalchemy import update

from raingauge.database import open_database
from raingauge.storage.models import OutgoingReading
from tests.contract.messaging_helpers import SERVER, with_admin
from tests.e2e.running import all_in, kafka_settings, settings_for
from tests.support.databases import need, server_schema
from tests.support.eventually import eventually
from tests.support.processes import ROOT, Program, launched, program, simulator

pytestmark = [pytest.mark.services, pytest.mark.timeout(180)]

CITIES = 167
LIBRARIES = ROOT / "var/services/kafka/libs"
KILLED = -9
REPUBLISHED_S = 60.0


@dataclass
class System:
    """A consumer at work, and what producers need."""

    settings: Mapping[str, str]
    readings: str
    latest: str


@contextmanager
def system(form: str) -> Iterator[System]:
    with ExitStack() as parts:
        kafka = parts.enter_context(kafka_settings())
        name = uuid4().hex[:8]
        topics = {"streams__readings_topic": f"readings_{name}", "streams__latest_topic": f"latest_{name}"}
        url = parts.enter_context(server_schema("mariadb"))
        weather = parts.enter_context(simulator("--quota", "10000", "--window-s", "1"))
        streams = {"streams__enabled": True, "streams__format": form, **topics}
        quota = {"quota__cities_per_window": 10_000, "quota__window_s": 1, "quota__month_pacing": "none"}
        settings = settings_for(weather.url, url, {**kafka, **streams, **quota})
        parts.callback(lambda: asyncio.run(with_admin(SERVER, lambda admin: admin.delete_topics([*topics.values()]))))
        parts.enter_context(program("consumer", settings=settings))
        yield System(settings, *topics.values())


def headers(message: ConsumerRecord) -> dict[str, str]:
    return {name: value.decode() for name, value in message.headers}


def ids(topic: str) -> list[str]:
    return [headers(message)["ce_id"] for message in all_in(topic)]


async def cleanup_policy(topic: str) -> str:
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)
    (answer,) = await with_admin(SERVER, lambda admin: admin.describe_configs([resource]))
    (described,) = answer.resources
    return str({entry[0]: entry[1] for entry in described[4]}["cleanup.policy"])


def as_kafka_connect_reads(values: Sequence[bytes]) -> list[dict[str, str]]:
    """The fields of each value, as Kafka's own JsonConverter makes them: class and text."""
    need(list(LIBRARIES.glob("connect-json-*.jar")), "Kafka's libraries lack connect-json: run `make services` anew")
    java = ["java", "-cp", f"{LIBRARIES}/*", str(ROOT / "tests/support/ConnectJson.java")]
    given = b"\n".join(values)
    done = subprocess.run(java, input=given, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    found: list[dict[str, str]] = []
    for line in done.stdout.decode().splitlines():
        name, _, value = line.partition(" ")
        if name == "struct":
            found.append({})
        found[-1][name] = value
    return found


def validate(messages: Sequence[ConsumerRecord], producer: Program, name: str) -> None:
    """Messages are what the producer says of them."""
    value = Draft202012Validator(producer.get(f"/schemas/{name}.json"))
    told = Draft202012Validator(producer.get("/asyncapi.json")["components"]["messages"][name]["headers"])
    for message in messages:
        value.validate(json.loads(message.value))
        told.validate(headers(message))
        assert message.key.decode() == headers(message)["ce_id"].split("/")[name == "reading"]


def test_a_producer_that_is_killed_between_publishing_and_removing_publishes_again() -> None:
    with system("json") as running, ExitStack() as parts:
        arguments = ("tests.chaos.crashing", "producer", "--point", "remove-before-commit")
        doomed = parts.enter_context(launched(*arguments, settings=running.settings))
        doomed.wait_until_it_serves()
        assert doomed.collect(id=1).status_code == 202
        eventually(lambda: doomed.process.poll() is not None, 60)
        assert doomed.ended() == KILLED, doomed.output
        before = ids(running.readings)
        assert before
        producer = parts.enter_context(program("producer", settings=running.settings))
        producer.done(1)
        with closing(open_database(running.settings["RAINGAUGE_DATABASE__URL"])) as database:
            # As when the lease of the one that was killed has run out.
            database.write(lambda c: c.execute(update(OutgoingReading).values(publish_at=OutgoingReading.stored_at)))
        eventually(lambda: len(ids(running.readings)) >= CITIES + len(before), REPUBLISHED_S, every_s=1)
        eventually(lambda: len(set(ids(running.latest))) == CITIES, REPUBLISHED_S, every_s=1)
        published, newest = all_in(running.readings), all_in(running.latest)
        wanted = {f"1/{row['city_id']}" for row in producer.get("/get", id=1)["data"]}
        found = {headers(message)["ce_id"] for message in published}
        assert sorted(name.rpartition("/")[0] for name in found) == sorted(wanted), "each once, without duplicates"
        assert {message.key.decode() for message in newest} == {one.partition("/")[2] for one in wanted}
        validate(published, producer, "reading")
        validate(newest, producer, "latest")
        policies = [asyncio.run(cleanup_policy(topic)) for topic in (running.readings, running.latest)]
        assert policies == ["delete", "compact"]


def test_kafka_connect_reads_both_streams_with_its_own_converter() -> None:
    with system("connect-json") as running, program("producer", settings=running.settings) as producer:
        assert producer.collect(id=1).status_code == 202
        producer.done(1)
        eventually(lambda: len(set(ids(running.latest))) == CITIES, 60, every_s=1)
        some = [*all_in(running.readings), *all_in(running.latest)]
        rows = {row["city_id"]: row for row in producer.get("/get", id=1, fields="description")["data"]}
        validate(some[-1:], producer, "latest")
        structs = as_kafka_connect_reads([message.value for message in some])
    assert len(structs) == len(some)
    for message, struct in zip(some, structs, strict=True):
        row = rows[int(message.key)]
        assert struct["struct"] == headers(message)["ce_type"]
        assert struct["city_id"] == f"Integer {row['city_id']}"
        assert struct["temperature"] == f"Double {row['temperature']}"
        assert struct["fetched_at"] == f"Date {row['fetched_at']}"
        assert struct["description"] == f"String {row['description']}"
