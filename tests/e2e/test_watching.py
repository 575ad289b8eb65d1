"""Many watch one producer: each hears of everything, and a stop ends all streams at once."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import requests

from raingauge.clock import SystemClock
from tests.e2e.running import settings_for
from tests.support.eventually import eventually
from tests.support.processes import program, simulator

pytestmark = pytest.mark.long
WATCHERS: Final = 50
STOP_S: Final = 1.0


class Watcher(threading.Thread):
    """Reads a stream to its end."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.heard: dict[str, dict[str, Any]] = {}
        self.quota = 0
        self.has_ended = False
        self._url = url

    def run(self) -> None:
        """Until the stream ends."""
        with requests.get(self._url, stream=True, timeout=30) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            for name, data in self._events(answer):
                self.quota += name == "quota"
                for one in data["collections"] if name == "collections" else ():
                    self.heard[one["id"]] = one
        self.has_ended = True

    def _events(self, answer: requests.Response) -> Iterator[tuple[str, Any]]:
        name = ""
        for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                yield name, json.loads(value)


def test_fifty_watchers_hear_of_everything_and_a_stop_ends_their_streams_within_a_second(tmp_path: Path) -> None:
    clock = SystemClock()
    with simulator("--quota", "0", "--latency-s", "0.02") as weather:
        quota = {"quota__cities_per_window": 600, "quota__window_s": 3}
        settings = settings_for(weather.url, f"sqlite:///{tmp_path}/raingauge.db", quota)
        with program("standalone", settings=settings) as system:
            system.collect(id="before", cities=[1, 2])
            watchers = [Watcher(f"{system.url}/collections/stream") for _ in range(WATCHERS)]
            for watcher in watchers:
                watcher.start()
            eventually(lambda: all(watcher.quota for watcher in watchers), 20)
            system.collect(id="after", cities=[3])
            for name in ("before", "after"):
                done = lambda: all(w.heard.get(name, {}).get("status") == "done" for w in watchers)  # noqa: B023, E731
                eventually(done, 20)
            began_s = clock.monotonic()
            assert system.stop() == 0
            assert clock.monotonic() - began_s <= STOP_S
            for watcher in watchers:
                watcher.join(5)
            assert all(watcher.has_ended for watcher in watchers)
