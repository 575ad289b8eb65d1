"""An HTTP client for a metered API: one write per call, not after a given time, with a hard deadline and a secret.

The quota's proof (docs: quota, "The rule") depends on four properties that `requests` alone does not have:

- **One write.** No retries, redirects, proxies or cookies: the client skips `requests.Session`, which adds them, and
  uses only its transport adapter, with urllib3's retries off. A connection that the server closed while idle is
  detected before it is used; if it closes later, the call fails and is not written again.
- **`send_by` is checked last**: after connecting, between everything that can block and the write.
- **`timeout_s` limits the whole call.** The libraries' timeout limits only the silence between two bytes; here a
  watchdog shuts the socket down. Only the resolver cannot be interrupted; nothing is written after the deadline.
- **An abandoned request is withdrawn.** Its socket closes with a reset (SO_LINGER 0, socket(7)), which empties the
  kernel's send queue; otherwise the kernel would retransmit for a minute or more, when its quota is free again.

The secret is added to the request line as that is buffered for the write, so neither `requests` nor urllib3, whose
errors and logs show URLs, ever sees it; what a server echoes is redacted. This module must not know about weather.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPException
from typing import Final

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies, select_proxy
from urllib3 import HTTPConnectionPool, Retry
from urllib3.exceptions import HTTPError

from consumer.provider.connections import (
    AddressOrder,
    ConnectionPool,
    Exchange,
    TlsConnectionPool,
    current_exchange,
    is_local,
)
from raingauge.clock import Clock, SystemClock
from raingauge.errors import NotSent, ProviderUnavailable

log = logging.getLogger("raingauge.provider")

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
"""Twenty cities need about 10 kB."""

_HEADERS: Final = {"User-Agent": "raingauge", "Accept": "application/json", "Accept-Encoding": "identity"}
# ValueError: some malformed answers surface as one. RuntimeError: the watchdog's thread could not start.
_FAILURES: Final = (requests.RequestException, HTTPError, HTTPException, OSError, ValueError, RuntimeError)
_CLOCK: Final = SystemClock()


@dataclass(frozen=True, slots=True)
class Response:
    """A complete HTTP response, decoded from its transfer and content encodings."""

    status: int
    headers: Mapping[str, str]
    """Case-insensitive."""
    body: bytes


class HttpClient:
    """Calls one server. Thread-safe.

    It keeps up to `connections` open for reuse; more simultaneous calls open more, none waits for another.
    """

    def __init__(
        self,
        base_url: str,
        secret: str,
        redact: Callable[[str], str],
        timeout_s: float,
        clock: Clock,
        connections: int,
        ca_file: str | None = None,
    ) -> None:
        """`secret` is the encoded parameter at the end of every query; `redact` removes it from text.

        `ca_file`: PEM file or directory of the certificate authorities to trust instead of the usual ones.
        """
        if _is_proxied(base_url):
            log.warning("provider.proxy_ignored", extra={"hint": "calls go direct: a proxy could repeat one"})
        self._base_url = base_url
        self._secret = secret
        self._redact = redact
        self._timeout_s = timeout_s
        self._verify = ca_file or True
        self._watchdog = Watchdog(timeout_s)
        self._clock = clock
        self._addresses = AddressOrder()
        self._adapter = HTTPAdapter(pool_connections=1, pool_maxsize=connections, max_retries=Retry(total=False))
        self._adapter.poolmanager.pool_classes_by_scheme = {"http": ConnectionPool, "https": TlsConnectionPool}
        # urllib3 2 otherwise closes a pool when it is garbage collected, and one of its errors can keep it alive.
        self._adapter.poolmanager.pools.dispose_func = HTTPConnectionPool.close
        # urllib3 logs headers that it cannot parse, and a proxy may echo the request in them.
        self._logger = logging.getLogger("urllib3.connection")
        self._logger.addFilter(self._redact_record)

    def close(self) -> None:
        """Close the idle connections; those in use close when their calls end."""
        self._adapter.close()
        self._watchdog.close()
        self._logger.removeFilter(self._redact_record)

    def get(self, target: str, send_by: float) -> Response:
        """GET `target` (path and query, to which the secret is added), unless it is later than `send_by` (monotonic).

        Raises:
            NotSent: too late, or there is no file, socket or thread for the call.
            ProviderUnavailable: no complete response. Neither has a cause, which might show the secret.
        """
        exchange = Exchange(self._secret, self._clock, send_by, self._addresses)
        token = current_exchange.set(exchange)
        failure = ""
        error_class = ProviderUnavailable
        try:
            with self._watchdog.watch(exchange.abort):
                response = self._send(target)
                exchange.complete()
        except ProviderUnavailable as error:
            failure = self._redact(str(error))
            error_class = type(error)
        except _FAILURES as error:
            failure = self._redact(f"{type(error).__name__}: {error}")
            if not exchange.sending and is_local(error):
                error_class = NotSent
        finally:
            exchange.release()
            current_exchange.reset(token)
        # Raised outside the except blocks, so that the error has no context.
        if exchange.aborted:
            raise ProviderUnavailable(f"no complete answer within {self._timeout_s:g} s")
        if failure:
            raise error_class(failure)
        return response

    def _send(self, target: str) -> Response:
        request = self._prepared.copy()
        request.url = f"{request.url}{target}"
        body = bytearray()
        with self._adapter.send(request, stream=True, timeout=self._timeout_s, verify=self._verify) as response:
            for chunk in response.iter_content(64 * 1024):
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise ProviderUnavailable(f"an answer of more than {MAX_BODY_BYTES} bytes")
        return Response(response.status_code, response.headers, bytes(body))

    @cached_property
    def _prepared(self) -> requests.PreparedRequest:
        """The common part of all requests; preparing it takes a third of a call's time."""
        request = requests.Request("GET", self._base_url, headers=_HEADERS).prepare()
        request.url = str(request.url).rstrip("/")
        return request

    def _redact_record(self, record: logging.LogRecord) -> bool:
        record.msg, record.args, record.exc_info = self._redact(record.getMessage()), None, None
        return True


class Watchdog:
    """Interrupts blocks that take longer than `timeout_s`. Thread-safe.

    One thread serves all; `threading.Timer`, a thread per call, would cost more than the call itself. The thread runs
    only while it is needed.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        # Callback and due time, earliest first: all have the same timeout.
        self._due: dict[Callable[[], None], float] = {}
        self._changed = threading.Condition()
        self._running = False

    @contextmanager
    def watch(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Call `interrupt` from another thread if the block takes too long. It must neither block nor raise.

        Raises:
            RuntimeError: the thread could not start. The block has not begun.
        """
        with self._changed:
            if not self._running:
                threading.Thread(target=self._run, name="http-watchdog", daemon=True).start()
                self._running = True
            self._due[interrupt] = _CLOCK.monotonic() + self._timeout_s
        try:
            yield
        finally:
            with self._changed:
                self._due.pop(interrupt, None)

    def close(self) -> None:
        """End the thread unless a block is being watched; in that case it ends by itself."""
        with self._changed:
            self._changed.notify()

    def _run(self) -> None:
        """Sleep until the earliest due time known; blocks that end before then cost nothing."""
        with self._changed:
            try:
                while self._due:
                    interrupt, due_at = next(iter(self._due.items()))
                    remaining_s = due_at - _CLOCK.monotonic()
                    if remaining_s > 0:
                        self._changed.wait(remaining_s)
                    else:
                        del self._due[interrupt]
                        interrupt()
            finally:
                self._running = False


def _is_proxied(url: str) -> bool:
    """Whether the environment names a proxy for this URL."""
    try:
        return select_proxy(url, get_environ_proxies(url)) is not None
    except ValueError:
        return False  # it is no URL, as each call will say
