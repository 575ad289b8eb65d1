"""Load on an HTTP server, by wrk: 32 keep-alive connections that ask as fast as they are answered."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from bench.size import Size

CONNECTIONS: Final = 32
SCRIPT: Final = Path(__file__).with_name("requests.lua")
WARM_UP_S: Final = 1


class NoWrk(Exception):
    """wrk is not installed: apt-get install wrk (Debian, Ubuntu); `make bench` does it when it runs as root."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request."""

    path: str
    method: str = "GET"
    tag: str = ""
    """For If-None-Match."""
    body: str = ""

    @property
    def line(self) -> str:
        """As `requests.lua` reads it."""
        return "\t".join((self.method, quote(self.path, safe="/?=&"), self.tag, self.body))


@dataclass(frozen=True, slots=True)
class Load:
    """What a server took."""

    rate: float
    """Answers a second."""
    p50_ms: float
    p99_ms: float
    failed: int = 0
    """Answered with an error, or not in time."""


def load(url: str, asks: Sequence[Ask], size: Size, warm_up: Sequence[Ask] = ()) -> Load:
    """Send these requests in turn, again and again, for some seconds; after a warm-up with others, or with the same.

    Raises:
        NoWrk: wrk is not installed.
        ValueError: most were answered with an error.
    """
    _run(url, warm_up or asks, WARM_UP_S)
    found = _run(url, asks, size.of(6, 1))
    answered = found["requests"] - found["failed"]
    if answered < found["failed"]:
        raise ValueError(f"{found['failed']:.0f} of {found['requests']:.0f} requests failed, such as {asks[0].path}")
    return Load(answered / found["seconds"], found["p50_ms"], found["p99_ms"], int(found["failed"]))


def _run(url: str, asks: Sequence[Ask], seconds: int) -> dict[str, float]:
    command = shutil.which("wrk")
    if command is None:
        raise NoWrk(NoWrk.__doc__)
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as file:
        file.writelines(f"{ask.line}\n" for ask in asks)
        file.flush()
        arguments = [command, "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "5s", "-s", str(SCRIPT), url]
        arguments += ["--", file.name]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=seconds + 30, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found
