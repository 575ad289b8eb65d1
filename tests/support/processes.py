"""Raingauge's programs as processes, as a person would start them."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.eventually import eventually
from tests.support.metrics import samples

ROOT = Path(__file__).parents[2]
ADDRESS = re.compile(r"url=(http://\S+)|API +(http://\S+)")
START_S = 40.0
STOP_S = 25.0
Ended = subprocess.CompletedProcess[str]


def run_to_end(
    command: Sequence[str | Path], environment: Mapping[str, str] | None = None, cwd: Path = ROOT, stdin: str = ""
) -> Ended:
    """A command that has ended within a minute. Without `environment` it has our own."""
    settings: dict[str, Any] = {"env": environment, "cwd": cwd, "input": stdin}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **settings)


class Program:
    """A running program; its output is kept."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []
        self.url = ""
        self._told = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            found = ADDRESS.search(line)
            if found and not self.url:
                self.url = found[1] or found[2]
                self._told.set()
        self._told.set()

    @property
    def output(self) -> str:
        """All it has printed."""
        return "\n".join(self.lines)

    def wait_until_it_serves(self) -> None:
        """Return when it has told its address."""
        assert self._told.wait(START_S), f"it told no address:\n{self.output}"
        assert self.url, f"it ended:\n{self.output}"

    def get(self, path: str, **parameters: Any) -> Any:
        """The JSON at a path."""
        answer = requests.get(f"{self.url}{path}", params=parameters, timeout=10)
        answer.raise_for_status()
        return answer.json()

    def scrape(self) -> dict[str, float]:
        """The samples of `/metrics`."""
        return samples(requests.get(f"{self.url}/metrics", timeout=10).text)

    def collect(self, **body: Any) -> requests.Response:
        """POST /collect."""
        return requests.post(f"{self.url}/collect", json=body, timeout=10)

    def done(self, collection: object, seconds: float = 60) -> Any:
        """A collection with its readings, when it is done."""
        eventually(lambda: self.get("/get", id=collection, data="false")["status"] == "done", seconds)
        return self.get("/get", id=collection)

    def stop(self) -> int:
        """SIGTERM; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.ended()

    def ended(self) -> int:
        """Its exit status, when it has ended."""
        status = self.process.wait(STOP_S)
        self._reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


def forget_settings(patch: pytest.MonkeyPatch) -> None:
    """Take all settings, and the key, out of this process's environment."""
    for name in list(os.environ):
        if name.upper().startswith(("RAINGAUGE_", "OPENWEATHER_")):
            patch.delenv(name)


@contextmanager
def launched(module: str, *arguments: str, settings: Mapping[str, str], cwd: Path = ROOT) -> Iterator[Program]:
    """Run `python -m module` without waiting for anything; killed at the end, if it still runs."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("RAINGAUGE_", "OPENWEATHER"))
    }
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=cwd,
        env=environment | dict(settings),
    )
    running = Program(process)
    try:
        yield running
    except BaseException as error:
        error.add_note(running.output)
        raise
    finally:
        if process.poll() is None:
            running.kill()


@contextmanager
def program(module: str, *arguments: str, settings: Mapping[str, str], cwd: Path = ROOT) -> Iterator[Program]:
    """Run `python -m module`; stop it at the end, if it still runs, and see that it ends well."""
    with launched(module, *arguments, settings=settings, cwd=cwd) as running:
        running.wait_until_it_serves()
        yield running
        if running.process.poll() is None:
            status = running.stop()
            assert status == 0, f"exit status {status}"


@contextmanager
def simulator(*arguments: str) -> Iterator[Program]:
    """The simulator on a free port."""
    with program("simulator", "--port", "0", *arguments, settings={}) as running:
        yield running
