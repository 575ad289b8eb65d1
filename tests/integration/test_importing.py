"""What importing does, in fresh interpreters: nothing, and without the packages that only others need."""

import os
import re
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.processes import ROOT, run_to_end

pytestmark = pytest.mark.long

PACKAGES = ["cli", "producer", "consumer", "raingauge", "simulator", "standalone", "migrations"]
RUN_BY_ALEMBIC = "migrations.env"
PATHS = [path.relative_to(ROOT).with_suffix("") for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
MODULES = sorted(".".join(path.parts).removesuffix(".__init__") for path in PATHS)


def python(script: str, cwd: Path) -> str:
    """What a script prints in a fresh interpreter that leaves no traces of its own."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = run_to_end([sys.executable, "-B", "-c", textwrap.dedent(script)], environment, cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_any_module_does_nothing(tmp_path: Path) -> None:
    """No socket, thread, process, database or written file; logging, signals and environment as they were."""
    script = f"""
        import importlib, logging, os, signal, sys, threading

        # urllib3 binds a socket to see whether IPv6 works, and accepts a refusal.
        REFUSED = {{"socket.bind", "socket.connect", "socket.getaddrinfo", "socket.sendto"}}
        FORBIDDEN = {{"subprocess.Popen", "os.system", "os.fork", "os.exec", "os.mkdir", "os.remove", "os.rename",
                     "sqlite3.connect", "signal.pthread_kill", "os.putenv", "os.chdir", "socket.listen"}}
        done = []

        def audit(event, arguments):
            if event in REFUSED:
                raise OSError("sockets are blocked")
            if event in FORBIDDEN or (event == "open" and set(str(arguments[1])) & set("wax+")):
                done.append((event, arguments))

        def start(thread):
            done.append(("thread", thread.name))

        def state():
            root = logging.getLogger()
            handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
            return root.handlers[:], root.level, handlers, dict(os.environ), os.getcwd(), threading.active_count()

        before = state()
        threading.Thread.start = start
        sys.addaudithook(audit)
        for module in {[name for name in MODULES if name != RUN_BY_ALEMBIC]!r}:
            importlib.import_module(module)
            assert not done, (module, done)
            assert state() == before, module
        assert "uvloop" not in sys.modules, "the loop is chosen when a program runs"
        print("nothing")
    """
    assert python(script, tmp_path) == "nothing\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("importing", "without"),
    [
        # Each image installs its own extras only.
        ("raingauge", ["aiokafka", "requests", "pymysql", "psycopg", "httptools", "uvloop"]),
        ("producer", ["requests", "urllib3", "pymysql", "psycopg"]),
        ("consumer", ["httptools", "pymysql", "psycopg"]),
        ("simulator", ["aiokafka", "requests", "pymysql", "psycopg", "sqlalchemy", "alembic"]),
    ],
)
def test_importing_a_package_needs_no_extras_but_its_own(importing: str, without: list[str], tmp_path: Path) -> None:
    modules = [
        name
        for name in MODULES
        if re.match(rf"{importing}\b(?!\.(messaging\.kafka|observability\.opentelemetry))", name)
    ]
    assert modules
    script = f"""
        import importlib, sys
        for module in {modules!r}:
            importlib.import_module(module)
        print(sorted(set({without!r}) & set(sys.modules)))
    """
    assert python(script, tmp_path) == "[]\n"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list"], ["get", "1"], ["collect", "1", "--wait"], ["quota"], ["events"]]
)
def test_a_command_of_the_api_imports_neither_a_service_nor_what_only_services_need(
    arguments: list[str], tmp_path: Path
) -> None:
    """`--help` needs neither a client nor pydantic, which comes with typer's parser."""
    script = f"""
        import sys
        from cli.__main__ import main
        needless = {{"producer", "consumer", "standalone", "raingauge.settings", "sqlalchemy", "fastapi"}}
        needless |= {{"pydantic", "httpx2", "rich"}} if {arguments == ["--help"]} else set()
        status = main({arguments!r} + ([] if {arguments == ["--help"]} else ["--url", "http://127.0.0.1:1"]))
        print("status", status, sorted(needless & set(sys.modules)))
    """
    expected = "status 0 []" if arguments == ["--help"] else "status 3 []"
    assert python(script, tmp_path).splitlines()[-1] == expected
