"""The house rules that a test can hold: what importing does, what imports what, lengths and names."""

import ast
import os
import re
import subprocess
import sys
import textwrap
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ["producer", "consumer", "raingauge", "simulator", "standalone", "migrations"]
RUN_BY_ALEMBIC = "migrations.env"
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
FORBIDDEN = {"manager", "service", "base", "impl", "utils", "helpers", "util", "helper"}
PURE = "asyncio time random threading logging os socket requests"
LONGEST_MODULE = 400
LONGEST_FUNCTION = 45

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    """The dotted name of a module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in SOURCES}
HAND_WRITTEN = {name: path for name, path in MODULES.items() if not name.startswith("migrations.versions")}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def own_lines(function: Function) -> int:
    """Without its decorators and the functions within it, which are measured by themselves."""
    body = set(range(function.lineno, (function.end_lineno or 0) + 1))
    for node in ast.walk(function):
        if isinstance(node, Function) and node is not function:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            body -= set(range(first, (node.end_lineno or first) + 1))
    return len(body)


def imported_by(path: Path) -> set[str]:
    """The packages that a module imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name their package"
            found.add((node.module or "").partition(".")[0])
    return found


def words(name: str) -> set[str]:
    """The words of a name in either spelling: `KafkaBaseClient` and `kafka_base_client` have three."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)}


def python(script: str, cwd: Path) -> str:
    """What a script prints in a fresh interpreter that leaves no traces of its own."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", textwrap.dedent(script)],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- importing ---------------------------------------------------------------------------------------------------------


def test_importing_any_module_does_nothing(tmp_path: Path) -> None:
    """No socket, thread, process, database or written file; logging, signals and environment as they were."""
    script = f"""
        import importlib, logging, os, signal, sys, threading

        # urllib3 looks whether IPv6 works by binding a socket, and lives with an answer in the negative.
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
        for module in {[*MODULES.keys() - {RUN_BY_ALEMBIC}]!r}:
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
    modules = [name for name in MODULES if re.match(rf"{importing}\b(?!\.messaging\.kafka)", name)]
    assert modules
    script = f"""
        import importlib, sys
        for module in {modules!r}:
            importlib.import_module(module)
        print(sorted(set({without!r}) & set(sys.modules)))
    """
    assert python(script, tmp_path) == "[]\n"


@pytest.mark.parametrize(
    ("modules", "never"),
    [
        ("producer", "consumer simulator standalone"),
        ("consumer", "producer simulator standalone"),
        ("simulator", "producer consumer standalone"),
        ("raingauge", "producer consumer simulator standalone migrations"),
        ("migrations", "producer consumer simulator standalone"),
        ("consumer.gate", PURE),
        ("raingauge.model", PURE),
        ("raingauge.contracts", PURE),
        ("raingauge.quota", PURE),
    ],
)
def test_no_module_imports_what_it_must_not_know(modules: str, never: str) -> None:
    found = {name: imported_by(path) for name, path in MODULES.items() if f"{name}.".startswith(f"{modules}.")}
    assert found
    assert {name: known for name, imports in found.items() if (known := imports & {*never.split()})} == {}


def test_the_import_contracts_are_kept() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


# -- how things are written --------------------------------------------------------------------------------------------


def test_every_module_and_public_class_or_function_has_a_docstring() -> None:
    lacking = [name for name, path in MODULES.items() if not ast.get_docstring(tree_of(path))]
    for name, path in HAND_WRITTEN.items():
        public = [n for n in tree_of(path).body if isinstance(n, ast.ClassDef | Function) and n.name[0] != "_"]
        lacking += [f"{name}.{node.name}" for node in public if not ast.get_docstring(node)]
    assert lacking == []


def test_no_module_or_function_is_too_long_to_be_read_at_once() -> None:
    modules = {name: len(path.read_text().splitlines()) for name, path in HAND_WRITTEN.items()}
    functions = {
        f"{name}.{node.name}": own_lines(node)
        for name, path in HAND_WRITTEN.items()
        for node in ast.walk(tree_of(path))
        if isinstance(node, Function)
    }
    assert {name: length for name, length in modules.items() if length > LONGEST_MODULE} == {}
    assert {name: length for name, length in functions.items() if length > LONGEST_FUNCTION} == {}


def test_names_say_what_a_thing_does() -> None:
    classes = [node.name for path in SOURCES for node in ast.walk(tree_of(path)) if isinstance(node, ast.ClassDef)]
    assert [name for name in [*(path.stem for path in SOURCES), *classes] if words(name) & FORBIDDEN] == []


def test_the_rules_see_what_breaks_them() -> None:
    assert words("KafkaBaseClient") == words("kafka_base_client") == {"kafka", "base", "client"}
    assert words("DatabaseHTTPSettings2") == {"database", "http", "settings2"}
    (function,) = ast.parse("def a():\n    @b\n    def c():\n        d\n\n    return c").body
    assert isinstance(function, Function)
    assert own_lines(function) == 3
    assert len(MODULES) > 40
    assert imported_by(MODULES["consumer.app"]) >= {"asyncio", "consumer", "raingauge"}
