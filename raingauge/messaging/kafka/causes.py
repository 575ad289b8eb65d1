"""Why Kafka cannot be used, in one line for an operator; and whether waiting can help.

aiokafka reports only that no broker could be used, so this connects to each broker, and to the addresses that it
advertises, as a client does: TCP, TLS, authentication. It must not show a secret, nor change anything.
"""

import asyncio
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import (
    BrokerResponseError,
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.admin import SaslHandShakeRequest

from raingauge.errors import SettingsError
from raingauge.messaging.kafka.cluster import Cluster

CONNECT_S: Final = 3.0  # for each step
_NO_BROKER: Final = "accepts connections but does not answer as a Kafka broker"
_CERTIFICATES: Final = {
    9: "is not valid yet",
    10: "has expired",
    62: "is for another host name",
    64: "is for another address",
}
"""OpenSSL's verify codes, x509_vfy.h; the others concern the authority."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a broker cannot be used; `lasting`: a person has to change something."""

    cause: str
    lasting: bool = False


async def explain(cluster: Cluster, error: Exception) -> str:
    """Why an operation on this cluster failed, as one line for an operator: the cause if found, else the error."""
    if isinstance(error, BrokerResponseError):  # the brokers are reachable and say what is wrong
        return one_line(error)
    try:
        faults = await faults_of(cluster)
    except SettingsError as changed:  # a file is gone meanwhile
        return str(changed)
    return "; ".join(dict.fromkeys(fault.cause for fault in faults if fault)) or one_line(error)


async def faults_of(cluster: Cluster) -> Sequence[Fault | None]:
    """For each broker of `broker.url` its fault, or None if it lets this program in. Raises SettingsError: a file."""
    security = cluster.security()
    return await asyncio.gather(*(_fault(cluster, server, security) for server in cluster.servers))


async def _fault(cluster: Cluster, server: str, security: dict[str, Any]) -> Fault | None:
    parts = urlsplit(f"//{server}")
    if fault := await _obstacle(cluster, security, parts.hostname or "", parts.port or 0):
        return Fault(f"{server} {fault.cause}", fault.lasting)
    client = AIOKafkaClient(bootstrap_servers=[server], request_timeout_ms=int(CONNECT_S * 1000), **security)
    try:
        async with asyncio.timeout(CONNECT_S):
            await client.bootstrap()
        advertised = {f"{broker.host}:{broker.port}": broker for broker in client.cluster.brokers()}
    except (KafkaError, OSError):
        return await _without_metadata(cluster, server, parts.hostname or "", parts.port or 0, security)
    finally:
        await client.close()
    for address, broker in advertised.items():
        known = address in cluster.servers
        if not known and (fault := await _obstacle(cluster, security, broker.host, broker.port)):
            which = f"the broker at {server} says to connect to {address}, which"
            return Fault(f"{which} {fault.cause}; check advertised.listeners", fault.lasting)
    return None


async def _without_metadata(cluster: Cluster, server: str, host: str, port: int, security: dict[str, Any]) -> Fault:
    """A broker answers any client's first request; for more, it may want to know who the client is."""
    if not cluster.authenticates and (offered := await _mechanisms(host, port, security)):
        setting = "sasl_ssl" if cluster.encrypts else "sasl_plaintext"
        return Fault(f"{server} requires authentication ({offered}): set broker.security to {setting}", lasting=True)
    return Fault(f"{server} {_NO_BROKER}")


async def _obstacle(cluster: Cluster, security: dict[str, Any], host: str, port: int) -> Fault | None:
    """What keeps a client from connecting and authenticating there."""
    if cause := await _cannot_connect(host, port):
        return Fault(cause)
    try:
        await _connected(host, port, security)
    except Exception as error:  # noqa: BLE001  aiokafka documents none
        return await _meaning(cluster, host, port, security, list(_with_causes(error)))
    return None


async def _connected(host: str, port: int, security: dict[str, Any]) -> None:
    """Connect and authenticate, as aiokafka's clients do, and disconnect."""
    connection = await _connect(host, port, security)
    await connection.close()


async def _connect(host: str, port: int, security: dict[str, Any]) -> AIOKafkaConnection:
    async with asyncio.timeout(CONNECT_S):
        return await create_conn(host, port, request_timeout_ms=int(CONNECT_S * 1000), **security)


async def _meaning(
    cluster: Cluster, host: str, port: int, security: dict[str, Any], errors: Sequence[BaseException]
) -> Fault:
    for error in errors:
        if isinstance(error, ssl.SSLCertVerificationError):
            return Fault(_bad_certificate(cluster, error), lasting=True)
        if isinstance(error, SaslAuthenticationFailed):
            words = " ".join(str(each) for each in error.args)[:200]  # the broker's
            cause = f"refuses this user or password: check broker.username and broker.password_file ({words})"
            return Fault(cause, lasting=True)
        if isinstance(error, UnsupportedSaslMechanismError):
            offered = await _mechanisms(host, port, security) or "none"
            cause = f"does not offer {cluster.settings.sasl_mechanism}, but {offered}"
            return Fault(f"{cause}: set broker.sasl_mechanism", lasting=True)
        if isinstance(error, IllegalSaslStateError):
            setting = "ssl" if cluster.encrypts else "plaintext"
            return Fault(f"does not authenticate clients: set broker.security to {setting}", lasting=True)
        if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
            return Fault(_refused_handshake(cluster, error), lasting=True)
    return await _wrong_encryption(cluster, host, port) or Fault(_NO_BROKER)


async def _wrong_encryption(cluster: Cluster, host: str, port: int) -> Fault | None:
    """Whether it would answer without TLS, or with it."""
    sasl = "sasl_" if cluster.authenticates else ""
    if cluster.encrypts:
        with suppress(Exception):
            await _connected(host, port, {"security_protocol": "PLAINTEXT"})
            return Fault(f"does not use TLS: set broker.security to {sasl}plaintext", lasting=True)
        return None
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # only to see whether it is TLS: nothing is sent
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(CONNECT_S):
            await _close((await asyncio.open_connection(host, port, ssl=unverified))[1])
        return Fault(f"uses TLS: set broker.security to {sasl}ssl", lasting=True)
    return None


async def _mechanisms(host: str, port: int, security: dict[str, Any]) -> str:
    """The mechanisms that a broker offers; empty if there are none or it does not say."""
    plain = {"security_protocol": security["security_protocol"].removeprefix("SASL_")}
    with suppress(KafkaError, OSError, TimeoutError):
        connection = await _connect(host, port, plain | {"ssl_context": security.get("ssl_context")})
        try:
            answer = await connection.send(SaslHandShakeRequest("PLAIN"))
            return ", ".join(answer.enabled_mechanisms)
        finally:
            await connection.close()
    return ""


def _bad_certificate(cluster: Cluster, error: ssl.SSLCertVerificationError) -> str:
    if what := _CERTIFICATES.get(error.verify_code):
        return f"has a certificate that {what} ({error.verify_message})"
    if cluster.settings.ca_file:
        return f"has a certificate of an authority that is not in broker.ca_file ({error.verify_message})"
    hint = "broker.ca_file names a file with others"
    return f"has a certificate of an authority that the system does not trust ({error.verify_message}); {hint}"


def _refused_handshake(cluster: Cluster, error: ssl.SSLError) -> str:
    words = (error.reason or "").rpartition("ALERT_")[2].replace("_", " ").lower()
    if cluster.settings.certificate_file:
        return f"refuses the certificate of broker.certificate_file ({words})"
    if "certificate" in words:
        return f"requires a certificate of its clients ({words}): set broker.certificate_file and broker.key_file"
    return f"refuses the TLS handshake ({words})"


async def _cannot_connect(host: str, port: int) -> str | None:
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return f"does not answer within {CONNECT_S:g} s"
    except socket.gaierror as error:
        return f"cannot be resolved ({error.strerror})"
    except UnicodeError:
        return "is no host name"
    except ConnectionRefusedError:
        return "refuses connections"
    except OSError as error:
        return f"cannot be connected to ({error.strerror or error})"
    await _close(writer)
    return None


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and the causes that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def one_line(error: BaseException) -> str:
    """An error as one line of at most 200 characters, for a log field; aiokafka's errors can fill a screen."""
    name, text = type(error).__name__, str(error)
    return " ".join((text if text.startswith(name) else f"{name}: {text}").split()).removesuffix(":")[:200]
