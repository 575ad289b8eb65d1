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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPException

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, Retry
from urllib3.exceptions import HTTPError

from consumer.deadlines import Deadlines
from consumer.flight import Flight, Pool, TlsPool, in_flight
from raingauge.clock import Clock
from raingauge.errors import ProviderUnavailable

MAX_BODY_BYTES = 4 * 1024 * 1024
"""Twenty cities need some 10 kB."""

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


class Wire:
    """Calls one server. For several threads at once.

    It keeps up to `connections` open for reuse; more calls at once open more, none waits for another.
    """

    def __init__(
        self, base_url: str, secret: str, redact: Callable[[str], str], timeout_s: float, clock: Clock, connections: int
    ) -> None:
        """`secret` is a parameter that ends every query, ready encoded; `redact` cuts it out of texts."""
        self._base_url = base_url
        self._secret = secret
        self._redact = redact
        self._timeout_s = timeout_s
        self._deadlines = Deadlines(timeout_s)
        self._clock = clock
        self._adapter = HTTPAdapter(pool_connections=1, pool_maxsize=connections, max_retries=Retry(total=False))
        self._adapter.poolmanager.pool_classes_by_scheme = {"http": Pool, "https": TlsPool}
        # Without it urllib3 2 closes a pool when it is garbage collected, and an error of its own can keep it alive.
        self._adapter.poolmanager.pools.dispose_func = HTTPConnectionPool.close
        # It logs headers that it cannot parse as they came, and a proxy may echo the request in them.
        self._logger = logging.getLogger("urllib3.connection")
        self._logger.addFilter(self._redact_record)

    def close(self) -> None:
        """Close the idle connections; those in use close when their calls end."""
        self._adapter.close()
        self._deadlines.close()
        self._logger.removeFilter(self._redact_record)

    def get(self, target: str, send_by: float) -> Answer:
        """GET `target` (path and query, to which the secret is added), unless it is later than `send_by` (monotonic).

        Raises:
            ProviderUnavailable: no complete answer, or too late to send. It has no cause: theirs may show the secret.
        """
        flight = Flight(self._secret, self._clock, send_by)
        token = in_flight.set(flight)
        trouble = ""
        try:
            with self._deadlines.interrupt(flight.abort):
                answer = self._exchange(target)
                flight.land()
        except ProviderUnavailable as error:
            trouble = self._redact(str(error))
        except _TROUBLE as error:
            trouble = self._redact(f"{type(error).__name__}: {error}")
        finally:
            flight.end()
            in_flight.reset(token)
        # Outside the except blocks, so that the error has no context.
        if flight.aborted:
            raise ProviderUnavailable(f"no complete answer within {self._timeout_s:g} s")
        if trouble:
            raise ProviderUnavailable(trouble)
        return answer

    def _exchange(self, target: str) -> Answer:
        request = self._base.copy()
        request.url = f"{request.url}{target}"
        body = bytearray()
        with self._adapter.send(request, stream=True, timeout=self._timeout_s) as response:
            for chunk in response.iter_content(64 * 1024):
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise ProviderUnavailable(f"an answer of more than {MAX_BODY_BYTES} bytes")
        return Answer(response.status_code, response.headers, bytes(body))

    @cached_property
    def _base(self) -> requests.PreparedRequest:
        """What all requests have in common; preparing it costs a third of a call."""
        request = requests.Request("GET", self._base_url, headers=_HEADERS).prepare()
        request.url = str(request.url).rstrip("/")
        return request

    def _redact_record(self, record: logging.LogRecord) -> bool:
        record.msg, record.args, record.exc_info = self._redact(record.getMessage()), None, None
        return True
