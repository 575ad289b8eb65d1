"""`python -m bench.stub`: a provider that answers group calls at once, or after a fixed latency, and refuses nothing.

The simulator invents weather and is ten times as slow: beside a fast consumer it would measure itself. This one says of
every city the same, in a body of the provider's shape and size, and witnesses what arrives. `GET /witness` tells; it
knows no other endpoint, and takes any key. Not an HTTP server for anything but the consumer's own requests.
"""

import argparse
import asyncio
import json
import re
import signal
from collections.abc import Mapping
from typing import Any, Final, cast

import uvloop

from raingauge.clock import Clock, SystemClock
from simulator.witness import Peak

HEAD: Final = b"HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
GROUP: Final = re.compile(rb"GET /data/2\.5/group\?id=([\d,]+)&")
ENTRY: Final = (
    b'{"coord":{"lon":-56.17,"lat":-34.83},"sys":{"country":"UY","timezone":-10800,"sunrise":%d,"sunset":%d},'
    b'"weather":[{"id":800,"main":"Clear","description":"clear sky","icon":"01d"}],"main":{"temp":21.4,'
    b'"feels_like":21.1,"temp_min":20.9,"temp_max":22.0,"pressure":1016,"humidity":59},"visibility":10000,'
    b'"wind":{"speed":4.1,"deg":140},"clouds":{"all":0},"dt":%d,"id":%s,"name":"Somewhere"}'
)


class Counted:
    """What has arrived: calls and cities, the most in any window, and how many each second."""

    def __init__(self, window_s: float, clock: Clock) -> None:
        self._clock = clock
        self._peak = Peak(window_s)
        self._began: float | None = None
        self._calls = self._cities = 0
        self._seconds: dict[int, int] = {}

    def arrived(self, cities: int) -> None:
        """A call for so many cities has arrived now."""
        now = self._clock.monotonic()
        self._began = now if self._began is None else self._began
        self._peak.add(now, cities)
        self._calls += 1
        self._cities += cities
        second = int(now - self._began)
        self._seconds[second] = self._seconds.get(second, 0) + cities

    def told(self) -> Mapping[str, Any]:
        """For `GET /witness`; `seconds`: cities in each second since the first call."""
        last = max(self._seconds, default=-1)
        return {
            "calls": self._calls,
            "units": self._cities,
            "most_in_window": self._peak.units,
            "seconds": [self._seconds.get(second, 0) for second in range(last + 1)],
        }


class Connection(asyncio.Protocol):
    """One client, whose requests come one after another and whole."""

    def __init__(self, counted: Counted, latency_s: float, clock: Clock) -> None:
        self._counted = counted
        self._latency_s = latency_s
        self._clock = clock
        self._transport: asyncio.Transport | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            request, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            self._answer(request)

    def _answer(self, request: bytes) -> None:
        if found := GROUP.match(request):
            ids = found[1].split(b",")
            self._counted.arrived(len(ids))
            answer = group_answer(ids, int(self._clock.now().timestamp()))
            asyncio.get_running_loop().call_later(self._latency_s, self._write, answer)
        elif request.startswith(b"GET /witness "):
            self._write(whole(200, json.dumps(self._counted.told()).encode()))
        else:
            self._write(whole(404, b"{}"))

    def _write(self, answer: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)


def group_answer(ids: list[bytes], now: int) -> bytes:
    """The answer to a group call: the same weather for every id."""
    entries = b",".join(ENTRY % (now, now, now, city_id) for city_id in ids)
    return whole(200, b'{"cnt":%d,"list":[%s]}' % (len(ids), entries))


def whole(status: int, body: bytes) -> bytes:
    """An HTTP answer."""
    return HEAD % (status, len(body)) + body


async def serve(latency_s: float, window_s: float) -> None:
    """Serve on a free port, which is printed, until SIGTERM."""
    loop, stop, clock = asyncio.get_running_loop(), asyncio.Event(), SystemClock()
    counted = Counted(window_s, clock)
    server = await loop.create_server(lambda: Connection(counted, latency_s, clock), "127.0.0.1", 0)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    print(f"listening url=http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await stop.wait()
    server.close()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.stub", description="An instant provider of group calls.")
    parser.add_argument("--latency-s", type=float, default=0.0)
    parser.add_argument("--window-s", type=float, default=60.0, help="the window in which it looks for the most cities")
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.latency_s, arguments.window_s))


if __name__ == "__main__":
    main()
