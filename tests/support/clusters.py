"""Kafka, PostgreSQL, MariaDB and Galera as clusters, by the project's own script: to kill nodes of, and to promote."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.processes import ROOT

SCRIPT = ROOT / "deploy/services/clusters.sh"
LONGEST_S = 240.0


class Cluster:
    """A cluster of two or three nodes, numbered from 1; the first is the primary."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.primary = 1

    def do(self, verb: str, *node: int, **environment: str) -> str:
        """Run a command of the script; what it prints."""
        command = [str(SCRIPT), verb, self.name, *map(str, node)]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=LONGEST_S, env=os.environ | environment
        )
        assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
        return done.stdout

    @property
    def ports(self) -> list[int]:
        """Of each node."""
        return [int(port) for port in self.do("ports").split()]

    @property
    def next(self) -> int:
        """The node that takes over from the primary."""
        return self.primary % len(self.ports) + 1

    def url(self, port: int) -> str:
        """The database `raingauge` by way of a port."""
        kind = "postgresql+psycopg" if self.name == "postgres" else "mysql+pymysql"
        return f"{kind}://raingauge:raingauge@127.0.0.1:{port}/raingauge"

    def kill(self) -> None:
        """The primary is gone."""
        self.do("kill", self.primary)

    def take_over(self) -> int:
        """The next node is the primary from now on; its port."""
        node = self.next
        if self.name != "galera":  # whose nodes are all alike
            self.do("promote", node)
        self.primary = node
        return self.ports[node - 1]


@contextmanager
def cluster(name: str, **environment: str) -> Iterator[Cluster]:
    """A fresh cluster while the block runs."""
    running = Cluster(name)
    running.do("up", **environment)
    try:
        yield running
    finally:
        running.do("down")
