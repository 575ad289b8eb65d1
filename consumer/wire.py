"""One HTTP call: written at most once, not after a given moment, over by a deadline, and without a trace of the key.

The quota's proof (docs: quota, "The rule") rests on four things that `requests` does not give by itself:

- **One write.** No retry, redirect, proxy or cookie: `requests.Session`, which brings them, is left out; its transport
  adapter is used alone, with urllib3's retries off. A connection that the server closed while it was idle is noticed
  before it is used; if it closes later, the call fails and is not written again.
- **`send_by` is checked last**: when the connection stands, between all that can block and the write.
- **`timeout_s` is a hard total.** Theirs bounds only the silence between two bytes; here a deadline shuts the socket.
  Only the resolver cannot be hurried; nothing is written once the deadline has passed.
- **A request given up is taken back.** Its socket closes with a reset (SO_LINGER 0, socket(7)), which empties the
  kernel's send queue; else the kernel would retransmit for a minute and more, into quota that is free again by then.

The key joins the request line as it is buffered for the write, so neither `requests` nor urllib3, whose errors and logs
show URLs, ever has it; what a server echoes is cut out of their texts. Nothing here knows of weather.
"""

import logging
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Retry
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from raingauge.clock import Clock
from raingauge.errors import ProviderUnavailable

MAX_BODY_BYTES = 4 * 1024 * 1024
"""Twenty cities need some 10 kB."""

_RESET, _ORDERLY = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)
_HEADERS = {"User-Agent": "raingauge", "Accept": "application/json", "Accept-Encoding": "identity"}
# ValueError: some of a server's nonsense comes through as such. RuntimeError: there is no thread for the deadline.
_TROUBLE = (requests.RequestException, HTTPError, HTTPException, OSError, ValueError, RuntimeError)


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP answer, decoded of its transfer and content encodings."""

    status: int
    headers: Mapping[str, str]
    """Names in any case."""
    body: bytes


class _Flight:
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


_in_flight: ContextVar[_Flight] = ContextVar("_in_flight")


class _Connection(HTTPConnection):
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
                _in_flight.get().hold(sock)
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
        super().putrequest(method, f"{url}&{_in_flight.get().secret}", skip_host, skip_accept_encoding)

    def send(self, data: Any) -> None:
        """Write a request whole (it has no body), if there is still time once the connection stands."""
        flight = _in_flight.get()
        if self.sock is None:
            self.connect()
        flight.hold(self.sock)
        flight.clear_to_write()
        super().send(data)


class _TlsConnection(_Connection, HTTPSConnection):
    """The same over TLS."""


class _Pool(HTTPConnectionPool):
    """A pool whose connections are free of their flight before others can take them."""

    ConnectionCls = _Connection

    def _put_conn(self, conn: Any) -> None:
        if conn is not None and not conn.is_closed:
            _in_flight.get().land()
        super()._put_conn(conn)


class _TlsPool(_Pool, HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class Wire:
    """Calls one server. For several threads at once.

    It keeps up to `connections` open for reuse; more calls at once open more, none waits for another.
    """

    def __init__(
        self, base_url: str, secret: str, redact: Callable[[str], str], timeout_s: float, clock: Clock, connections: int
    ) -> None:
        """`secret` is a parameter that ends every query, ready encoded; `redact` cuts it out of texts."""
        self._base_url = base_url.rstrip("/")
        self._secret = secret
        self._redact = redact
        self._timeout_s = timeout_s
        self._clock = clock
        self._adapter = HTTPAdapter(pool_connections=1, pool_maxsize=connections, max_retries=Retry(total=False))
        self._adapter.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
        # Without it urllib3 2 closes a pool when it is garbage collected, and an error of its own can keep it alive.
        self._adapter.poolmanager.pools.dispose_func = HTTPConnectionPool.close
        # It logs headers that it cannot parse as they came, and a proxy may echo the request in them.
        self._logger = logging.getLogger("urllib3.connection")
        self._logger.addFilter(self._redact_record)

    def close(self) -> None:
        """Close the idle connections; those in use close when their calls end."""
        self._adapter.close()
        self._logger.removeFilter(self._redact_record)

    def get(self, target: str, send_by: float) -> Answer:
        """GET `target` (path and query, to which the secret is added), unless it is later than `send_by` (monotonic).

        Raises:
            ProviderUnavailable: no complete answer, or too late to send. It has no cause: theirs may show the secret.
        """
        flight = _Flight(self._secret, self._clock, send_by)
        deadline = threading.Timer(self._timeout_s, flight.abort)
        deadline.daemon = True
        token = _in_flight.set(flight)
        trouble = ""
        try:
            deadline.start()
            answer = self._exchange(target)
            flight.land()
        except ProviderUnavailable as error:
            trouble = self._redact(str(error))
        except _TROUBLE as error:
            trouble = self._redact(f"{type(error).__name__}: {error}")
        finally:
            deadline.cancel()
            flight.end()
            _in_flight.reset(token)
        # Outside the except blocks, so that the error has no context.
        if flight.aborted:
            raise ProviderUnavailable(f"no complete answer within {self._timeout_s:g} s")
        if trouble:
            raise ProviderUnavailable(trouble)
        return answer

    def _exchange(self, target: str) -> Answer:
        request = requests.Request("GET", self._base_url + target, headers=_HEADERS).prepare()
        body = bytearray()
        with self._adapter.send(request, stream=True, timeout=self._timeout_s) as response:
            for chunk in response.iter_content(64 * 1024):
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise ProviderUnavailable(f"an answer of more than {MAX_BODY_BYTES} bytes")
        return Answer(response.status_code, response.headers, bytes(body))

    def _redact_record(self, record: logging.LogRecord) -> bool:
        record.msg, record.args, record.exc_info = self._redact(record.getMessage()), None, None
        return True
