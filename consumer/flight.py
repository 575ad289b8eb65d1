"""One call on its way: its socket, which can be taken back, and connections that ask it before they write.

What it is good for: `consumer.wire`.
"""

import socket
import struct
import threading
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from raingauge.clock import Clock
from raingauge.errors import ProviderUnavailable

_RESET: Final = struct.pack("ii", 1, 0)
_ORDERLY: Final = struct.pack("ii", 0, 0)


class Flight:
    """One call on its way. `abort` comes from the deadline's thread, everything else from the caller's."""

    def __init__(self, secret: str, clock: Clock, send_by: float) -> None:
        self.secret = secret
        self.aborted = False
        self._clock = clock
        self._send_by = send_by
        self._landed = False
        self._lock = threading.Lock()
        self._handle: socket.socket | None = None

    def hold(self, sock: socket.socket) -> None:
        """Follow the call to this socket, and have it reset unless the call lands.

        Through a descriptor of our own: it outlives what urllib3 and TLS do with theirs, and `SSLSocket.shutdown` drops
        the encryption before it shuts, so that a write in the other thread could go out in plain.
        """
        with self._lock:
            if self.aborted:
                raise ProviderUnavailable("the deadline passed before the connection stood")
            self._let_go()
            self._handle = socket.fromfd(sock.fileno(), sock.family, sock.type)
            self._handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def clear_to_write(self) -> None:
        """Raises: ProviderUnavailable: it is too late to send."""
        if self.aborted or self._clock.monotonic() > self._send_by:
            raise ProviderUnavailable("too late to send: nothing was written")

    def land(self) -> None:
        """The answer is complete: the deadline has no more say over the connection, which may serve another call."""
        with self._lock:
            if not self.aborted and self._handle is not None:
                self._landed = True
                self._handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ORDERLY)
                self._let_go()

    def abort(self) -> None:
        """Wake whoever waits on the socket. Only shut, never closed: a closed descriptor's number may be another's."""
        with self._lock:
            self.aborted = not self._landed
            self._shut()

    def end(self) -> None:
        """Give the handle back. If the call did not land, the connection is dead, whoever may still hold it."""
        with self._lock:
            self._shut()
            self._let_go()

    def _shut(self) -> None:
        if self._handle is not None:
            with suppress(OSError):
                self._handle.shutdown(socket.SHUT_RDWR)

    def _let_go(self) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None


in_flight: ContextVar[Flight] = ContextVar("in_flight")
"""The call that this thread makes."""


class Connection(HTTPConnection):
    """A connection that asks the flight before it writes."""

    # http.client's own switch for debugging would print the request line.
    debuglevel = 0

    def _new_conn(self) -> socket.socket:
        """Like urllib3's, which tries all addresses of a host, but one deadline covers them all."""
        reason = "the host has no address"
        for family, kind, protocol, _, address in socket.getaddrinfo(
            self._dns_host.strip("[]"), self.port, type=socket.SOCK_STREAM
        ):
            sock = socket.socket(family, kind, protocol)
            try:
                in_flight.get().hold(sock)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(self.timeout)
                sock.connect(address)
            except (OSError, ProviderUnavailable) as error:
                sock.close()
                reason = str(error)
            else:
                return sock
        # Not an OSError: urllib3 takes ECONNRESET here for a write that may still have an answer.
        raise ProviderUnavailable(f"no connection: {reason}")

    def putrequest(self, method: str, url: str, skip_host: bool = False, skip_accept_encoding: bool = False) -> None:
        super().putrequest(method, f"{url}&{in_flight.get().secret}", skip_host, skip_accept_encoding)

    def send(self, data: Any) -> None:
        """Write a request whole (it has no body), if there is still time once the connection stands."""
        flight = in_flight.get()
        if self.sock is None:
            self.connect()
        flight.hold(self.sock)
        flight.clear_to_write()
        super().send(data)


class TlsConnection(Connection, HTTPSConnection):
    """The same over TLS."""


class Pool(HTTPConnectionPool):
    """A pool whose connections are free of their flight before others can take them."""

    ConnectionCls = Connection

    def _put_conn(self, conn: Any) -> None:
        if conn is not None and not conn.is_closed:
            in_flight.get().land()
        super()._put_conn(conn)


class TlsPool(Pool, HTTPSConnectionPool):
    """The same over TLS."""

    ConnectionCls = TlsConnection
