"""What the Kafka adapters share: brokers' addresses, how long to wait, aiokafka's clients started and ended in time.

It must know nothing of messages. aiokafka's own waits have no end in many places, so each of them gets one here.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Protocol, TypeVar
from urllib.parse import urlsplit

from aiokafka.client import AIOKafkaClient

from raingauge.clock import Clock
from raingauge.errors import SettingsError

log = logging.getLogger("raingauge.messaging")

SWEEP_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the Kafka adapters wait for what, in seconds. Tests are less patient."""

    start_s: float = 30
    """One attempt to start a client: with a silent broker among several, its connection takes 10 to 15 of them."""
    stop_s: float = 3
    """A client's farewell; then it is taken apart."""
    quiet_s: float = 30
    """Without any success; then a new client is tried."""
    look_s: float = 3
    """How often to look whether the brokers answer. A fetch that brings nothing is answered after `gather_s`."""
    gather_s: float = 0.05
    """How long a fetch waits for more than a few messages: fetching them one by one costs more than reading them."""
    drain_s: float = 15
    """For `lost` to finish what it can, when partitions are taken away."""
    commit_s: float = 5
    commit_every_s: float = 0.2
    session_s: float = 10
    """After which the group takes a silent member for dead."""
    first_pause_s: float = 0.5
    longest_pause_s: float = 10

    def pause_s(self, attempt: int, jitter: float) -> float:
        """How long to wait after a failed attempt (0, 1, ...): doubling, and `jitter` (0..1) spreads it downwards."""
        full = min(self.longest_pause_s, self.first_pause_s * 2.0 ** min(attempt, 30))
        return full * (1 - jitter / 2)


PATIENT: Final = Patience()


def servers_of(url: str) -> tuple[str, ...]:
    """The brokers of `kafka://host:9092,host:9092`.

    Raises:
        SettingsError: it is not of this form. The message leaves the address out: a mistyped one may hold a password.
    """
    if not url.startswith("kafka://"):
        raise SettingsError("broker.url: expected kafka://host:port,host:port")
    return tuple(map(_server, url.removeprefix("kafka://").removesuffix("/").split(",")))


def _server(text: str) -> str:
    try:
        parts = urlsplit(f"//{text.strip()}")
        well_formed = parts.netloc == text.strip() and "@" not in text and bool(parts.hostname) and bool(parts.port)
    except ValueError:  # the port is not a number, or too large
        well_formed = False
    if not well_formed:
        raise SettingsError("broker.url: each broker is written as host:port, with commas between them")
    return text.strip()


class Client(Protocol):
    """What aiokafka's producer, consumer and admin client have in common."""

    async def start(self) -> None:
        """Connect."""

    async def stop(self) -> None:
        """Disconnect."""


C = TypeVar("C", bound=Client)


async def started(make: Callable[[], C], check: Callable[[C], Awaitable[None]], clock: Clock, patience: Patience) -> C:
    """A client that runs and passes the check, however long that takes. Each attempt has an object of its own."""
    attempt = 0
    while not await _start(client := make(), check, patience, attempt):
        await clock.sleep(patience.pause_s(attempt, random.random()))
        attempt += 1
    return client


async def _start(client: C, check: Callable[[C], Awaitable[None]], patience: Patience, attempt: int) -> bool:
    try:
        async with asyncio.timeout(patience.start_s):
            await client.start()
            await check(client)
    except BaseException as error:
        await ended(client, patience.stop_s)
        if not isinstance(error, Exception):
            raise
        log.warning("handoff.start_failed", extra={"attempt": attempt, "error": said(error)})
        return False
    return True


async def ended(client: Client, within_s: float) -> None:
    """Stop a client, whatever state it is in. Nothing of it is left, not even when its own farewell does not end."""
    # In a task of its own: aiokafka's stop() may end with the cancellation of one of its own tasks.
    stopping = asyncio.create_task(client.stop())
    stopping.add_done_callback(seen)
    try:
        await asyncio.wait({stopping}, timeout=within_s)
        if not stopping.done() or stopping.cancelled() or stopping.exception():
            log.info("handoff.stop_forced", extra={"client": type(client).__name__})
    finally:
        await _swept(client)


async def _swept(client: Client) -> None:
    # A stop() that was cut short leaves tasks that aiokafka keeps no list of (requests under way, the flush): they are
    # known by the object whose method they run. Left alone they would be "destroyed but pending".
    parts = [client, *(part for part in vars(client).values() if type(part).__module__.startswith("aiokafka."))]
    owners = {id(part) for part in parts}
    stragglers = [task for task in asyncio.all_tasks() if id(_runs_in(task)) in owners]
    for task in stragglers:
        task.cancel()
        task.add_done_callback(seen)
    if stragglers:
        await asyncio.wait(stragglers, timeout=SWEEP_S)
    for network in (part for part in parts if isinstance(part, AIOKafkaClient)):
        with suppress(TimeoutError):
            async with asyncio.timeout(SWEEP_S):
                await network.close()


def _runs_in(task: asyncio.Task[Any]) -> object:
    frame = getattr(task.get_coro(), "cr_frame", None)
    return frame.f_locals.get("self") if frame else None


def kept_up(work: Coroutine[Any, Any, NoReturn], name: str) -> asyncio.Task[NoReturn]:
    """Work that ends only by being cancelled; if it ends otherwise, the log says so."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_complain)
    return task


def _complain(task: asyncio.Task[NoReturn]) -> None:
    if not task.cancelled():
        log.critical("handoff.broken", extra={"task": task.get_name()}, exc_info=task.exception())


def seen(future: asyncio.Future[Any]) -> None:
    """A done callback for what nobody waits for any more: asyncio need not report its error."""
    if not future.cancelled():
        future.exception()


def said(error: BaseException) -> str:
    """An error in one line, for a log field; aiokafka's fill a screen."""
    return " ".join(f"{type(error).__name__}: {error}".removesuffix(": ").split())[:200]
