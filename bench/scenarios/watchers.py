"""Fifty watchers of `GET /collections/stream` on one producer: what they cost other requests and the database.

`GET /get` at a steady pace, on a connection of its own, in turns alone and beside the watchers. Every poll of the
database has a moment of its own, which all watchers are shown: so those that differ are counted. Then the producer is
stopped while all streams are open.
"""

import re
import selectors
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from threading import Event
from typing import Final
from urllib.parse import urlsplit

import requests

from bench.databases import on_mariadb
from bench.processes import CLOCK, on_kafka, until
from bench.report import Figure, Outcome, at_most
from bench.size import Size
from bench.statistics import percentile
from bench.stored import name_of, store_collections
from tests.support.processes import Program

WATCHERS: Final = 50
COLLECTIONS: Final = 200
PROVIDER: Final = "http://127.0.0.1:9"
"""Nobody calls it."""
NO_QUOTA: Final = {"QUOTA__CITIES_PER_WINDOW": "1", "QUOTA__WINDOW_S": "86400"}
MOMENT: Final = re.compile(rb'"now":"([^"]+)"')
EVERY_S: Final = 0.02
ASKS: Final = 200
"""In a round."""


class Crowd:
    """Streams that one thread reads."""

    def __init__(self, url: str, number: int) -> None:
        address = urlsplit(url)
        request = f"GET /collections/stream HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode()
        self._received: dict[socket.socket, bytearray] = {}
        for _ in range(number):
            stream = socket.create_connection((str(address.hostname), int(address.port or 80)))
            stream.sendall(request)
            self._received[stream] = bytearray()

    def read(self, stop: Event) -> None:
        """Read what arrives, until told to stop or all streams have ended."""
        with selectors.DefaultSelector() as ready:
            for stream, received in self._received.items():
                ready.register(stream, selectors.EVENT_READ, received)
            while ready.get_map() and not stop.is_set():
                for key, _ in ready.select(0.1):
                    if data := key.fileobj.recv(1 << 16):  # type: ignore[union-attr]
                        key.data.extend(data)
                    else:
                        ready.unregister(key.fileobj)

    def moments(self) -> list[list[bytes]]:
        """The moments that each watcher was shown."""
        return [MOMENT.findall(received) for received in self._received.values()]

    def all_watch(self) -> bool:
        """Whether each has been shown something."""
        return all(self.moments())

    def close(self) -> None:
        """Close all streams."""
        for stream in self._received:
            stream.close()


@contextmanager
def watching(url: str) -> Iterator[Crowd]:
    """Fifty watchers, each of which has been shown something."""
    stop = Event()
    with closing(Crowd(url, WATCHERS)) as crowd, ThreadPoolExecutor(1) as other:
        reading = other.submit(crowd.read, stop)
        try:
            until(crowd.all_watch, 10, "something for each watcher")
            yield crowd
        finally:
            stop.set()
            reading.result()


def watchers(size: Size) -> Outcome:
    """The p99 of a GET, the polls a second, and the seconds that a stop takes."""
    outcome = Outcome("watchers")
    rounds = size.of(7, 3)
    with ExitStack() as parts:
        url = parts.enter_context(on_mariadb())
        store_collections(url, COLLECTIONS, 0)
        running = parts.enter_context(on_kafka(url, PROVIDER, 1, **NO_QUOTA))  # the consumer makes the gate
        producer = running.producer
        alone, beside, polls = [], [], []
        for _ in range(rounds):
            alone.append(_p99_ms(producer))
            with watching(producer.url) as crowd:
                began = CLOCK.monotonic()
                beside.append(_p99_ms(producer))
                took_s = CLOCK.monotonic() - began
                shown = crowd.moments()
            # One poll was before the first second.
            polls.append((len({moment for moments in shown for moment in moments}) - 1) / took_s)
        with watching(producer.url):
            began = CLOCK.monotonic()
            producer.stop()
            stopped_s = CLOCK.monotonic() - began
    what = f"beside {WATCHERS} watchers"
    outcome.add(
        Figure(f"p99 of GET {what}", percentile(beside, 0.5), "ms", percentile(alone, 0.5), "alone", at_most(2.0)),
        Figure(f"polls of the database {what}", percentile(polls, 0.5), "/s", bound=at_most(1.0)),
        Figure(f"a stop {what}", stopped_s, "s", 1.0, "the limit", at_most(1.0)),
    )
    return outcome


def _p99_ms(producer: Program) -> float:
    never, took = Event(), []
    with requests.Session() as session:
        for number in range(ASKS):
            never.wait(EVERY_S)
            began = CLOCK.monotonic()
            path = f"/get?id={name_of(1 + number % COLLECTIONS)}&data=false"
            session.get(f"{producer.url}{path}", timeout=10).raise_for_status()
            took.append(CLOCK.monotonic() - began)
    return percentile(took, 0.99) * 1000
