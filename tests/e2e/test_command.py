"""The command `raingauge` as a process: against a running service, in a pipe, and completing in a shell."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support.eventually import eventually
from tests.support.processes import ROOT, Ended, Program, program, run_to_end

pytestmark = pytest.mark.long
COMMAND = [sys.executable, "-m", "cli"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """`raingauge run` in a folder of its own, on simulated weather."""
    settings = {"RAINGAUGE_HTTP__PORT": "0", "PYTHONPATH": str(ROOT)}
    with program("cli", "run", settings=settings, cwd=tmp_path_factory.mktemp("run")) as running:
        yield running


def environment(url: str = "http://127.0.0.1:1", **more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "RAINGAUGE_URL": url, **more}


def raingauge(*arguments: str, service: Program, stdin: str = "") -> Ended:
    return run_to_end([*COMMAND, *arguments], environment(service.url), stdin=stdin)


def completed(*words: str, url: str = "http://127.0.0.1:1") -> list[str]:
    """What bash would offer for the last of these words."""
    asked = {"_RAINGAUGE_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(["raingauge", *words])}
    variables = environment(url, **asked, COMP_CWORD=str(len(words)))
    done = run_to_end(COMMAND, variables)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_a_collection_is_collected_read_and_reported(service: Program) -> None:
    done = raingauge("collect", "mine", "--cities", "-", "--wait", service=service, stdin="city_id\n3439525\n3439781\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "mine  done  2 of 2 collected\n", "")
    rows = raingauge("get", "mine", "--fields", "country", service=service).stdout.splitlines()
    assert [row.split("\t")[0] for row in rows] == ["city_id", "3439525", "3439781"]
    shown = raingauge("get", "mine", "--json", service=service).stdout
    assert json.loads(shown) == service.get("/get", id="mine")
    assert "held now\t2 of 60 cities" in raingauge("quota", service=service).stdout
    assert "collection.finished\tmine" in raingauge("events", service=service).stdout


def test_collections_are_listed_completed_and_exported(service: Program, tmp_path: Path) -> None:
    assert raingauge("collect", "two", "--cities", "-", "--wait", service=service, stdin="[3439525]").returncode == 0
    assert "two\tdone\t" in raingauge("list", "--status", "done", "--limit", "1", service=service).stdout
    assert completed("get", "tw", url=service.url) == ["two"]
    written = raingauge("export", "two", "-o", f"{tmp_path}/two.csv", "--units", "imperial", service=service)
    assert (written.returncode, [path.name for path in tmp_path.iterdir()]) == (0, ["two.csv"])
    heading, row = (tmp_path / "two.csv").read_text("utf-8").splitlines()
    assert ("temperature_f" in heading, row.split(",")[0]) == (True, "3439525")
    shown = raingauge("export", "two", "--format", "jsonl", service=service).stdout
    assert json.loads(shown)["city_id"] == 3439525


def test_a_cancelled_collection_ends_a_wait_with_5_and_a_refusal_with_4(service: Program) -> None:
    assert raingauge("collect", "large", service=service).returncode == 0
    assert raingauge("cancel", "large", service=service).stdout.startswith("large  cancelled  ")
    done = raingauge("watch", "large", service=service)
    assert (done.returncode, done.stdout[:16]) == (5, "large  cancelled")
    refused = raingauge("collect", "large", "--max-age-s", "1", service=service)
    assert (refused.returncode, refused.stdout, len(refused.stderr.splitlines())) == (4, "", 1)


def test_ctrl_c_ends_a_wait_with_130_and_the_collection_goes_on(service: Program) -> None:
    watching = subprocess.Popen(
        ["env", "--default-signal=INT", *COMMAND, "collect", "long", "--wait"],  # a shell's background job ignores it
        env=environment(service.url),
        stderr=subprocess.PIPE,
        text=True,
    )
    eventually(lambda: requests.get(f"{service.url}/get?id=long", timeout=10).ok, 30)
    watching.send_signal(signal.SIGINT)
    try:
        _, err = watching.communicate(timeout=60)
    finally:
        watching.kill()
    assert watching.returncode == 130
    assert err in {
        "",  # in its first moments
        "long may be accepted; `raingauge get long` shows it, or repeat the command\n",
        "long goes on without you; `raingauge watch long` follows it again\n",
    }
    assert service.get("/get", id="long")["finished_at"] is None


def test_output_into_a_closed_pipe_ends_quietly(service: Program) -> None:
    done = run_to_end(["sh", "-c", f"{sys.executable} -m cli quota | true"], environment(service.url))
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["col"], ["collect"]),
        (["cities", "m"], ["match"]),
        (["get", "1", "--un"], ["--units"]),
        (["export", "1", "--format", "geo"], ["geojson"]),
        (["admin", "dead-letters", ""], ["list", "replay", "bury"]),
        (["watch", ""], []),
    ],
)
def test_a_shell_completes_commands_options_and_values(words: list[str], offered: list[str]) -> None:
    assert completed(*words) == offered


def test_the_scripts_for_shells_name_the_command() -> None:
    for shell in ("bash", "zsh", "fish"):
        done = run_to_end(COMMAND, environment(_RAINGAUGE_COMPLETE=f"source_{shell}"))
        assert (done.returncode, "_RAINGAUGE_COMPLETE" in done.stdout) == (0, True)


def test_admin_does_what_the_consumers_commands_do(tmp_path: Path) -> None:
    variables = environment(RAINGAUGE_DATABASE__URL=f"sqlite:///{tmp_path}/own.db")
    assert run_to_end([sys.executable, "-m", "alembic", "upgrade", "head"], variables).returncode == 0
    shown = []
    for command in ([*COMMAND, "admin"], [sys.executable, "-m", "consumer"]):
        done = [
            run_to_end([*command, *words.split()], variables, tmp_path)
            for words in ("quota adopt", "quota set-month 77", "quota open", "cities forget 5")
        ]
        assert [each.returncode for each in done] == [0, 0, 0, 0]
        shown.append([each.stdout.rpartition("->")[2] for each in done])
    assert shown[0] == shown[1]
    assert shown[0][1::2] == [" 77 cities\n", "city 5: was not unknown\n"]
