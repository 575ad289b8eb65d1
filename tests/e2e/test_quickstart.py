"""The quickstart works as it is written: its `sh` blocks run in their order, and print what the block below shows.

Whitespace, times and numbers below a million (the weather) may differ; names, ids and everything else may not. Blocks
without a language start the program, which this test does itself. A new block needs no change here.
"""

import re
import sys
from pathlib import Path

import pytest

from tests.support.cities import build_small_file
from tests.support.processes import ROOT, program, run_to_end

pytestmark = pytest.mark.long
QUICKSTART = (ROOT / "docs/quickstart.md").read_text("utf-8")
STEP = re.compile(r"^```sh\n(.*?)^```\n(?:```(?:text|json)\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
STEPS = STEP.findall(QUICKSTART)
TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d\.\d{3}Z)?")
NUMBER = re.compile(r"(?<![\w.])-?(?:\d{1,3}(?:,\d{3})+|\d{1,6})(?:\.\d+)?(?!\w)")


def form(text: str) -> str:
    """A text without what may differ from run to run."""
    return "".join(NUMBER.sub("0", TIME.sub("<time>", text)).split())


def test_the_commands_of_the_quickstart_print_what_it_shows(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    build_small_file(tmp_path / "var")
    (tmp_path / "raingauge").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cli "$@"\n')
    (tmp_path / "raingauge").chmod(0o755)
    settings = {"RAINGAUGE_HTTP__PORT": "0", "PYTHONPATH": str(ROOT)}
    assert len(STEPS) == QUICKSTART.count("```sh\n") > 0
    with program("standalone", settings=settings, cwd=tmp_path) as service:
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "RAINGAUGE_URL": service.url}
        environment["LC_ALL"] = "C.UTF-8"
        for commands, shown in STEPS:
            here = commands.replace("http://127.0.0.1:8000", service.url)
            done = run_to_end(["bash", "-ec", here], environment, tmp_path)
            assert done.returncode == 0, commands + done.stderr
            assert form(done.stdout or done.stderr) == form(shown), commands
