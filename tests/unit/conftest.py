"""The HTTP front that most tests of the API begin with, and an environment that says nothing."""

from pathlib import Path

import pytest

from raingauge.database import Database
from tests.api_support import Front
from tests.support.processes import forget_settings


@pytest.fixture
def front(sqlite: Database) -> Front:
    """On an empty database: no consumer is alive, and there is no gate."""
    return Front(sqlite)


@pytest.fixture
def served(front: Front) -> Front:
    """The same with a consumer, and a gate that is open for group calls."""
    front.beat()
    front.open_gate(endpoint="group")
    return front


@pytest.fixture
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting comes from the environment, nor from a file of the folder."""
    forget_settings(monkeypatch)
    monkeypatch.chdir(tmp_path)
