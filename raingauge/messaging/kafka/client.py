"""What the Kafka adapters share: timeouts, and keeping one of aiokafka's clients running.

It must know nothing about messages. Many of aiokafka's own waits are unbounded, so each of them gets a timeout here.
"""

import asyncio
import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Self

from aiokafka.client import AIOKafkaClient

from raingauge.background import in_background
from raingauge.backoff import backoff_s
from raingauge.clock import Clock
from raingauge.errors import RaingaugeError
from raingauge.messaging.kafka.causes import explain
from raingauge.messaging.kafka.cluster import Cluster

log = logging.getLogger("raingauge.messaging")

CLEANUP_S: Final = 1.0
STOP_S: Final = 3.0


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


class Brokers:
    """The brokers to which an adapter's clients (producer, consumer or admin) connect."""

    def __init__(self, cluster: Cluster, clock: Clock, timeouts: Timeouts) -> None:
        self.cluster = cluster
        self.trouble: str | None = None
        """Why the last attempt to start a client failed."""
        self._clock = clock
        self._timeouts = timeouts

    async def start(self, make: Callable[[], Any], check: Callable[[Any], Awaitable[None]]) -> Any:
        """Return a client that has started and passes the check. Retries for ever, each time with a new client."""
        attempt = 0
        while True:
            client = None
            try:
                client = make()
                async with asyncio.timeout(self._timeouts.start_s):
                    await client.start()
                    await check(client)
            except BaseException as error:
                if client is not None:
                    await stop_client(client, self._timeouts.stop_s)
                if not isinstance(error, Exception):
                    raise
                # A file of the settings that cannot be read now may be on the way: passwords are replaced.
                explained = isinstance(error, RaingaugeError)
                self.trouble = str(error) if explained else await explain(self.cluster, error)
                log.warning("handoff.start_failed", extra={"error": self.trouble})
            else:
                self.trouble = None
                return client
            await self.pause(attempt)
            attempt += 1

    async def pause(self, attempt: int) -> None:
        """Wait after failed attempt 0, 1, ..."""
        full_s = backoff_s(attempt + 1, self._timeouts.first_backoff_s, self._timeouts.longest_backoff_s)
        await self._clock.sleep(full_s * random.uniform(0.5, 1.0))


class KafkaAdapter(ABC):
    """Keeps one client running while it is entered, and replaces a useless one. Entering does not wait for Kafka."""

    name: str

    def __init__(self, cluster: Cluster, clock: Clock, timeouts: Timeouts) -> None:
        self._brokers = Brokers(cluster, clock, timeouts)
        self._clock = clock
        self._timeouts = timeouts
        self._running = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._running.enter_async_context(in_background(self._keep_a_client(), self.name))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._running.aclose()

    @property
    def trouble(self) -> str | None:
        """Why there is no client, as one line; None if there is one, or none was tried."""
        return self._brokers.trouble

    @abstractmethod
    def _make_client(self) -> Any:
        """Construct a client. Raises SettingsError: a file that the settings name cannot be read."""

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
    # In tasks: closing waits for connections whose futures were cancelled with those above.
    closing = [asyncio.create_task(part.close()) for part in parts if isinstance(part, AIOKafkaClient)]
    for task in closing:
        task.add_done_callback(ignore_outcome)
    if closing:
        _, unfinished = await asyncio.wait(closing, timeout=CLEANUP_S)
        for task in unfinished:
            task.cancel()


def _owner(task: asyncio.Task[Any]) -> object:
    frame = getattr(task.get_coro(), "cr_frame", None)
    return frame.f_locals.get("self") if frame else None


def ignore_outcome(future: asyncio.Future[Any]) -> None:
    """A done callback for a future whose result is no longer needed: keeps asyncio from reporting its error."""
    if not future.cancelled():
        future.exception()
