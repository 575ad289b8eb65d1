"""A real Kafka with TLS, SASL and client certificates: joining it, and one line for whatever is wrong."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from consumer.dead_letters import list_all
from raingauge.contracts import dead_letter_topic
from raingauge.errors import HandoffUnavailable, SettingsError
from raingauge.messaging.kafka import (
    Cluster,
    KafkaPublisher,
    KafkaSubscription,
    Timeouts,
    admitted,
    cluster_of,
    ensure_topics,
    topics_of,
)
from raingauge.messaging.kafka.admission import is_admitted
from raingauge.messaging.kafka.causes import explain
from raingauge.messaging.port import Delivery
from raingauge.settings import BrokerSettings, Settings
from tests.contract.messaging_helpers import CLOCK, eventually, receive, values
from tests.e2e.marks import HEADS_AND_TAILS, PASSWORD, assert_unmarked
from tests.support.certificates import HOST, Certificates
from tests.support.secured import MECHANISMS, USER, SecuredKafka
from tests.support.servers import free_port

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("secured")]

KEY_PASSWORD = HEADS_AND_TAILS[3]
ALERT = Timeouts(start_s=5, quiet_s=1, check_every_s=0.3, commit_s=1, session_s=6, longest_backoff_s=0.5)


class Team:
    """The settings that a team has for its Kafka, and wrong ones."""

    def __init__(self, kafka: SecuredKafka, folder: Path) -> None:
        self.kafka = kafka
        self.folder = folder
        self.issued = kafka.certificates
        self.tls = {"ca_file": str(self.issued.ca)}
        self.sasl = {"username": USER, "password_file": self.file("password", PASSWORD)}

    def file(self, name: str, content: str) -> str:
        path = self.folder / name
        path.write_text(f"{content}\n")
        return str(path)

    def certificate(self, password: str = "", issued: Certificates | None = None, **how: Any) -> dict[str, str]:
        certificate, key = (issued or self.issued).issue(f"c{uuid4().hex}", key_password=password, **how)
        return {"certificate_file": str(certificate), "key_file": str(key)}

    def settings(self, listener: str = "secure", host: str = HOST, **settings: Any) -> BrokerSettings:
        security = {"secure": "sasl_ssl", "mutual": "ssl", "open": "sasl_plaintext", "port": "plaintext"}[listener]
        given = (self.sasl if "sasl" in security else {}) | (self.tls if "ssl" in security else {})
        url = f"kafka://{host}:{getattr(self.kafka, listener)}"
        return BrokerSettings(**{"url": url, "security": security, **given, **settings})


@pytest.fixture
def team(secured_kafka: SecuredKafka, tmp_path: Path) -> Team:
    return Team(secured_kafka, tmp_path)


@asynccontextmanager
async def joined(cluster: Cluster, topic: str) -> AsyncIterator[tuple[KafkaPublisher, KafkaSubscription]]:
    async with (
        admitted(cluster, CLOCK),
        KafkaPublisher(cluster, CLOCK, timeouts=ALERT) as publisher,
        KafkaSubscription(cluster, topic, f"group-{topic}", window=10, clock=CLOCK, timeouts=ALERT) as subscription,
    ):
        yield publisher, subscription


WAYS = {mechanism: ("secure", {"sasl_mechanism": mechanism}) for mechanism in MECHANISMS}
WAYS |= {"certificate": ("mutual", {}), "password in the clear": ("open", {"sasl_mechanism": "PLAIN"})}


@pytest.mark.parametrize("way", WAYS)
async def test_every_client_joins(way: str, team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    listener, how = WAYS[way]
    if listener == "mutual":
        how = {**team.certificate(KEY_PASSWORD), "key_password_file": team.file("key-password", KEY_PASSWORD)}
    topic = f"test-{uuid4().hex}"
    settings = team.settings(listener, topic=topic, **how)
    cluster = cluster_of(settings)
    await ensure_topics(cluster, topics_of(topic, 1), CLOCK, ALERT)
    async with joined(cluster, topic) as (publisher, subscription):
        await publisher.publish(topic, b"key", b"1")
        await publisher.publish(dead_letter_topic(topic), b"key", b"dead")
        (delivery,) = await receive(subscription, 1)
        assert await subscription.lag() == {0: 1}
        subscription.acknowledge(delivery)
    await list_all(Settings(broker=settings))
    assert capsys.readouterr().out.endswith("dead\n")


WRONG_PASSWORD = {"password_file": "wrong"}  # pragma: allowlist secret
WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    **{f"password, {m}": ("secure", {"sasl_mechanism": m, **WRONG_PASSWORD}, "refuses this user or password")
       for m in MECHANISMS},
    "authority": ("secure", {"ca_file": "stranger"}, "an authority that is not in broker.ca_file"),
    "authority of the system": ("secure", {"ca_file": ""}, "an authority that the system does not trust"),
    "host name": ("secure", {"host": "localhost"}, "for another host name"),
    "mechanism": ("open", {"sasl_mechanism": "SCRAM-SHA-256"}, "does not offer SCRAM-SHA-256, but PLAIN"),
    "plaintext to TLS": ("secure", {"security": "plaintext"}, "uses TLS: set broker.security to ssl"),
    "TLS to plaintext": ("port", {"security": "ssl"}, "does not use TLS: set broker.security to plaintext"),
    "SASL to TLS": ("secure", {"security": "sasl_plaintext"}, "uses TLS: set broker.security to sasl_ssl"),
    "SASL where there is none": ("port", {"security": "sasl_plaintext"}, "does not authenticate clients"),
    "no SASL": ("open", {"security": "plaintext"}, "requires authentication (PLAIN)"),
    "TLS without SASL": ("secure", {"security": "ssl"}, "requires authentication (PLAIN, "),
    "no certificate": ("mutual", {}, "requires a certificate of its clients"),
    "foreign certificate": ("mutual", {"of": "foreign"}, "refuses the certificate of broker.certificate_file"),
    "expired certificate": ("mutual", {"of": "expired"}, "refuses the certificate of broker.certificate_file"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
async def test_what_is_wrong_ends_the_start_with_one_line_that_names_it(wrong: str, team: Team) -> None:
    listener, how, expected = WRONG[wrong]
    files = {"wrong": team.file("wrong", f"{HEADS_AND_TAILS[2]}!"), "stranger": str(team.issued.stranger)}
    given = {name: files.get(value, value) for name, value in how.items() if name != "of"}
    if security := how.get("security"):
        none = dict.fromkeys((*team.tls, *team.sasl), "")
        given |= none | (team.sasl if "sasl" in security else {}) | (team.tls if "ssl" in security else {})
    if of := how.get("of"):
        given |= team.certificate(issued=Certificates(team.folder / "other")) if of == "foreign" else {}
        given |= team.certificate(expired=True) if of == "expired" else {}
    cluster = cluster_of(team.settings(listener, **given))
    with pytest.raises(SettingsError) as refused:
        await is_admitted(cluster)
    line = str(refused.value)
    assert line.startswith("broker.url: ")
    assert expected in line
    assert "\n" not in line
    assert_unmarked(line, "the error")
    assert f"broker.url: {await explain(cluster, TimeoutError())}" == line


async def test_a_broker_whose_certificate_has_expired_is_named(tmp_path: Path) -> None:
    issued = Certificates(tmp_path / "issued")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*issued.issue("broker", HOST, expired=True))
    async with await asyncio.start_server(lambda _, writer: writer.close(), HOST, 0, ssl=context) as server:
        address = "{}:{}".format(*server.sockets[0].getsockname())
        settings = BrokerSettings(url=f"kafka://{address}", security="ssl", ca_file=str(issued.ca))
        with pytest.raises(SettingsError, match=f"{address} has a certificate that has expired"):
            await is_admitted(cluster_of(settings))


async def test_one_broker_that_lets_it_in_is_enough_and_none_that_answers_is_an_outage(team: Team) -> None:
    nobody = f"{HOST}:{free_port()}"
    right = team.settings()
    settings = right.model_copy(update={"url": f"kafka://{nobody},{right.url.removeprefix('kafka://')}"})
    assert await is_admitted(cluster_of(settings))
    assert not await is_admitted(cluster_of(right.model_copy(update={"url": f"kafka://{nobody}"})))


async def test_a_refusal_that_shows_only_later_ends_the_block(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raingauge.messaging.kafka.admission.CHECK_EVERY_S", 0.1)
    cluster = cluster_of(team.settings())
    nobody = Cluster((f"{HOST}:{free_port()}",), cluster.settings)

    async def until_refused() -> None:
        async with admitted(nobody, CLOCK):
            object.__setattr__(nobody, "servers", (f"{HOST}:{team.kafka.port}",))  # it listens by now, without TLS
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as ended:
        await until_refused()
    (error,) = ended.value.exceptions
    assert isinstance(error, SettingsError)
    assert "does not use TLS" in str(error)


async def is_stored(publisher: KafkaPublisher, topic: str, value: bytes) -> bool:
    try:
        await publisher.publish(topic, b"key", value)
    except HandoffUnavailable:
        return False
    return True


async def receive_all(subscription: KafkaSubscription, expected: set[bytes | None]) -> list[Delivery]:
    """Deliveries until all of these values are among them."""
    deliveries: list[Delivery] = []
    async with asyncio.timeout(30):
        while not expected <= {delivery.value for delivery in deliveries}:
            deliveries += await subscription.receive()
    return deliveries


async def test_a_password_that_is_replaced_is_waited_for_and_read_again(team: Team) -> None:
    topic, replaced = f"test-{uuid4().hex}", f"{HEADS_AND_TAILS[2]}-new"
    cluster = cluster_of(team.settings(sasl_mechanism="SCRAM-SHA-256"))
    await ensure_topics(cluster, topics_of(topic, 1), CLOCK, ALERT)
    async with joined(cluster, topic) as (publisher, subscription):
        await publisher.publish(topic, b"key", b"1")
        assert values(await receive(subscription, 1)) == [b"1"]
        team.kafka.set_password(replaced)
        team.kafka.kill()  # connections that are open outlive their password
        await asyncio.to_thread(team.kafka.start, replaced)
        try:
            await eventually(lambda: "refuses this user or password" in (subscription.trouble or ""), 30)
            assert not subscription.connected
            assert_unmarked(subscription.trouble or "", "the cause")
            team.file("password", replaced)
            while not await is_stored(publisher, topic, b"2"):  # its client is replaced, too
                continue
            (again, *_) = await receive_all(subscription, {b"1", b"2"})  # what is not acknowledged comes again
            assert again.value == b"1"
            assert subscription.trouble is None
        finally:
            team.kafka.set_password(PASSWORD)


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({"create_topics": False}, "broker.create_topics is false: create {topic} (1 partitions, retention.ms=-1"),
        ({"replication_factor": 2}, "broker.replication_factor is 2, more than there are brokers (1)"),
    ],
)
async def test_a_topic_that_may_or_can_not_be_created_is_waited_for_with_one_line(
    settings: dict[str, Any], cause: str, team: Team, caplog: pytest.LogCaptureFixture
) -> None:
    topic = f"test-{uuid4().hex}"
    topics, cluster = topics_of(topic, 1), cluster_of(team.settings(**settings))
    waiting = asyncio.create_task(ensure_topics(cluster, topics, CLOCK, ALERT))
    await eventually(lambda: "handoff.start_failed" in caplog.messages)
    (line,) = {record.__dict__["error"] for record in caplog.records if record.message == "handoff.start_failed"}
    assert cause.format(topic=topic) in line
    await ensure_topics(cluster_of(team.settings()), topics, CLOCK, ALERT)
    await waiting
