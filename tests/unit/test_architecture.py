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
NOT_MIGRATIONS = [path for path in SOURCES if path.parts[-3:-1] != ("migrations", "versions")]
FORBIDDEN = {"manager", "service", "base", "impl", "utils", "helpers", "util", "helper"}
LONGEST_MODULE = 400
LONGEST_FUNCTION = 45

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    """The dotted name of a module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = [name_of(path) for path in SOURCES]
each_source = pytest.mark.parametrize("path", SOURCES, ids=name_of)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def lines_of(function: Function) -> set[int]:
    first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
    return set(range(first, (function.end_lineno or first) + 1))


def own_lines(function: Function) -> int:
    """Without its decorators, and without the functions within it: those are measured by themselves."""
    inner = (node for node in ast.walk(function) if isinstance(node, Function) and node is not function)
    body = set(range(function.lineno, (function.end_lineno or 0) + 1))
    return len(body.difference(*map(lines_of, inner)))


def imported_by(path: Path) -> set[str]:
    """The packages that a module names in its imports, wherever in it."""
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
        for module in {[module for module in MODULES if module != RUN_BY_ALEMBIC]!r}:
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
        module
        for module in MODULES
        if module.split(".")[0] == importing and not module.startswith("raingauge.messaging.kafka")
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
    ("package", "never"),
    [
        ("producer", {"consumer", "simulator", "standalone"}),
        ("consumer", {"producer", "simulator", "standalone"}),
        ("simulator", {"producer", "consumer", "standalone"}),
        ("raingauge", {"producer", "consumer", "simulator", "standalone", "migrations"}),
        ("migrations", {"producer", "consumer", "simulator", "standalone"}),
    ],
)
def test_no_package_imports_what_it_must_not_know(package: str, never: set[str]) -> None:
    paths = [path for path in SOURCES if name_of(path).split(".")[0] == package]
    assert len(paths) > 2
    assert {name_of(path): found for path in paths if (found := imported_by(path) & never)} == {}


@pytest.mark.parametrize(
    "module",
    [
        "consumer.gate",
        "raingauge.model",
        "raingauge.quota.fairness",
        "raingauge.quota.pacing",
        "raingauge.quota.proof",
        "raingauge.contracts",
    ],
)
def test_the_pure_rooms_have_no_clock_no_loop_and_no_chance(module: str) -> None:
    path = ROOT / f"{module.replace('.', '/')}.py"
    assert imported_by(path).isdisjoint(
        {"asyncio", "time", "random", "threading", "logging", "os", "socket", "requests"}
    )


def test_the_import_contracts_are_kept() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout


# -- how things are written --------------------------------------------------------------------------------------------


@each_source
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(tree_of(path)), "a docstring"


@pytest.mark.parametrize("path", NOT_MIGRATIONS, ids=name_of)
def test_no_module_is_too_long_to_be_read_at_once(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_MODULE


@pytest.mark.parametrize("path", NOT_MIGRATIONS, ids=name_of)
def test_no_function_is_too_long_to_be_seen_at_once(path: Path) -> None:
    lengths = {node.name: own_lines(node) for node in ast.walk(tree_of(path)) if isinstance(node, Function)}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}


@each_source
def test_names_say_what_a_thing_does(path: Path) -> None:
    classes = [node.name for node in ast.walk(tree_of(path)) if isinstance(node, ast.ClassDef)]
    assert [name for name in [path.stem, *classes] if words(name) & FORBIDDEN] == []


@each_source
def test_a_public_class_or_function_says_what_it_is(path: Path) -> None:
    public = [
        node
        for node in tree_of(path).body
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_")
    ]
    if path in NOT_MIGRATIONS:
        assert [node.name for node in public if not ast.get_docstring(node)] == []


def test_the_rules_see_what_breaks_them() -> None:
    assert words("KafkaBaseClient") == words("kafka_base_client") == {"kafka", "base", "client"}
    assert words("DatabaseHTTPSettings2") == {"database", "http", "settings2"}
    (function,) = ast.parse("def a():\n    @b\n    def c():\n        d\n\n    return c").body
    assert isinstance(function, Function)
    assert own_lines(function) == 3
    assert "consumer.ledger" in MODULES
    assert "raingauge" in MODULES
    assert len(MODULES) > 40
    assert imported_by(ROOT / "consumer" / "app.py") >= {"asyncio", "consumer", "raingauge"}
