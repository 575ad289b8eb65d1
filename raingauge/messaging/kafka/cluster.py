"""The Kafka cluster: its brokers, and how clients encrypt and authenticate.

The one place that makes the arguments of aiokafka's clients. It must not connect to anything.
"""

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from raingauge.errors import SettingsError
from raingauge.settings.secrets import secret_in
from raingauge.settings.sections import BrokerSettings

_SERVER: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[\w-]+(?:\.[\w-]+)*\.?):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Cluster:
    """Brokers as host:port, and the settings of their security; by default neither TLS nor authentication."""

    servers: tuple[str, ...]
    settings: BrokerSettings = field(default_factory=BrokerSettings)

    @property
    def encrypts(self) -> bool:
        """Whether connections use TLS."""
        return self.settings.security in {"ssl", "sasl_ssl"}

    @property
    def authenticates(self) -> bool:
        """Whether connections authenticate with SASL."""
        return self.settings.security in {"sasl_plaintext", "sasl_ssl"}

    def arguments(self) -> dict[str, Any]:
        """The arguments that all of aiokafka's clients share. Raises as `security`."""
        return {"bootstrap_servers": list(self.servers), **self.security()}

    def security(self) -> dict[str, Any]:
        """The arguments for encryption and authentication.

        The files are read each time: a new client takes a password or certificate that has been replaced.

        Raises:
            SettingsError: a file cannot be read, or its content is not usable.
        """
        arguments: dict[str, Any] = {"security_protocol": self.settings.security.upper()}
        if self.encrypts:
            arguments["ssl_context"] = _tls_context(self.settings)
        if self.authenticates:
            arguments |= {
                "sasl_mechanism": self.settings.sasl_mechanism,
                "sasl_plain_username": self.settings.username,
                "sasl_plain_password": secret_in("broker.password_file", self.settings.password_file),
            }
        return arguments


def cluster_of(settings: BrokerSettings) -> Cluster:
    """The cluster that the settings name.

    Raises:
        SettingsError: settings are missing, contradict each other, or name files that are not usable.
    """
    cluster = Cluster(servers_of(settings.url), settings)
    _check_combination(cluster)
    cluster.security()
    return cluster


def servers_of(url: str) -> tuple[str, ...]:
    """The brokers of `kafka://host:9092,host:9092`.

    Raises:
        SettingsError: the URL has another form. The message omits it: a mistyped URL may contain a password.
    """
    if not url.startswith("kafka://"):
        raise SettingsError("broker.url: expected kafka://host:port,host:port")
    servers = tuple(server.strip() for server in url.removeprefix("kafka://").removesuffix("/").split(","))
    for server in servers:
        match = _SERVER.fullmatch(server)
        if match is None or not 0 < int(match[1]) < 65_536:
            raise SettingsError("broker.url: write each broker as host:port, separated by commas")
    return servers


def _check_combination(cluster: Cluster) -> None:
    """Refuse settings that would be ignored: a connection would be less safe than its settings look."""
    settings, security = cluster.settings, cluster.settings.security
    for name in ("username", "password_file"):
        if cluster.authenticates and not getattr(settings, name):
            raise SettingsError(f"broker.{name}: broker.security is {security}, so it must be set")
        if not cluster.authenticates and getattr(settings, name):
            raise SettingsError(f"broker.{name} needs broker.security sasl_ssl or sasl_plaintext, which is {security}")
    for name in ("ca_file", "certificate_file", "key_file", "key_password_file"):
        if not cluster.encrypts and getattr(settings, name):
            raise SettingsError(f"broker.{name} needs broker.security ssl or sasl_ssl, which is {security}")
    if settings.key_file and not settings.certificate_file:
        raise SettingsError("broker.certificate_file: broker.key_file is set, so it must be set, too")


def _tls_context(settings: BrokerSettings) -> ssl.SSLContext:
    """Trusts `ca_file`, or the system's authorities; always checks the certificate and the host name."""
    if settings.ca_file:
        _require_readable("broker.ca_file", settings.ca_file)
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
    except ssl.SSLError:
        raise SettingsError(f"broker.ca_file: {settings.ca_file} has no certificate in PEM") from None
    # Python 3.13 would refuse authorities that OpenSSL, Java and librdkafka accept (no key identifiers).
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if settings.certificate_file:
        _load_certificate(context, settings)
    return context


def _load_certificate(context: ssl.SSLContext, settings: BrokerSettings) -> None:
    """Load the client's certificate with its key, which may be in the same file."""
    for name in ("certificate_file", "key_file"):
        if file := getattr(settings, name):
            _require_readable(f"broker.{name}", file)
    # Never without a password: OpenSSL would ask for it on the terminal.
    file = settings.key_password_file
    password = secret_in("broker.key_password_file", file) if file else ""
    try:
        context.load_cert_chain(settings.certificate_file, settings.key_file or None, password)
    except ssl.SSLError as error:
        names = "broker.certificate_file, broker.key_file"
        if error.reason == "KEY_VALUES_MISMATCH":
            raise SettingsError(f"{names}: the key is not that of the certificate") from None
        hint = "if the key is encrypted, broker.key_password_file names a file with its password"
        raise SettingsError(f"{names}: no certificate and key in PEM can be read with these; {hint}") from None


def _require_readable(setting: str, file: str) -> None:
    """Raise an error that names the file: those of `ssl` do not."""
    try:
        with Path(file).open("rb"):
            pass
    except OSError as error:
        raise SettingsError(f"{setting}: cannot read {file}: {error.strerror}") from None
