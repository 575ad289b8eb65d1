"""The house rules that neither ruff nor import-linter holds: lengths and names."""

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("sources")  # parsed by one worker
ROOT = Path(__file__).parents[2]
PACKAGES = ["cli", "producer", "consumer", "raingauge", "simulator", "standalone", "migrations"]
SOURCES = {path: path.read_text() for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
WRITTEN = {path: text for path, text in SOURCES.items() if path.parent.name != "versions"}
FORBIDDEN = {"manager", "service", "base", "impl", "utils", "helpers", "util", "helper"}
LONGEST_MODULE = 400
LONGEST_FUNCTION = 45
MOST_IN_A_FOLDER = 15

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def nodes() -> list[tuple[Path, ast.AST]]:
    """Every node of every module; parsed when a test needs it, since each worker imports this module."""
    return [(path, node) for path, text in WRITTEN.items() for node in ast.walk(ast.parse(text))]


def own_lines(function: Function) -> int:
    """Without its decorators and the functions within it, which are measured by themselves."""
    body = set(range(function.lineno, (function.end_lineno or 0) + 1))
    for node in ast.walk(function):
        if isinstance(node, Function) and node is not function:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            body -= set(range(first, (node.end_lineno or first) + 1))
    return len(body)


def words(name: str) -> set[str]:
    """The words of a name in either spelling: `KafkaBaseClient` and `kafka_base_client` have three."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)}


def test_no_module_or_function_is_too_long_to_be_read_at_once() -> None:
    assert [path for path, text in WRITTEN.items() if len(text.splitlines()) > LONGEST_MODULE] == []
    functions = [(path, node.name, own_lines(node)) for path, node in nodes() if isinstance(node, Function)]
    assert len(functions) > 500
    assert [found for found in functions if found[2] > LONGEST_FUNCTION] == []


def test_no_folder_has_too_many_modules_to_be_looked_through() -> None:
    sizes = Counter(path.parent for path in WRITTEN if path.name != "__init__.py")
    assert [folder for folder, size in sizes.items() if size > MOST_IN_A_FOLDER] == []


def test_names_say_what_a_thing_does() -> None:
    names = [*(path.stem for path in WRITTEN), *(node.name for _, node in nodes() if isinstance(node, ast.ClassDef))]
    assert [name for name in names if words(name) & FORBIDDEN] == []
    assert words("KafkaBaseClient") == words("kafka_base_client") == {"kafka", "base", "client"}
