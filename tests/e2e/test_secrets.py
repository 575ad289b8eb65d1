"""The provider's key and the database's password appear nowhere, whatever goes wrong.

Both are marked (`tests.e2e.marks`), the provider echoes whatever it is sent (`tests.e2e.echo`), and everything that
can be read of the system is searched for the marks: output, answers, rows, dead letters, tracebacks, command lines.
"""

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, Self

import pytest
import requests
from aiokafka import AIOKafkaProducer
from sqlalchemy import make_url

import standalone.app
from raingauge.contracts import dead_letter_topic
from raingauge.database import open_database
from raingauge.messaging.inprocess import InProcessBroker
from raingauge.observability.log import LIBRARIES, LineFormatter
from raingauge.settings import Settings, load_settings
from simulator.settings import SimulatorSettings
from tests.e2e.echo import echoing
from tests.e2e.marks import KEY, PASSWORD, assert_unmarked, url_with_password
from tests.e2e.provoking import PATIENCE_S, assert_answers_unmarked, assert_database_unmarked, provoke
from tests.e2e.running import all_in, kafka_settings, settings_for
from tests.support.databases import empty
from tests.support.eventually import eventually
from tests.support.processes import Program, launched, program, simulator
from tests.support.servers import free_port

NEWER = b'{"version": 99}'
"""It stays, and its partition waits behind it."""
POISON = (b"{", None, b"\xff\x00", b'{"version": 1}', b"x" * 1000)
BROKEN = 18
"""The city whose reading the database refuses, once it is collected."""
TRIGGER = f"""CREATE TRIGGER broken BEFORE INSERT ON readings
WHEN NEW.city_id = {BROKEN} AND NEW.status = 'collected' BEGIN SELECT RAISE(ABORT, 'broken'); END"""


def settings_with_marks(provider_url: str, database_url: str, **more: object) -> dict[str, str]:
    fast: dict[str, object] = {"openweather__timeout_s": 0.5, "quota__cities_per_window": 1000, "quota__window_s": 1}
    return settings_for(provider_url, database_url, fast | more, KEY)


def break_readings(path: Path) -> None:
    """From now on the database meets an error that nobody expects, with a row in its message."""
    with closing(sqlite3.connect(path)) as database:
        database.execute(TRIGGER)
        database.commit()


def assert_files_unmarked(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        assert_unmarked(file.read_bytes(), file.name)


def assert_command_line_unmarked(running: Program) -> None:
    assert_unmarked(Path(f"/proc/{running.process.pid}/cmdline").read_bytes(), "the command line")


# -- the whole system ----------------------------------------------------------------------------------------------


@pytest.mark.long
def test_embedded_as_a_process(tmp_path: Path) -> None:
    path = tmp_path / "raingauge.db"
    with (
        echoing() as provider,
        program("standalone", settings=settings_with_marks(provider.url, f"sqlite:///{path}")) as running,
    ):
        assert_command_line_unmarked(running)
        break_readings(path)
        provoke(running.url, provider, told=lambda event: event in running.output)
        eventually(lambda: "settle.unexpected" in running.output, PATIENCE_S)
        statuses = assert_answers_unmarked(running.url)
        assert running.stop() == 0
    assert provider.keys == {KEY}
    assert statuses >= {200, 404, 405, 422}
    assert "Traceback" in running.output
    assert "***" in running.output
    assert_unmarked(running.output, "the output")
    with closing(open_database(f"sqlite:///{path}")) as database:
        assert assert_database_unmarked(database)["readings"] > 10
    assert_files_unmarked(path)


class Ear(logging.Handler):
    """Keeps every record as a line with all its fields and its traceback; nothing is masked."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(LineFormatter(secret=None))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += [self.format(record), repr(record.args)]

    @property
    def output(self) -> str:
        return "\n".join(self.lines)


@pytest.fixture
def ear() -> Iterator[Ear]:
    """Everything that is logged at DEBUG, by the libraries too."""
    ear = Ear()
    levels = {logger: logger.level for logger in map(logging.getLogger, ("", *LIBRARIES, "sqlalchemy.engine"))}
    for logger in levels:
        logger.setLevel(logging.DEBUG)
    logging.getLogger().addHandler(ear)
    yield ear
    for logger, level in levels.items():
        logger.setLevel(level)


class Inside:
    """Embedded mode in a thread of this process, with its hand-off in our hands."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.brokers: list[InProcessBroker] = []
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def broker(self, *arguments: Any) -> InProcessBroker:
        self.brokers.append(InProcessBroker(*arguments))
        return self.brokers[-1]

    def publish(self, *values: bytes | None) -> None:
        """Hand something over that the relay never would."""
        broker, _ = self.brokers
        for value in values:
            work = broker.publish(self.settings.broker.topic, b"poison", value, (("from", b"a test"),))
            asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _run(self) -> None:
        self._task = self._loop.create_task(standalone.app._serve(self.settings))
        with closing(self._loop), suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._task is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(20)


@pytest.mark.long
def test_embedded_at_debug_level_with_nothing_masked(
    tmp_path: Path, ear: Ear, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "raingauge.db"
    with echoing() as provider:
        for name, value in settings_with_marks(provider.url, f"sqlite:///{path}").items():
            monkeypatch.setenv(name, value)
        inside = Inside(load_settings())
        monkeypatch.setattr(standalone.app, "InProcessBroker", inside.broker)
        printed = ""

        def address() -> str:
            nonlocal printed
            printed += capsys.readouterr().out
            return next((line.split()[1] for line in printed.splitlines() if line.startswith("  API")), "")

        with inside:
            url = eventually(address, PATIENCE_S)
            break_readings(path)
            inside.publish(*POISON)
            provoke(url, provider, told=lambda event: event in ear.output)
            inside.publish(NEWER)
            eventually(lambda: "message.held" in ear.output, PATIENCE_S)
            eventually(lambda: "settle.unexpected" in ear.output, PATIENCE_S)
            assert_answers_unmarked(url)
            broker, _ = inside.brokers
            letters = list(broker.dead_letters)
    assert [letter.value for letter in letters] == list(POISON)
    assert_unmarked(repr(letters), "the dead letters")
    assert "Traceback" in ear.output
    assert "DEBUG" in ear.output
    assert "Starting new HTTP connection" in ear.output
    assert_unmarked(ear.output, "the log at DEBUG level")
    assert_unmarked(printed, "the standard output")
    with closing(open_database(f"sqlite:///{path}")) as database:
        assert_database_unmarked(database)
    assert_files_unmarked(path)


@pytest.mark.long
@pytest.mark.parametrize("module", ["producer", "consumer"])
def test_with_database_and_kafka_out_of_reach(module: str) -> None:
    database = url_with_password("mysql+pymysql", f"127.0.0.1:{free_port()}")
    kafka = f"kafka://127.0.0.1:{free_port()}"
    settings = settings_with_marks("http://127.0.0.1:1", database, broker__url=kafka)
    with program(module, settings=settings) as running:
        assert_command_line_unmarked(running)
        waits = "database.unavailable" if module == "consumer" else "handoff.start_failed"
        eventually(lambda: waits in running.output, PATIENCE_S)
        assert 503 in assert_answers_unmarked(running.url)
        assert running.stop() == 0
    assert_unmarked(running.output, "the output")


@pytest.mark.long
def test_a_crash_with_a_traceback(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "newer.db")) as newer, newer:
        newer.executescript("CREATE TABLE alembic_version (version_num); INSERT INTO alembic_version VALUES ('newer')")
    settings = settings_with_marks("http://127.0.0.1:1", f"sqlite:///{tmp_path}/newer.db")
    with launched("standalone", settings=settings) as running:
        assert running.ended() == 1
    assert "Traceback" in running.output
    assert_unmarked(running.output, "the traceback")


@pytest.mark.long
def test_the_simulator_with_a_marked_key() -> None:
    """Its command line has it: the simulator is told its key there."""
    with simulator("--key", KEY) as running:
        for key in (KEY, KEY[:-1]):
            for path in ("group", "weather", "nothing"):
                query = {"id": "3439525", "appid": key}
                answer = requests.get(f"{running.url}/data/2.5/{path}", params=query, timeout=10)
                assert_unmarked(answer.content, path)
        for path in ("faults", "settings", "witness", "calls", "witness?window_s=x", "nothing"):
            assert_unmarked(requests.get(f"{running.url}/control/{path}", timeout=10).content, path)
    assert_unmarked(running.output, "the simulator's output")
    assert_unmarked(repr(SimulatorSettings(key=KEY)), "its settings")


# -- on Kafka and MariaDB ------------------------------------------------------------------------------------------


def publish(topic: str, *values: bytes | None) -> None:
    async def send() -> None:
        async with AIOKafkaProducer(bootstrap_servers="127.0.0.1:9092") as producer:
            for value in values:
                await producer.send_and_wait(topic, value, b"poison")

    asyncio.run(send())


@pytest.mark.services
def test_on_kafka_and_mariadb(schemas: dict[str, str]) -> None:
    url = schemas["mariadb"]
    shut_out = make_url(url).set(password=PASSWORD).render_as_string(hide_password=False)
    with echoing() as provider, ExitStack() as parts:
        kafka = parts.enter_context(kafka_settings())
        topic = str(kafka["broker__topic"])
        settings = settings_with_marks(provider.url, url, broker__partitions=2, **kafka)
        producer = parts.enter_context(program("producer", settings=settings))
        consumer = parts.enter_context(program("consumer", settings=settings))
        without = settings | {"RAINGAUGE_DATABASE__URL": shut_out}
        outsiders = [parts.enter_context(launched(module, settings=without)) for module in ("producer", "consumer")]
        eventually(lambda: "handoff.assigned" in consumer.output, PATIENCE_S)
        publish(topic, *POISON)
        provoke(producer.url, provider, told=lambda event: event in consumer.output)
        eventually(lambda: consumer.output.count("message.buried") == len(POISON), PATIENCE_S)
        assert [outsider.ended() for outsider in outsiders] == [2, 2]
        assert all("Access denied" in outsider.output for outsider in outsiders)
        for running in (producer, consumer):
            assert_answers_unmarked(running.url)
            assert_command_line_unmarked(running)
        assert [running.stop() for running in (producer, consumer)] == [0, 0]
        for running in (producer, consumer, *outsiders):
            assert_unmarked(running.output, "the output")
        messages = all_in(topic, dead_letter_topic(topic))
    assert provider.keys == {KEY}
    with closing(open_database(url)) as database:
        assert assert_database_unmarked(database)["readings"] > 10
        empty(database)
    buried = [message.value for message in messages if message.topic != topic]
    assert sorted(buried, key=repr) == sorted(POISON, key=repr)
    assert_unmarked(repr(messages), "the topics")
