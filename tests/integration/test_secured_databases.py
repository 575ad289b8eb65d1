"""MariaDB, MySQL and PostgreSQL with TLS: what the URL's parameters check, and one line for what is wrong with them."""

from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL

from raingauge.database import open_database
from raingauge.errors import DatabaseUnavailable, SettingsError
from tests.e2e.marks import HEADS_AND_TAILS, PASSWORD, assert_unmarked
from tests.support.certificates import HOST, Certificates
from tests.support.eventually import eventually
from tests.support.mysql import SecuredMySQL
from tests.support.secured import USER, SecuredMariaDB, SecuredPostgres

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("secured")]

KEY_PASSWORD = HEADS_AND_TAILS[3]
TLS_VERSION = {
    "mysql": "SHOW STATUS LIKE 'Ssl_version'",
    "postgresql": "SELECT 'version', version FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
}


class Joined:
    """One of the servers, with its URLs in the words of its driver."""

    def __init__(self, server: SecuredMariaDB | SecuredMySQL | SecuredPostgres) -> None:
        self.server = server
        self.mysql = not isinstance(server, SecuredPostgres)
        self.issued: Certificates = server.certificates

    def checked(self, ca: Path | str = "", user: str = USER, password: str | None = PASSWORD, host: str = HOST) -> URL:
        """With every check that there is."""
        ca = str(ca or self.issued.ca)
        query = {"ssl_ca": ca} if self.mysql else {"sslmode": "verify-full", "sslrootcert": ca}
        return self.server.url_with(user, password, host, **query)

    def with_certificate(self, certificate: Path, key: Path, password: str = "") -> URL:
        names = ("ssl_cert", "ssl_key", "ssl_key_password") if self.mysql else ("sslcert", "sslkey", "sslpassword")
        given = {name: str(value) for name, value in zip(names, (certificate, key, password), strict=True) if value}
        return self.checked(user="certified", password=None).update_query_dict(given)


@pytest.fixture(params=["mariadb", pytest.param("mysql", marks=pytest.mark.mysql), "postgres"])
def joined(request: pytest.FixtureRequest) -> Joined:
    server = request.getfixturevalue(f"secured_{request.param}")
    return Joined(server)


def start(url: URL) -> str:
    """The TLS version that is in use."""
    with closing(open_database(url.render_as_string(hide_password=False))) as database:
        database.check_at_start()

        def version(connection: Connection) -> str:
            return str(connection.execute(text(TLS_VERSION[url.get_backend_name()])).one()[1])

        return database.read(version)


def starts(url: URL) -> bool:
    with suppress(SettingsError):
        return bool(start(url))
    return False


def refusal(url: URL) -> str:
    """The line with which a program ends that is started with this URL."""
    with pytest.raises(SettingsError) as refused:
        start(url)
    line = str(refused.value)
    assert line.startswith("database.url: ")
    assert "\n" not in line
    assert_unmarked(line, "the error")
    return line


def test_a_server_is_joined_with_a_password_or_a_certificate_whose_key_may_be_encrypted(joined: Joined) -> None:
    assert start(joined.checked()) == "TLSv1.3"
    assert start(joined.with_certificate(*joined.issued.issue("certified"))) == "TLSv1.3"
    encrypted = joined.issued.issue("certified", key_password=KEY_PASSWORD)
    assert start(joined.with_certificate(*encrypted, KEY_PASSWORD)) == "TLSv1.3"


WRONG: dict[str, tuple[Callable[[Joined], URL], str]] = {
    "password": (lambda j: j.checked(password=f"{HEADS_AND_TAILS[2]}!"), "denied for user|authentication failed"),
    "authority": (lambda j: j.checked(j.issued.stranger), "certificate verify failed"),
    "host name": (lambda j: j.checked(host="localhost"), r"Hostname mismatch|does not match host name"),
    "file": (lambda j: j.checked("/missing/ca.pem"), "/missing/ca.pem"),
    "content of the file": (lambda j: j.checked(j.issued.issue("certified")[1]), "ssl_ca: no cert|not read root cert"),
    "lack of a certificate": (lambda j: j.checked(user="certified"), "Access denied|requires a valid client cert"),
    "password of the key": (
        lambda j: j.with_certificate(*j.issued.issue("certified", key_password=KEY_PASSWORD)),
        "ssl_key_password is wrong|not load private key file",
    ),
    "lack of encryption": (
        lambda j: j.server.url_with(**({"ssl_disabled": "true"} if j.mysql else {"sslmode": "disable"})),
        "Access denied|insecure transport|no encryption",
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_ends_the_start_with_one_line_that_names_it(joined: Joined, wrong: str) -> None:
    make, expected = WRONG[wrong]
    assert_matches(refusal(make(joined)), expected)


def assert_matches(line: str, expected: str) -> None:
    assert any(words in line for words in expected.split("|")), line


@pytest.mark.parametrize("joined", ["mariadb", "postgres"], indirect=True)
def test_an_expired_certificate_ends_the_start_and_is_waited_out_later(joined: Joined) -> None:
    assert not isinstance(joined.server, SecuredMySQL), "it does not load one"
    good, expired = joined.issued.issue_server(), joined.issued.issue("expired", "127.0.0.1", expired=True)
    kept = tuple(path.with_suffix(f"{path.suffix}.kept") for path in good)
    for path, copy in zip(good, kept, strict=True):
        copy.write_bytes(path.read_bytes())
    with closing(open_database(joined.checked().render_as_string(hide_password=False), pool_size=1)) as database:
        database.check_at_start()
        joined.server.present(*expired)
        try:
            eventually(lambda: not starts(joined.checked()), 10)
            assert_matches(refusal(joined.checked()), "has expired")
            database.close()
            with pytest.raises(DatabaseUnavailable, match="has expired"):
                database.read(lambda connection: connection.execute(text("SELECT 1")))
        finally:
            joined.server.present(kept[0], kept[1])
        eventually(lambda: starts(joined.checked()), 10)
        assert database.read(lambda connection: connection.execute(text("SELECT 1")).scalar_one()) == 1


def test_a_url_that_wants_tls_is_refused_by_a_server_that_has_none(schemas: dict[str, str]) -> None:
    ca = "/etc/ssl/certs/ca-certificates.crt"
    for kind, query in (("mariadb", f"?ssl_ca={ca}"), ("postgres", "?sslmode=require")):
        with (
            closing(open_database(schemas[kind] + query)) as database,
            pytest.raises(SettingsError, match=r"server doesn't support it|does not support SSL"),
        ):
            database.check_at_start()
