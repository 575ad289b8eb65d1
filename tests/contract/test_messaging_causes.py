"""Why Kafka cannot be used is logged as one line that an operator can act on."""

import asyncio

import pytest
from aiokafka.errors import KafkaError

from raingauge.messaging.kafka.causes import explain
from tests.contract.messaging_helpers import QUICK, KafkaPlace, Road, cluster_at, eventually, nothing_is_left
from tests.contract.messaging_mock_cluster import MockCluster
from tests.support.servers import free_port

NO_BROKER = "accepts connections but does not answer as a Kafka broker"


def causes(caplog: pytest.LogCaptureFixture) -> set[str]:
    return {record.__dict__["error"] for record in caplog.records if record.message == "handoff.start_failed"}


async def started(server: str, caplog: pytest.LogCaptureFixture) -> set[str]:
    """What a publisher and a subscription log when they cannot start."""
    place = KafkaPlace(server, 10, QUICK)
    async with place.publisher(), place.subscription():
        await eventually(lambda: caplog.messages.count("handoff.start_failed") >= 4)
    return causes(caplog)


@pytest.mark.parametrize(
    ("host", "cause"),
    [("127.0.0.1", "refuses connections"), ("kafka.invalid", "cannot be resolved"), ("k" * 64, "is no host name")],
)
async def test_a_wrong_port_or_host_is_named(host: str, cause: str, caplog: pytest.LogCaptureFixture) -> None:
    server = f"{host}:{free_port()}"
    (line,) = await started(server, caplog)
    assert line.startswith(f"{server} {cause}")
    assert not [record for record in caplog.records if record.exc_info and record.name.startswith("raingauge")]


async def test_a_server_that_is_no_broker_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        address = "{}:{}".format(*server.sockets[0].getsockname())
        assert await started(address, caplog) == {f"{address} {NO_BROKER}"}


async def test_a_silent_server_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raingauge.messaging.kafka.causes.CONNECT_S", 0.3)
    async with Road(None) as road:
        assert await explain(cluster_at(road.address), TimeoutError()) == f"{road.address} {NO_BROKER}"
    await eventually(nothing_is_left)


async def test_a_broker_that_advertises_a_wrong_address_is_named_with_that_address(
    cluster: MockCluster, caplog: pytest.LogCaptureFixture
) -> None:
    port = cluster.server.rpartition(":")[2]
    async with Road(cluster.server, alter=(b"127.0.0.1", b"x.invalid")) as road:  # of the same length
        (line,) = await started(road.address, caplog)
    assert line.startswith(
        f"the broker at {road.address} says to connect to x.invalid:{port}, which cannot be resolved"
    )
    assert line.endswith("check advertised.listeners")


async def test_with_a_usable_broker_the_error_itself_is_the_cause(cluster: MockCluster) -> None:
    servers = [f"127.0.0.1:{free_port()}", cluster.server]
    assert (await explain(cluster_at(*servers), KafkaError("a bug"))).startswith(f"{servers[0]} refuses connections")
    assert await explain(cluster_at(*servers[1:]), KafkaError("a bug")) == "KafkaError: a bug"
