"""How long the faults go on, and the servers that they may kill."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.databases import need_port, server_schema
from tests.support.servers import Kafka, killable

ROUNDS = "--chaos-rounds"


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long."""
    parser.addoption(ROUNDS, type=int, default=1, help="how often each fault of tests/chaos strikes; others a fifth")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`crash_round`: as many rounds as were asked for; `fault_round`: a fifth of them, for the slow ones."""
    rounds = metafunc.config.getoption(ROUNDS, 1)
    for name, number in (("crash_round", rounds), ("fault_round", -(-rounds // 5))):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, range(number))
    if "cluster_name" in metafunc.fixturenames:  # each takes half a minute
        metafunc.parametrize("cluster_name", ["postgres", "mariadb", "galera"] if rounds > 1 else ["postgres"])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what a single round has no time for."""
    if config.getoption(ROUNDS, 1) == 1:
        dropped = [item for item in items if item.get_closest_marker("rounds")]
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in dropped]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was measured."""
    for report in (*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")):
        for name, value in report.user_properties if report.when == "call" else ():
            terminalreporter.write_line(f"measured: {name}: {value}")


@pytest.fixture
def thorough(request: pytest.FixtureRequest) -> bool:
    """Whether this is more than a sample."""
    return bool(request.config.getoption(ROUNDS, 1) > 1)


@pytest.fixture
def database_url() -> Iterator[str]:
    """A fresh database on the MariaDB of `make services`, whose Kafka is there, too."""
    need_port(9092, "Kafka")
    with server_schema("mariadb") as url:
        yield url


@pytest.fixture(scope="session")
def own_kafka(memory: Path) -> Iterator[Kafka]:
    """A broker, where `make services` has one, too."""
    need_port(9092, "Kafka")
    with killable(Kafka, memory / "kafka") as broker:
        yield broker


@pytest.fixture
def kafka(own_kafka: Kafka) -> Kafka:
    """The same, running."""
    own_kafka.start()
    return own_kafka
