"""Sends the requests of one webhook, only to addresses that it may call.

The address that was checked is the one that is connected to, so a name that resolves to something else a moment later
leads nowhere else. Redirects are not followed, no proxy is used, and the body of an answer is not read. It must not
decide when or how often something is sent. Errors contain nothing of what was sent or received.
"""

import base64
import ipaddress
import socket
import ssl
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import httpcore
from pydantic import HttpUrl

from raingauge.blocking import RunBlocking
from raingauge.errors import NotDelivered, SettingsError

CONNECT_S: Final = 6.0
"""For connecting, shared by the addresses of a name."""
GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
"""All that is assigned to the public internet (RFC 4291, 2.4)."""
NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""Leads to the IPv4 address in its last 32 bits (RFC 6052)."""


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Trusts the certificate authorities of this file or directory; None: the usual ones.

    Raises:
        SettingsError: the file holds no certificates.
    """
    if ca_file is None:
        return httpcore.default_ssl_context()
    try:
        if Path(ca_file).is_dir():
            return ssl.create_default_context(capath=ca_file)
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise SettingsError(f"{ca_file} holds no certificates: {error.strerror or error}") from error


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet: not private, loopback, link-local, multicast, reserved."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        if found in NAT64:
            return is_public(str(ipaddress.IPv4Address(found.packed[-4:])))
        return found in GLOBAL_UNICAST and found.is_global and found.sixtofour is None
    return found.is_global and not found.is_multicast and not found.is_reserved


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to the addresses of a name in turn, if it may connect to all of them."""

    def __init__(self, run_blocking: RunBlocking, *, allow_private: bool) -> None:
        self._network = httpcore.AnyIOBackend()
        self._run_blocking = run_blocking
        self._allow_private = allow_private

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002  (of one phase; the caller limits the whole)
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that accepts.

        Raises:
            NotDelivered: the name has no address, one that is not public and not allowed, or none that accepts.
        """
        addresses = await self._resolve(host, port)
        if not self._allow_private and not all(map(is_public, addresses)):
            raise NotDelivered("an address of the host is not public: see notify.allow_private")
        for address in addresses:
            try:
                return await self._network.connect_tcp(
                    address, port, CONNECT_S / len(addresses), local_address, socket_options
                )
            except (httpcore.NetworkError, httpcore.TimeoutException):
                continue
        raise NotDelivered("no connection")

    async def _resolve(self, host: str, port: int) -> Sequence[str]:
        def work() -> list[str]:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            return list(dict.fromkeys(str(info[4][0]) for info in found))

        try:
            return await self._run_blocking(work)
        except (OSError, UnicodeError):
            raise NotDelivered("the host's name cannot be resolved") from None


class WebhookClient:
    """Sends to one URL. Names are resolved through `run_blocking`, which should be this client's own."""

    def __init__(self, url: HttpUrl, tls: ssl.SSLContext, run_blocking: RunBlocking, *, allow_private: bool) -> None:
        self._url = str(url)
        self._credentials = _credentials(url)
        self._connections = httpcore.AsyncConnectionPool(
            tls, max_keepalive_connections=0, network_backend=CheckedNetwork(run_blocking, allow_private=allow_private)
        )

    async def post(self, headers: Mapping[str, str], body: bytes) -> int:
        """The status of the answer. It takes as long as the receiver does: the caller limits it.

        Raises:
            NotDelivered: there is no answer.
        """
        sent = [*headers.items(), *self._credentials.items()]
        try:
            async with self._connections.stream("POST", self._url, headers=sent, content=body) as answer:
                return answer.status
        except httpcore.ConnectError as error:
            raise NotDelivered(_reason(error)) from None
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            # Not in its own words: they quote what was received, which may be an echo of what was sent.
            raise NotDelivered(f"no valid answer: {type(error).__name__}") from None


def _reason(error: BaseException | None) -> str:
    """Why there is no connection: OpenSSL's word, if it was the reason."""
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return f"no TLS: {error.reason}"
        error = error.__cause__ or error.__context__
    return "no connection"


def _credentials(url: HttpUrl) -> dict[str, str]:
    """The header for user and password in a URL (RFC 7617), if there are any."""
    if url.username is None and url.password is None:
        return {}
    pair = f"{unquote(url.username or '')}:{unquote(url.password or '')}"
    return {"authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
