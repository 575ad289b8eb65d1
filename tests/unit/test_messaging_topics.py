"""The broker's address, the backoff between attempts, and the requirements on topics; without Kafka."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource
from aiokafka.errors import IncompatibleBrokerVersion, PolicyViolationError

from raingauge.contracts import MAX_MESSAGE_BYTES
from raingauge.errors import SettingsError
from raingauge.messaging.kafka import servers_of
from raingauge.messaging.kafka.topics import ensure_with, stream_topics, topics_of

ALREADY_EXISTS, POLICY_VIOLATION = 36, 44
WANTED = topics_of("cities", 12)


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("kafka://localhost:9092", ("localhost:9092",)),
        ("kafka://a:9092,b.example.org:9093", ("a:9092", "b.example.org:9093")),
        ("kafka://10.0.0.1:9092, [::1]:9092/", ("10.0.0.1:9092", "[::1]:9092")),
    ],
)
def test_a_url_names_the_brokers(url: str, servers: tuple[str, ...]) -> None:
    assert servers_of(url) == servers


NO_BROKERS = [
    *("", "inprocess://", "http://host:9092", "kafka:host:9092", "kafka://", "kafka://:9092", "kafka://[::1:9092"),
    *(f"kafka://host{port}" for port in ("", ":", ":0", ":65536", ":many")),
    *(f"kafka://host:9092{more}" for more in (",", ",,other:9092", "/cities", "?acks=1")),
    *("kafka://kafka..local:9092", "kafka://user:secret@host:9092"),
]


@pytest.mark.parametrize("url", NO_BROKERS)
def test_nonsense_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        servers_of(url)
    assert "secret" not in str(caught.value)


class Admin:
    """A fake admin client: topics with their settings, and the error code of its answers."""

    def __init__(self, brokers: int = 1, answer: int = 0, **topics: tuple[int, dict[str, str]]) -> None:
        self.made: list[NewTopic] = []
        self.knows_settings = True
        self._brokers = brokers
        self._answer = answer
        self._topics = {name.replace("_", "."): topic for name, topic in topics.items()}

    async def describe_topics(self) -> list[dict[str, Any]]:
        return [{"topic": name, "partitions": list(range(count))} for name, (count, _) in self._topics.items()]

    async def describe_cluster(self) -> dict[str, Any]:
        return {"brokers": list(range(self._brokers))}

    async def create_topics(self, topics: list[NewTopic]) -> SimpleNamespace:
        self.made += topics
        return SimpleNamespace(topic_errors=[(topic.name, self._answer, "said the broker") for topic in topics])

    async def describe_configs(self, resources: list[ConfigResource]) -> list[SimpleNamespace]:
        if not self.knows_settings:
            raise IncompatibleBrokerVersion("unknown request")
        answers = [(0, None, 2, resource.name, list(self._topics[resource.name][1].items())) for resource in resources]
        return [SimpleNamespace(resources=answers)]


FIT: dict[str, str] = {"retention.ms": "-1", "max.message.bytes": str(2 * MAX_MESSAGE_BYTES)}


async def test_missing_topics_are_made_with_room_for_dead_letters_and_kept_for_ever() -> None:
    admin = Admin()
    await ensure_with(admin, WANTED)
    made = [(topic.name, topic.num_partitions, topic.replication_factor, topic.topic_configs) for topic in admin.made]
    assert made == [
        ("cities", 12, 1, FIT | {"max.message.bytes": str(MAX_MESSAGE_BYTES)}),
        ("cities.dead", 1, 1, FIT | {"max.message.bytes": str(2 * MAX_MESSAGE_BYTES)}),
    ]


@pytest.mark.parametrize(("brokers", "copies", "in_sync"), [(1, 1, None), (2, 2, None), (3, 3, "2"), (5, 3, "2")])
async def test_with_enough_brokers_a_message_is_stored_twice_before_it_counts(
    brokers: int, copies: int, in_sync: str | None
) -> None:
    admin = Admin(brokers=brokers)
    await ensure_with(admin, WANTED)
    assert {topic.replication_factor for topic in admin.made} == {copies}
    assert {topic.topic_configs.get("min.insync.replicas") for topic in admin.made} == {in_sync}


async def test_only_the_missing_topic_is_made() -> None:
    admin = Admin(cities=(12, FIT))
    await ensure_with(admin, WANTED)
    assert [topic.name for topic in admin.made] == ["cities.dead"]


async def test_another_process_may_be_quicker_and_a_refusal_is_raised() -> None:
    await ensure_with(Admin(answer=ALREADY_EXISTS), WANTED)
    with pytest.raises(PolicyViolationError, match="said the broker"):
        await ensure_with(Admin(answer=POLICY_VIOLATION), WANTED)


async def test_unfit_topics_are_warned_of_and_fit_ones_not_talked_about(caplog: pytest.LogCaptureFixture) -> None:
    await ensure_with(Admin(cities=(12, FIT), cities_dead=(1, FIT)), WANTED)
    assert "handoff.topic_unfit" not in caplog.messages
    short = {"retention.ms": "604800000", "max.message.bytes": "1000"}
    admin = Admin(cities=(3, short), cities_dead=(1, FIT))
    await ensure_with(admin, WANTED)
    assert admin.made == []
    warned = [record.__dict__ for record in caplog.records if record.message == "handoff.topic_unfit"]
    assert [(entry["topic"], entry["setting"], entry["found"]) for entry in warned] == [
        ("cities", "partitions", "3"),
        ("cities", "retention.ms", "604800000"),
        ("cities", "max.message.bytes", "1000"),
    ]


async def test_the_topic_of_the_latest_weather_is_compacted_and_the_other_is_not() -> None:
    admin = Admin()
    await ensure_with(admin, stream_topics("readings", "latest", 12))
    assert [(topic.name, topic.num_partitions, topic.topic_configs) for topic in admin.made] == [
        ("readings", 12, {"retention.ms": "604800000", "max.message.bytes": str(MAX_MESSAGE_BYTES)}),
        ("latest", 12, {"cleanup.policy": "compact", "max.message.bytes": str(MAX_MESSAGE_BYTES)}),
    ]


@pytest.mark.parametrize(("policy", "warned"), [("delete", ["cleanup.policy"]), ("compact", [])])
async def test_an_uncompacted_topic_is_warned_of(
    policy: str, warned: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    admin = Admin(latest=(12, {"cleanup.policy": policy, "retention.ms": "604800000"}))
    await ensure_with(admin, stream_topics("readings", "latest", 12))
    unfit = [record.__dict__["setting"] for record in caplog.records if record.message == "handoff.topic_unfit"]
    assert unfit == warned


async def test_a_broker_that_does_not_tell_its_settings_is_good_enough() -> None:
    admin = Admin(cities=(12, {}), cities_dead=(1, {}))
    admin.knows_settings = False
    await ensure_with(admin, WANTED)
    assert admin.made == []
