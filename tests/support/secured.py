"""A Kafka, a MariaDB and a PostgreSQL that want TLS and passwords, as a team's own do: for tests, on free ports.

The passwords are marked (`tests.e2e.marks`), so that the tests of secrets can search for them.
"""

import os
import shutil
from collections.abc import Sequence
from contextlib import closing
from hashlib import sha1
from pathlib import Path

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it does not say that it exports them
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from sqlalchemy.engine import URL

from raingauge.database import open_database
from standalone.app import prepare
from tests.e2e.marks import PASSWORD
from tests.support.certificates import HOST, Certificates
from tests.support.servers import Kafka, MariaDB, Server, answers, execute, free_port

USER = "raingauge"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
LISTENERS = """
listeners=CLIENT://{host}:{client},CONTROLLER://{host}:{controller},SECURE://{host}:{secure},MUTUAL://{host}:{mutual},\
OPEN://{host}:{open}
advertised.listeners=CLIENT://{host}:{client},SECURE://{host}:{secure},MUTUAL://{host}:{mutual},OPEN://{host}:{open}
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL,MUTUAL:SSL,OPEN:SASL_PLAINTEXT
controller.quorum.voters=1@{host}:{controller}
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={authority}
listener.name.mutual.ssl.client.auth=required
listener.name.secure.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.open.sasl.enabled.mechanisms=PLAIN
listener.name.secure.scram-sha-256.sasl.jaas.config={scram};
listener.name.secure.scram-sha-512.sasl.jaas.config={scram};
listener.name.secure.plain.sasl.jaas.config={plain};
listener.name.open.plain.sasl.jaas.config={plain};
"""
MODULES = "org.apache.kafka.common.security"


class SecuredKafka(Kafka):
    """One broker with a listener for each kind of security. `secure`: SASL_SSL; `mutual`: SSL with client
    certificates; `open`: SASL_PLAINTEXT; `port`: plaintext."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.certificates = Certificates(folder / "certificates")
        self.secure, self.mutual, self.open = free_port(), free_port(), free_port()
        certificate, key = self.certificates.issue_server()
        keystore = folder / "keystore.pem"
        keystore.write_bytes(key.read_bytes() + certificate.read_bytes())
        quoted = PASSWORD.replace("\\", "\\\\").replace('"', '\\"')  # as JAAS has it; then as Java's properties do
        plain = f'{MODULES}.plain.PlainLoginModule required user_{USER}="{quoted}"'.replace("\\", "\\\\")
        own = LISTENERS.format(
            host=HOST, client=self.port, controller=free_port(), secure=self.secure, mutual=self.mutual, open=self.open,
            keystore=keystore, authority=self.certificates.ca, scram=f"{MODULES}.scram.ScramLoginModule required",
            plain="".join(c if c.isascii() else f"\\u{ord(c):04x}" for c in plain),
        )  # fmt: skip
        with self._properties.open("a") as properties:  # of two values the last counts
            properties.write(own)

    def start(self, password: str = PASSWORD) -> None:
        """Start it with a password of the SCRAM mechanisms."""
        super().start()
        self.set_password(password)

    def set_password(self, password: str) -> None:
        """Of the SCRAM mechanisms: at once for new connections, while those that are open stay."""
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            change = UserScramCredentialUpsertion(USER, ScramCredentialInfo(mechanism, 4096), password.encode())
            self._admin.alter_user_scram_credentials([change])[USER].result()


class OverTls(Server):
    """A database whose URLs say what is checked of its certificate."""

    port: int
    driver = "mysql+pymysql"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.certificates = Certificates(folder / "certificates")

    @property
    def url(self) -> str:
        """Of the database `raingauge`, with every check."""
        return self.url_with(**self._checks).render_as_string(hide_password=False)

    @property
    def _checks(self) -> dict[str, str]:
        return {"ssl_ca": str(self.certificates.ca)}

    def url_with(self, user: str = USER, password: str | None = PASSWORD, host: str = HOST, **query: str) -> URL:
        """With other parameters than those that are right."""
        return URL.create(self.driver, user, password, host, self.port, "raingauge", query)


class SecuredMariaDB(OverTls, MariaDB):
    """It takes TLS connections only. The user `certified` needs a certificate."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        certificate, key = self.certificates.issue_server()
        tls = f"ssl_ca={self.certificates.ca}\nssl_cert={certificate}\nssl_key={key}\nrequire_secure_transport=ON\n"
        with self._settings.open("a") as settings:
            settings.write(tls)
        # As the hash that the server would store: its init file is no place for odd characters.
        stored = sha1(sha1(PASSWORD.encode()).digest()).hexdigest().upper()
        with (folder / "users.sql").open("a") as users:
            users.write(f"ALTER USER '{USER}'@'%' IDENTIFIED VIA mysql_native_password USING '*{stored}';\n")
            users.write("CREATE USER IF NOT EXISTS 'certified'@'%' REQUIRE X509;\n")
            users.write("GRANT ALL ON `raingauge%`.* TO 'certified'@'%';\n")

    def present(self, certificate: Path, key: Path) -> None:
        """Replace the server's certificate, for new connections."""
        for source, name in ((certificate, "server.pem"), (key, "server.key")):
            (self.certificates.folder / name).write_bytes(source.read_bytes())
        self.as_operator("FLUSH SSL")


HBA = """\
local all all trust
hostssl all raingauge 127.0.0.1/32 scram-sha-256
hostssl all certified 127.0.0.1/32 cert
"""


class SecuredPostgres(OverTls):
    """It takes TLS connections only. The user `certified` needs a certificate in its name."""

    driver = "postgresql+psycopg"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()
        self._bin = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        self._data = folder / "data"
        own = folder / "server"  # the key must belong to the user that runs the server
        own.mkdir()
        for file in (*self.certificates.issue_server(), self.certificates.ca):
            shutil.copy(file, own)
        self._as_root = os.geteuid() == 0
        if self._as_root:  # it refuses to run as root
            for each in (folder.parent, self.certificates.folder):
                each.chmod(0o711)
            for each in (folder, own, *own.iterdir()):
                shutil.chown(each, "postgres", "postgres")
        self.run(*self._command("initdb", "-D", str(self._data), "--username=postgres", "--encoding=UTF8",
                                "--locale=C.UTF-8", "--auth=trust", "--no-sync"))  # fmt: skip
        (self._data / "pg_hba.conf").write_text(HBA)

    def _command(self, name: str, *arguments: str) -> Sequence[str]:
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"] if self._as_root else []
        return [*as_user, str(self._bin / name), *arguments]

    @property
    def _checks(self) -> dict[str, str]:
        return {"sslmode": "verify-full", "sslrootcert": str(self.certificates.ca)}

    def command(self) -> Sequence[str]:
        own = self.folder / "server"
        settings = {
            "listen_addresses": HOST, "port": self.port, "unix_socket_directories": self.folder, "fsync": "off",
            "timezone": "UTC", "ssl": "on", "ssl_cert_file": own / "server.pem", "ssl_key_file": own / "server.key",
            "ssl_ca_file": own / "ca.pem",
        }  # fmt: skip
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return self._command("postgres", "-D", str(self._data), *options)

    def answers(self) -> bool:
        return answers(self._superuser)

    def start(self) -> None:
        super().start()
        quoted = PASSWORD.replace("'", "''").replace("%", "%%")
        execute(
            self._superuser,
            f"DO $do$ BEGIN CREATE ROLE {USER} LOGIN; CREATE ROLE certified LOGIN SUPERUSER; "
            "EXCEPTION WHEN duplicate_object THEN NULL; END $do$",
            f"ALTER ROLE {USER} PASSWORD '{quoted}'",
        )

    def present(self, certificate: Path, key: Path) -> None:
        """Replace the server's certificate, for new connections."""
        for source, name in ((certificate, "server.pem"), (key, "server.key")):
            (self.folder / "server" / name).write_bytes(source.read_bytes())
        execute(self._superuser, "SELECT pg_reload_conf()")

    def fresh(self) -> None:
        """An empty database with the schema in it."""
        drop = "DROP DATABASE IF EXISTS raingauge WITH (FORCE)"
        execute(self._superuser, drop, f"CREATE DATABASE raingauge OWNER {USER}")
        with closing(open_database(self.url)) as database:
            prepare(database)

    @property
    def _superuser(self) -> URL:
        return URL.create(self.driver, "postgres", None, str(self.folder), self.port, "postgres")
