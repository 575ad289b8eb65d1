"""What the Kafka adapters share: broker addresses, timeouts, and keeping one of aiokafka's clients running.

It must know nothing about messages. Many of aiokafka's own waits are unbounded, so each of them gets a timeout here.
"""

import asyncio
import logging
import random
import re
import socket
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Self
from urllib.parse import urlsplit

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import BrokerResponseError, KafkaError

from raingauge.background import in_background
from raingauge.backoff import backoff_s
from raingauge.clock import Clock
from raingauge.errors import SettingsError

log = logging.getLogger("raingauge.messaging")

CLEANUP_S: Final = 1.0
CONNECT_S: Final = 3.0  # for each step of finding out why a client cannot start
STOP_S: Final = 3.0
_SERVER: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[\w-]+(?:\.[\w-]+)*\.?):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Timeouts, intervals (in seconds) and fetch sizes of the Kafka adapters. Tests use shorter timeouts."""

    start_s: float = 30  # one attempt to start a client; connecting past a silent broker takes 10 to 15 s
    stop_s: float = STOP_S  # a client's orderly stop; after that it is dismantled
    quiet_s: float = 30  # without any success before a new client is tried
    check_every_s: float = 3  # how often to check whether the brokers answer
    fetch_wait_s: float = 0.3  # how long a fetch waits for more messages: fetching them one by one costs more
    fetch_min_bytes: int = 8_192  # some thirty messages; a fetch does not wait when there are as many
    poll_s: float = 0.5  # how long a poll waits; offsets are committed between two of them
    commit_s: float = 3
    commit_every_s: float = 0.5
    reread_s: float = 60  # before a partition with an unreadable record is tried again
    session_s: float = 10  # after which the group considers a silent member dead
    first_backoff_s: float = 0.5
    longest_backoff_s: float = 10


DEFAULT_TIMEOUTS: Final = Timeouts()


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


class Brokers:
    """The brokers to which an adapter's clients (producer, consumer or admin) connect."""

    def __init__(self, servers: Sequence[str], clock: Clock, timeouts: Timeouts) -> None:
        self.servers = list(servers)
        self._clock = clock
        self._timeouts = timeouts

    async def start(self, make: Callable[[], Any], check: Callable[[Any], Awaitable[None]]) -> Any:
        """Return a client that has started and passes the check. Retries for ever, each time with a new client."""
        attempt = 0
        while True:
            client = make()
            try:
                async with asyncio.timeout(self._timeouts.start_s):
                    await client.start()
                    await check(client)
                    return client
            except BaseException as error:
                await stop_client(client, self._timeouts.stop_s)
                if not isinstance(error, Exception):
                    raise
                log.warning("handoff.start_failed", extra={"error": await explain(self.servers, error)})
            await self.pause(attempt)
            attempt += 1

    async def pause(self, attempt: int) -> None:
        """Wait after failed attempt 0, 1, ..."""
        full_s = backoff_s(attempt + 1, self._timeouts.first_backoff_s, self._timeouts.longest_backoff_s)
        await self._clock.sleep(full_s * random.uniform(0.5, 1.0))


class KafkaAdapter(ABC):
    """Keeps one client running while it is entered, and replaces a useless one. Entering does not wait for Kafka."""

    name: str

    def __init__(self, servers: Sequence[str], clock: Clock, timeouts: Timeouts) -> None:
        self._brokers = Brokers(servers, clock, timeouts)
        self._clock = clock
        self._timeouts = timeouts
        self._running = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._running.enter_async_context(in_background(self._keep_a_client(), self.name))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._running.aclose()

    @abstractmethod
    def _make_client(self) -> Any:
        """Construct a client."""

    async def _check(self, client: Any) -> None:  # noqa: B027
        """Raise an error if a client that has started is not ready for use."""

    @abstractmethod
    def _use(self, client: Any) -> asyncio.Future[Any]:
        """Begin to use a client. The future ends when the client has failed; cancelling it ends the use."""

    @abstractmethod
    async def _retire(self, failed: asyncio.Future[Any]) -> None:
        """Let go of the client, which is stopped afterwards."""

    @abstractmethod
    async def _is_quiet(self) -> bool:
        """Whether the client has had no success for a while although it should."""

    async def _start(self) -> Any:
        return await self._brokers.start(self._make_client, self._check)

    async def _keep_a_client(self) -> NoReturn:
        failures = 0
        while True:
            client = await self._start()
            began = self._clock.monotonic()
            failed = self._use(client)
            try:
                await self._until_useless(failed)
            finally:
                failed.cancel()
                await self._retire(failed)
                await stop_client(client, self._timeouts.stop_s)
            failures = 0 if self._clock.monotonic() - began >= self._timeouts.quiet_s else failures + 1
            await self._brokers.pause(failures)

    async def _until_useless(self, failed: asyncio.Future[Any]) -> None:
        """Return when the client has failed, or when it is quiet although a new one can start.

        An outage alone is no reason to replace a client: it still has its messages.
        """
        new_one_starts = False
        while not (await asyncio.wait({failed}, timeout=self._timeouts.check_every_s))[0]:
            if not await self._is_quiet():
                new_one_starts = False
            elif new_one_starts:
                self._log_given_up("no answer, although a new client gets one")
                return
            else:
                log.warning("handoff.quiet", extra={"client": self.name})
                await stop_client(await self._start(), self._timeouts.stop_s)
                new_one_starts = True

    def _log_given_up(self, reason: str, unexpected: BaseException | None = None) -> None:
        log.warning("handoff.client_given_up", extra={"client": self.name, "error": reason}, exc_info=unexpected)


async def explain(servers: Sequence[str], error: Exception) -> str:
    """Why an operation on these brokers failed, as one line for an operator: the cause if found, else the error.

    aiokafka reports only that no broker could be used, so this connects to each broker in turn, and to the addresses
    that it advertises.
    """
    if isinstance(error, BrokerResponseError):  # the brokers are reachable and say what is wrong
        return one_line(error)
    causes = await asyncio.gather(*(_unreachable(server, servers) for server in servers))
    return "; ".join(dict.fromkeys(filter(None, causes))) or one_line(error)


async def _unreachable(server: str, servers: Sequence[str]) -> str | None:
    parts = urlsplit(f"//{server}")
    if cause := await _cannot_connect(parts.hostname or "", parts.port or 0):
        return f"{server} {cause}"
    client = AIOKafkaClient(bootstrap_servers=[server], request_timeout_ms=int(CONNECT_S * 1000))
    try:
        async with asyncio.timeout(CONNECT_S):
            await client.bootstrap()
        advertised = {f"{broker.host}:{broker.port}": broker for broker in client.cluster.brokers()}
    except (KafkaError, OSError):
        return f"{server} accepts connections but does not answer as a Kafka broker"
    finally:
        await client.close()
    for address, broker in advertised.items():
        if address not in servers and (cause := await _cannot_connect(broker.host, broker.port)):
            return f"the broker at {server} says to connect to {address}, which {cause}; check advertised.listeners"
    return None


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
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return None


async def stop_client(client: Any, timeout_s: float = STOP_S) -> None:
    """Stop a client in any state. Nothing of it remains, even if its own stop() does not return in time."""
    # In its own task: aiokafka's stop() may end with the cancellation of one of its own tasks.
    stopping = asyncio.create_task(client.stop())
    stopping.add_done_callback(ignore_outcome)
    try:
        await asyncio.wait({stopping}, timeout=timeout_s)
        if not stopping.done() or stopping.cancelled() or stopping.exception():
            log.info("handoff.stop_forced", extra={"client": type(client).__name__})
    finally:
        await _clean_up(client)


async def _clean_up(client: Any) -> None:
    # An interrupted stop() leaves tasks that aiokafka does not track (requests in flight, the flush). They are
    # recognised by the object whose method they run; otherwise asyncio reports them as "destroyed but pending".
    parts = [client, *(part for part in vars(client).values() if type(part).__module__.startswith("aiokafka."))]
    owners = {id(part) for part in parts}
    leftover = [task for task in asyncio.all_tasks() if id(_owner(task)) in owners]
    for task in leftover:
        task.cancel()
        task.add_done_callback(ignore_outcome)
    if leftover:
        await asyncio.wait(leftover, timeout=CLEANUP_S)
    for network in (part for part in parts if isinstance(part, AIOKafkaClient)):
        with suppress(TimeoutError):
            async with asyncio.timeout(CLEANUP_S):
                await network.close()


def _owner(task: asyncio.Task[Any]) -> object:
    frame = getattr(task.get_coro(), "cr_frame", None)
    return frame.f_locals.get("self") if frame else None


def ignore_outcome(future: asyncio.Future[Any]) -> None:
    """A done callback for a future whose result is no longer needed: keeps asyncio from reporting its error."""
    if not future.cancelled():
        future.exception()


def one_line(error: BaseException) -> str:
    """An error as one line of at most 200 characters, for a log field; aiokafka's errors can fill a screen."""
    name, text = type(error).__name__, str(error)
    return " ".join((text if text.startswith(name) else f"{name}: {text}").split()).removesuffix(":")[:200]
