"""A Kafka, a MariaDB and a PgBouncer for tests alone, to be killed and reconfigured: on free ports, in a folder.

They run what `make services` has installed. The servers on the standard ports are never touched.
"""

import os
import secrets
import socket
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from sqlalchemy import URL, create_engine, make_url
from sqlalchemy.exc import DBAPIError

from raingauge.database import open_database
from standalone.app import prepare
from tests.support.databases import SERVERS, port_open
from tests.support.eventually import eventually
from tests.support.processes import ROOT

SERVICES = ROOT / "deploy/services"
JARS = ROOT / "var/services/kafka/libs"
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
ANSWER_S = 90.0


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def execute(url: URL, *statements: str, values: tuple[str, ...] = ()) -> None:
    """Run statements in the words of the driver, with its `%s`, and `%%` for a `%`; each is committed at once."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement, values)
    finally:
        engine.dispose()


def answers(url: URL) -> bool:
    """Whether a database does."""
    try:
        execute(url, "SELECT 42")
    except DBAPIError:
        return False
    return True


class Server(ABC):
    """A server process that can be killed and started again on its data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> Sequence[str]:
        """What runs it."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it works."""

    @property
    def runs(self) -> bool:
        """Whether its process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait for its answer; nothing happens when it runs already."""
        if not self.runs:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env={"PATH": PATH}
                )
        eventually(self._answers_yet, ANSWER_S, every_s=0.1)

    def _answers_yet(self) -> bool:
        assert self.runs, f"it ended:\n{self._log.read_text()[-3000:]}"
        return self.answers()

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def run(self, *command: str) -> None:
        """Run a command to its end."""
        done = subprocess.run(command, check=False, capture_output=True, text=True, env={"PATH": PATH})
        assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"


PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=CLIENT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},PROXIED://127.0.0.1:{behind_proxy}
advertised.listeners=CLIENT://127.0.0.1:{port},PROXIED://127.0.0.1:{proxy}
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT
inter.broker.listener.name=CLIENT
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
log.cleaner.dedupe.buffer.size=2097152
log.index.size.max.bytes=1048576
"""


class Kafka(Server):
    """One broker, its own controller. Who comes through the proxy's port is told to come through it again."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        ports = {name: free_port() for name in ("port", "controller", "behind_proxy", "proxy")}
        self.port, self.behind_proxy, self.proxy = ports["port"], ports["behind_proxy"], ports["proxy"]
        self._properties = folder / "server.properties"
        self._properties.write_text(PROPERTIES.format(**ports, data=folder / "data"))
        self._admin = AdminClient(self.client)
        self.run(*self._java("kafka.tools.StorageTool", "format", "--cluster-id", secrets.token_hex(11),
                             "--config", str(self._properties)))  # fmt: skip

    @property
    def servers(self) -> str:
        """Where clients find it."""
        return f"127.0.0.1:{self.port}"

    @property
    def client(self) -> dict[str, str | int | float | bool]:
        """The settings of a client of confluent_kafka; it shall not tell the terminal that the broker is away."""
        return {"bootstrap.servers": self.servers, "log_level": 0}

    def command(self) -> Sequence[str]:
        return self._java("kafka.Kafka", str(self._properties))

    def _java(self, *arguments: str) -> Sequence[str]:
        settings = f"-Dlog4j2.configurationFile={SERVICES}/kafka/log4j2.properties"
        quick = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx384m")
        return ["java", *quick, settings, "-cp", f"{JARS}/*", *arguments]

    def answers(self) -> bool:
        with suppress(KafkaException):
            return bool(AdminClient(self.client).list_topics(timeout=1).brokers)
        return False


SETTINGS = """\
[mariadbd]
datadir = {folder}/data
socket = {folder}/sock
pid-file = {folder}/pid
bind-address = 127.0.0.1
port = {port}
skip-name-resolve
character-set-server = utf8mb4
default-time-zone = +00:00
max_connections = 500
innodb_flush_log_at_trx_commit = 1
innodb_buffer_pool_size = 64M
innodb_log_file_size = 32M
performance_schema = off
"""
USERS = """\
CREATE DATABASE IF NOT EXISTS raingauge CHARACTER SET utf8mb4;
CREATE USER IF NOT EXISTS 'operator'@'%' IDENTIFIED BY 'operator';
GRANT ALL ON *.* TO 'operator'@'%';
CREATE USER IF NOT EXISTS 'raingauge'@'%' IDENTIFIED BY 'raingauge';
GRANT ALL ON `raingauge%`.* TO 'raingauge'@'%';
"""


class MySQLServer(Server):
    """MariaDB or MySQL, with an operator who may do everything, and the schema in it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()

    @property
    def url(self) -> str:
        """Of the database `raingauge`."""
        return f"mysql+pymysql://raingauge:raingauge@127.0.0.1:{self.port}/raingauge"

    def answers(self) -> bool:
        return answers(self._operator)

    def fresh(self) -> None:
        """An empty database with the schema in it."""
        self.as_operator("DROP DATABASE IF EXISTS raingauge", "CREATE DATABASE raingauge CHARACTER SET utf8mb4")
        with closing(open_database(self.url)) as database:
            prepare(database)

    def as_operator(self, *statements: str, values: tuple[str, ...] = ()) -> None:
        """As `execute`."""
        execute(self._operator, *statements, values=values)

    @property
    def _operator(self) -> URL:
        return URL.create("mysql+pymysql", "operator", "operator", "127.0.0.1", self.port)  # no certificate is checked


class MariaDB(MySQLServer):
    """MariaDB."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._settings = folder / "my.cnf"
        root = "user = root\n" if os.geteuid() == 0 else ""
        self._settings.write_text(SETTINGS.format(folder=folder, port=self.port) + root)
        (folder / "users.sql").write_text(USERS)
        self.run("mariadb-install-db", f"--defaults-file={self._settings}", "--skip-test-db")

    def fresh(self) -> None:
        """The same, on a server whose settings are the usual ones."""
        self.set_global("read_only", 0)
        self.set_global("max_allowed_packet", 2**24)
        super().fresh()

    def set_global(self, name: str, value: int) -> None:
        """Change a variable of the server, as an operator would."""
        self.as_operator(f"SET GLOBAL {name} = {value}")

    def command(self) -> Sequence[str]:
        return ["mariadbd", f"--defaults-file={self._settings}", f"--init-file={self.folder}/users.sql"]


POOLER = """\
[databases]
* = host={host} port={port} user={user} password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
ignore_startup_parameters = options, extra_float_digits
"""


class PgBouncer(Server):
    """A pooler in transaction mode before the PostgreSQL of `make services`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()
        server = make_url(SERVERS["postgres"])
        names = {"host": server.host, "port": server.port, "user": server.username, "password": server.password}
        (folder / "pgbouncer.ini").write_text(POOLER.format(**names, own=self.port))

    def command(self) -> Sequence[str]:
        user = ["-u", "postgres"] if os.geteuid() == 0 else []  # it refuses to run as root
        return ["pgbouncer", *user, str(self.folder / "pgbouncer.ini")]

    def answers(self) -> bool:
        return port_open(self.port)


Own = TypeVar("Own", bound=Server)


@contextmanager
def killable(kind: Callable[[Path], Own], folder: Path) -> Iterator[Own]:
    """A server that may be killed; a test that does starts it again."""
    folder.mkdir()
    server = kind(folder)
    try:
        yield server
    finally:
        server.kill()
