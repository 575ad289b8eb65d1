"""MySQL's `caching_sha2_password`: the password over TLS, encrypted with RSA or cached, and one line when it fails."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from tests.e2e.marks import HEADS_AND_TAILS, assert_unmarked
from tests.integration.test_secured_databases import refusal, start
from tests.support.mysql import SecuredMySQL
from tests.support.processes import launched

pytestmark = [pytest.mark.services, pytest.mark.mysql, pytest.mark.xdist_group("secured")]

WRONG = f"{HEADS_AND_TAILS[2]}!"
DENIED = "Access denied for user 'raingauge'"


@pytest.fixture
def mysql(secured_mysql: SecuredMySQL) -> Iterator[SecuredMySQL]:
    """It takes connections without TLS, too, and the next login has to send the password."""
    secured_mysql.as_operator("SET GLOBAL require_secure_transport = OFF")
    secured_mysql.forget_logins()
    yield secured_mysql
    secured_mysql.as_operator("SET GLOBAL require_secure_transport = ON")


def over_tls(mysql: SecuredMySQL, **parts: str) -> URL:
    return mysql.url_with(**parts, ssl_ca=str(mysql.certificates.ca))


def without_tls(mysql: SecuredMySQL, **parts: str) -> URL:
    return mysql.url_with(**parts, ssl_disabled="true")


def test_a_password_is_sent_over_tls_or_encrypted_with_the_servers_key_and_then_cached(mysql: SecuredMySQL) -> None:
    assert start(over_tls(mysql)) == "TLSv1.3"
    assert start(over_tls(mysql)) == "TLSv1.3", "cached"
    mysql.forget_logins()
    assert start(without_tls(mysql)) == ""
    assert start(without_tls(mysql)) == "", "cached"


def test_a_wrong_password_ends_the_start_whether_the_right_one_is_cached_or_not(mysql: SecuredMySQL) -> None:
    for _ in range(2):
        for url in (over_tls(mysql, password=WRONG), without_tls(mysql, password=WRONG)):
            assert DENIED in refusal(url)
        start(over_tls(mysql))


def test_without_the_package_for_rsa_only_tls_and_cached_logins_work_and_a_program_names_the_remedy(
    mysql: SecuredMySQL, tmp_path: Path
) -> None:
    (tmp_path / "cryptography.py").write_text("raise ImportError\n")

    def migrate(url: URL) -> tuple[int, list[str]]:
        """Exit status and output."""
        settings = {"RAINGAUGE_DATABASE__URL": url.render_as_string(hide_password=False), "PYTHONPATH": str(tmp_path)}
        with launched("alembic", "upgrade", "head", settings=settings) as migration:
            status = migration.ended()
        assert_unmarked(migration.output, "the output")
        return status, migration.lines

    status, (line,) = migrate(without_tls(mysql))
    assert status == 2
    assert line.startswith(f"127.0.0.1:{mysql.port}/raingauge: 'cryptography' package is required for ")
    assert line.endswith(": install pymysql[rsa], or connect with TLS")
    assert migrate(over_tls(mysql))[0] == 0
    assert migrate(without_tls(mysql))[0] == 0, "cached"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("ALTER USER odd ACCOUNT LOCK", "Account is locked"),
        ("ALTER USER odd PASSWORD EXPIRE", "Your password has expired"),
        ("UPDATE mysql.user SET plugin = 'mysql_native_password' WHERE user = 'odd'", "'mysql_native_password' is not"),
    ],
    ids=["locked", "expired", "of a removed method"],
)
def test_a_user_that_cannot_log_in_ends_the_start(mysql: SecuredMySQL, change: str, words: str) -> None:
    mysql.as_operator("CREATE USER odd IDENTIFIED BY 'odd'", change, "FLUSH PRIVILEGES")
    try:
        assert words in refusal(over_tls(mysql, user="odd", password="odd"))  # pragma: allowlist secret
    finally:
        mysql.as_operator("DROP USER odd")
