"""The HTTP front that most tests of the API begin with."""

import pytest

from raingauge.database import Database
from tests.api_support import Front


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
