"""How `make` installs: the version check, what `make run` needs, and no trace of readiness after a failure."""

import shutil
from pathlib import Path
from typing import Final

import pytest

from tests.support.processes import ROOT, Ended, run_to_end

pytestmark = pytest.mark.long
STAMPS: Final = [".ready", ".run-ready"]
FAKE: Final = """#!/bin/sh
case "$*" in
  "-c "*) exit {check} ;;
  "-m venv --clear .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  "-m pip install "*) echo "$*" >> installed; exit {pip} ;;
  "-m pip download "*) exit {download} ;;
  "-m raingauge.cities build "*) echo built >> cities; mkdir -p var; touch var/cities.db ;;
  "-m standalone") echo runs ;;
esac
"""


def fake_python(folder: Path, *, check: int = 0, pip: int = 0, download: int = 0) -> None:
    python = folder / "python"
    python.write_text(FAKE.format(check=check, pip=pip, download=download))
    python.chmod(0o755)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(folder: Path, target: str) -> Ended:
    return run_to_end(["make", "--no-print-directory", target, "PYTHON=./python"], cwd=folder)


def stamps(folder: Path) -> list[str]:
    return [name for name in STAMPS if (folder / ".venv" / name).exists()]


@pytest.mark.parametrize("target", ["setup", "run"])
def test_an_older_python_is_refused_before_anything_is_created(folder: Path, target: str) -> None:
    fake_python(folder, check=1)
    done = make(folder, target)
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stdout
    assert not (folder / ".venv").exists()


@pytest.mark.parametrize("target", ["setup", "run"])
def test_a_failed_installation_is_repeated_by_the_next_command(folder: Path, target: str) -> None:
    fake_python(folder, pip=1)
    assert make(folder, target).returncode != 0
    assert stamps(folder) == []
    fake_python(folder / ".venv/bin")
    assert make(folder, "run").stdout.splitlines()[-1] == "runs"


def test_running_installs_no_development_tools_and_setup_serves_for_running_too(folder: Path) -> None:
    fake_python(folder)
    told = "Installing what running needs into .venv: about 200 MB, half a minute, once."
    assert make(folder, "run").stdout.splitlines() == [told, "runs"]
    assert stamps(folder) == [".run-ready"]
    assert make(folder, "setup").returncode == 0
    assert stamps(folder) == STAMPS
    assert make(folder, "run").stdout == "runs\n"
    installed = (folder / "installed").read_text().splitlines()
    extras = [line.rpartition(" ")[2] for line in installed]
    assert extras == [".[producer,consumer,kafka,mysql,parquet,postgres,cli]", ".[dev]"]


@pytest.mark.parametrize("target", ["setup", "run"])
def test_an_installation_builds_the_file_of_cities_once_and_works_without_it(folder: Path, target: str) -> None:
    fake_python(folder, download=1)
    done = make(folder, target)
    assert done.returncode == 0
    assert "until `make cities` works; everything else does" in done.stdout
    fake_python(folder / ".venv/bin")
    assert make(folder, "cities").returncode == 0
    for again in ("setup", "run"):
        assert make(folder, again).returncode == 0
    assert (folder / "cities").read_text() == "built\n"
