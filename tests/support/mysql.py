"""A MySQL that wants TLS and logs in with `caching_sha2_password`: for tests, on a free port.

It runs what `make mysql` has fetched. MariaDB has no such login.
"""

import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from raingauge.database import open_database
from standalone.app import prepare
from tests.e2e.marks import PASSWORD
from tests.support.certificates import HOST, Certificates
from tests.support.processes import ROOT
from tests.support.secured import USER
from tests.support.servers import Server, free_port

MYSQLD = ROOT / "var/services/mysql/program/mysqld"
SETTINGS = """\
[mysqld]
datadir = {folder}/data
socket = {folder}/sock
pid-file = {folder}/pid
bind-address = 127.0.0.1
port = {port}
skip-name-resolve
ssl_ca = {ca}
ssl_cert = {certificate}
ssl_key = {key}
require_secure_transport = ON
max_connections = 200
innodb_buffer_pool_size = 64M
innodb_redo_log_capacity = 32M
performance_schema = off
"""
USERS = """\
CREATE USER IF NOT EXISTS 'operator'@'%' IDENTIFIED BY 'operator';
GRANT ALL ON *.* TO 'operator'@'%' WITH GRANT OPTION;
"""


class SecuredMySQL(Server):
    """It takes TLS connections only. The user `certified` needs a certificate."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.certificates = Certificates(folder / "certificates")
        certificate, key = self.certificates.issue_server()
        files = {"folder": folder, "ca": self.certificates.ca, "certificate": certificate, "key": key}
        root = "user = root\n" if os.geteuid() == 0 else ""
        (folder / "my.cnf").write_text(SETTINGS.format(port=self.port, **files) + root)
        (folder / "users.sql").write_text(USERS)
        self.run(*self.command()[:2], "--initialize-insecure")

    def command(self) -> Sequence[str]:
        return [str(MYSQLD), f"--defaults-file={self.folder}/my.cnf", f"--init-file={self.folder}/users.sql"]

    def answers(self) -> bool:
        try:
            self.as_operator("SELECT 42")
        except DBAPIError:
            return False
        return True

    def start(self) -> None:
        super().start()
        self.set_password(PASSWORD)
        self.as_operator(
            "CREATE USER IF NOT EXISTS 'certified'@'%%' REQUIRE X509",
            *(f"GRANT ALL ON `raingauge%%`.* TO '{user}'@'%%'" for user in (USER, "certified")),
        )

    def set_password(self, password: str) -> None:
        """Of the user, at once for new connections."""
        self.as_operator(f"CREATE USER IF NOT EXISTS '{USER}'@'%%'")
        self.as_operator(f"ALTER USER '{USER}'@'%%' IDENTIFIED WITH caching_sha2_password BY %s", values=(password,))

    def forget_logins(self) -> None:
        """Empty the cache of `caching_sha2_password`: the next login of each user has to send the password."""
        self.as_operator("FLUSH PRIVILEGES")

    @property
    def url(self) -> str:
        """Of the database `raingauge`, with every check."""
        return self.url_with(ssl_ca=str(self.certificates.ca)).render_as_string(hide_password=False)

    def url_with(self, user: str = USER, password: str | None = PASSWORD, host: str = HOST, **query: str) -> URL:
        """With other parameters than those that are right."""
        return URL.create("mysql+pymysql", user, password, host, self.port, "raingauge", query)

    def fresh(self) -> None:
        """An empty database with the schema in it."""
        self.as_operator("DROP DATABASE IF EXISTS raingauge", "CREATE DATABASE raingauge")
        with closing(open_database(self.url)) as database:
            prepare(database)

    def as_operator(self, *statements: str, values: tuple[str, ...] = ()) -> None:
        """Run statements of the driver with its `%s`, and `%%` for a `%`."""
        engine = create_engine(self.url_with("operator", "operator").set(database="mysql"))  # no certificate is checked
        try:
            with engine.connect() as connection:
                for statement in statements:
                    connection.exec_driver_sql(statement, values)
        finally:
            engine.dispose()
