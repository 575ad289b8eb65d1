"""A TCP proxy that delays, cuts and swallows what passes; each direction by itself.

It runs on an event loop in a thread of its own, so that a test can change its mind at any time. What it delays it
delivers, even when the sender has gone meanwhile: that is what a slow network does.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from raingauge.clock import SystemClock

CLOCK = SystemClock()
CHUNK = 65536


@dataclass(frozen=True, slots=True)
class Weather:
    """How the network is."""

    there_s: float = 0.0
    """How long bytes take from client to server."""
    back_s: float = 0.0
    swallows: bool = False
    """Nothing passes, nobody is told."""
    refuses: bool = False
    """New connections are reset."""


FAIR = Weather()


class Proxy:
    """Passes connections on to `target`, as the weather allows."""

    def __init__(self, target: int, port: int = 0) -> None:
        self.port = port
        self.passed = 0
        """Connections so far."""
        self._target = target
        self._weather = FAIR
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        assert self._ready.wait(10), "the proxy does not listen"

    def stop(self) -> None:
        """End all."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)
        self._loop.close()

    def turn(self, weather: Weather) -> None:
        """From now on it is so."""
        self._weather = weather

    def lead_to(self, target: int) -> None:
        """From now on new connections go to another port; the old ones are reset."""
        self._target = target
        self.cut()

    def cut(self) -> None:
        """Reset all connections; new ones are taken."""
        self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        for writer in self._writers:
            _reset(writer)

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopping.wait()
        server.close()
        self._cut()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._weather.refuses:
            _reset(writer)
            return
        self.passed += 1
        async with self._kept(writer):
            try:
                back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self._target)
            except OSError:
                _reset(writer)
                return
            async with self._kept(back_writer):
                there = self._pump(reader, back_writer, there=True)
                await asyncio.gather(there, self._pump(back_reader, writer, there=False))

    @contextlib.asynccontextmanager
    async def _kept(self, writer: asyncio.StreamWriter) -> AsyncIterator[None]:
        self._writers.add(writer)
        try:
            yield
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, there: bool) -> None:
        """Read at once, deliver later; what is swallowed is gone for good, and so is what comes after it."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        delivery = asyncio.create_task(self._deliver(queue, writer))
        swallowed = False
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK):
                swallowed = swallowed or self._weather.swallows
                delay = self._weather.there_s if there else self._weather.back_s
                if not swallowed:
                    queue.put_nowait((CLOCK.monotonic() + delay, chunk))
        if not swallowed:
            queue.put_nowait((CLOCK.monotonic(), b""))
        await delivery

    async def _deliver(self, queue: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while True:
                due, chunk = await queue.get()
                await CLOCK.sleep(max(0.0, due - CLOCK.monotonic()))
                if not chunk:
                    writer.close()
                    return
                writer.write(chunk)
                await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.contextmanager
def proxy(target: int, port: int = 0) -> Iterator[Proxy]:
    """A proxy to a port of this machine, while the block runs."""
    running = Proxy(target, port)
    running.start()
    try:
        yield running
    finally:
        running.stop()
