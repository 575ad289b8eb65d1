"""A MySQL that wants TLS and logs in with `caching_sha2_password`: for tests, on a free port.

It runs what `make mysql` has fetched. MariaDB has no such login.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.marks import PASSWORD
from tests.support.processes import ROOT
from tests.support.secured import USER, OverTls
from tests.support.servers import MySQLServer

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


class SecuredMySQL(OverTls, MySQLServer):
    """It takes TLS connections only. The user `certified` needs a certificate."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        certificate, key = self.certificates.issue_server()
        files = {"folder": folder, "ca": self.certificates.ca, "certificate": certificate, "key": key}
        root = "user = root\n" if os.geteuid() == 0 else ""
        (folder / "my.cnf").write_text(SETTINGS.format(port=self.port, **files) + root)
        (folder / "users.sql").write_text(USERS)
        self.run(*self.command()[:2], "--initialize-insecure")

    def command(self) -> Sequence[str]:
        return [str(MYSQLD), f"--defaults-file={self.folder}/my.cnf", f"--init-file={self.folder}/users.sql"]

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
