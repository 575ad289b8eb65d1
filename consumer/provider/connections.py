"""Connections for `consumer.provider.http`: each is controlled by the exchange that uses it.

They connect to a host's addresses in turn, check the time limits before they write, and are reset if their exchange
does not complete. Why that matters is explained in `http`. This module must not decide when a call is made.
"""

import errno
import socket
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from raingauge.clock import Clock
from raingauge.errors import NotSent, ProviderUnavailable

_LOCAL_ERRORS: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
"""This process or machine has no more files, sockets or memory."""
_LINGER_RESET: Final = struct.pack("ii", 1, 0)
_LINGER_DEFAULT: Final = struct.pack("ii", 0, 0)

AddressInfo = tuple[Any, ...]
"""One result of `socket.getaddrinfo`."""


class Exchange:
    """One request and its response, with control over the socket.

    `abort` is called from the watchdog's thread, everything else from the caller's.
    """

    def __init__(self, secret: str, clock: Clock, send_by: float, addresses: "AddressOrder") -> None:
        self.secret = secret
        self.addresses = addresses
        self.address: object = None
        self.aborted = False
        self.sending = False
        self._clock = clock
        self._send_by = send_by
        self._completed = False
        self._lock = threading.Lock()
        self._handle: socket.socket | None = None

    def attach(self, sock: socket.socket) -> None:
        """Control this socket, and have it reset unless the exchange completes.

        Uses a duplicate descriptor: it outlives what urllib3 and TLS do with theirs, and `SSLSocket.shutdown` removes
        the encryption before it shuts down, so that a write in the other thread could go out in plain text.
        """
        with self._lock:
            if self.aborted:
                raise ProviderUnavailable("the deadline passed before the connection was established")
            self._close_handle()
            self._handle = socket.fromfd(sock.fileno(), sock.family, sock.type)
            self._handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)

    def connect_timeout_s(self, timeout_s: float) -> float:
        """Return the time for connecting: at most `timeout_s`, and no longer than a request may still be sent."""
        left_s = self._send_by - self._clock.monotonic()
        return min(timeout_s, left_s) if left_s > 0 else timeout_s

    def start_sending(self) -> None:
        """Mark that bytes may be written from now on. Raises NotSent if it is too late."""
        if self.aborted or self._clock.monotonic() > self._send_by:
            raise NotSent("too late to send: nothing was written")
        self.sending = True

    def complete(self) -> None:
        """End the deadline's control of the connection, which may now serve another call: the response is complete."""
        with self._lock:
            if not self.aborted and self._handle is not None:
                self._completed = True
                self._handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_DEFAULT)
                self._close_handle()

    def abort(self) -> None:
        """Wake the thread that waits on the socket. Shuts down only: a closed descriptor's number may be reused."""
        with self._lock:
            self.aborted = not self._completed
            self._shut_down()

    def release(self) -> None:
        """Close the handle. If the exchange is incomplete, the connection is dead, whoever may still hold it."""
        with self._lock:
            self._shut_down()
            self._close_handle()
        if self.address is not None:
            self.addresses.rank(self.address, works=self._completed)

    def _shut_down(self) -> None:
        if self._handle is not None:
            with suppress(OSError):
                self._handle.shutdown(socket.SHUT_RDWR)

    def _close_handle(self) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None


current_exchange: ContextVar[Exchange] = ContextVar("current_exchange")
"""The exchange of the calling thread."""


class AddressOrder:
    """Remembers which of a host's addresses worked and which failed last, so that a dead one costs a single delay."""

    def __init__(self) -> None:
        self._preferred: object = None
        self._avoided: object = None

    def rank(self, address: object, *, works: bool) -> None:
        """Try an address that gave a complete response first, and last one that did not: it may be half dead."""
        if not works:
            self._avoided = address
            return
        self._preferred = address
        if self._avoided == address:
            self._avoided = None

    def sort(self, found: Sequence[AddressInfo]) -> list[AddressInfo]:
        """Return the resolver's results in the order in which to try them."""
        return sorted(found, key=lambda info: (info[4] == self._avoided, info[4] != self._preferred))


class Connection(HTTPConnection):
    """A connection that checks the exchange's time limits before it writes."""

    # http.client's debug switch would print the request line.
    debuglevel = 0

    def _new_conn(self) -> socket.socket:
        """Connect to the first address that accepts. Each gets an equal share of the time for connecting.

        Raises:
            NotSent: there is no file or memory for a socket.
            ProviderUnavailable: no address accepts. Not an OSError: urllib3 reads ECONNRESET here as a write that may
                still have an answer.
        """
        exchange = current_exchange.get()
        reason = "the host has no address"
        found = socket.getaddrinfo(self._dns_host.strip("[]"), self.port, type=socket.SOCK_STREAM)
        share_s = exchange.connect_timeout_s(float(self.timeout or 0)) / max(1, len(found))
        for family, kind, protocol, _, address in exchange.addresses.sort(found):
            try:
                sock = self._connect(exchange, (family, kind, protocol), address, share_s)
            except (OSError, ProviderUnavailable) as error:
                if is_local(error):
                    raise NotSent(f"no socket: {error}") from None
                reason = str(error)
            else:
                exchange.address = address
                return sock
        raise ProviderUnavailable(f"no connection: {reason}")

    def _connect(self, exchange: Exchange, kind: tuple[int, int, int], address: Any, timeout_s: float) -> socket.socket:
        sock = socket.socket(*kind)
        try:
            exchange.attach(sock)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(timeout_s)
            sock.connect(address)
            sock.settimeout(self.timeout)
        except BaseException:
            sock.close()
            raise
        return sock

    def putrequest(self, method: str, url: str, skip_host: bool = False, skip_accept_encoding: bool = False) -> None:
        super().putrequest(method, f"{url}&{current_exchange.get().secret}", skip_host, skip_accept_encoding)

    def send(self, data: Any) -> None:
        """Write the whole request (it has no body), if there is time left once connected."""
        exchange = current_exchange.get()
        if self.sock is None:
            self.connect()
        exchange.attach(self.sock)
        exchange.start_sending()
        super().send(data)


class TlsConnection(Connection, HTTPSConnection):
    """The same over TLS."""


class ConnectionPool(HTTPConnectionPool):
    """A pool that detaches a connection from its exchange before another call can take it."""

    ConnectionCls = Connection

    def _put_conn(self, conn: Any) -> None:
        if conn is not None and not conn.is_closed:
            current_exchange.get().complete()
        super()._put_conn(conn)


class TlsConnectionPool(ConnectionPool, HTTPSConnectionPool):
    """The same over TLS."""

    ConnectionCls = TlsConnection


def is_local(error: BaseException | None) -> bool:
    """Whether the error or one of its causes means that this side lacks a file, a socket, memory or a thread."""
    while error is not None:
        if isinstance(error, RuntimeError) or (isinstance(error, OSError) and error.errno in _LOCAL_ERRORS):
            return True
        error = error.__cause__ or error.__context__
    return False
