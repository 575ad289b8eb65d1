"""A small file of cities, built once, and the search in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from raingauge.cities.search import Cities, open_cities
from tests.support.cities import build_small_file


@pytest.fixture(scope="session")
def cities_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_small_file(tmp_path_factory.mktemp("cities"))


@pytest.fixture
def cities(cities_file: Path) -> Iterator[Cities]:
    with open_cities(cities_file) as opened:
        yield opened
