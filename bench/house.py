"""`python -m bench.house`: how large the house is: modules, folders, floors, lines, and the files on three ways.

It reads the sources; only for the ways it runs the product (`bench.walk`). A floor is a step of the longest chain of
imports below `consumer`; modules that import each other share one.
"""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from bench.walk import files_passed

PRODUCT: Final = ("cli", "producer", "consumer", "raingauge", "simulator", "standalone", "migrations")
ENTERED: Final = "consumer"
MOST_IN_FOLDER: Final = 15
MOST_LINES: Final = 400
MOST_PASSED: Final = {"POST": 12, "GET": 10, "batch": 18}

Row = tuple[str, str, str]
Graph = Mapping[str, frozenset[str]]


def measure(root: Path) -> list[Row]:
    """What is measured, its value, and what is beyond the limit."""
    modules = sorted(path for name in PRODUCT for path in (root / name).rglob("*.py"))
    lines = {path: len(path.read_text("utf-8").splitlines()) for path in modules}
    tests = sum(len(path.read_text("utf-8").splitlines()) for path in (root / "tests").rglob("*.py"))
    folders: dict[Path, int] = {}
    for path in modules:
        folders[path.parent] = folders.get(path.parent, 0) + (path.name != "__init__.py")
    full = [f"{path.relative_to(root)} {number}" for path, number in folders.items() if number > MOST_IN_FOLDER]
    long = [f"{path.relative_to(root)} {number}" for path, number in lines.items() if number > MOST_LINES]
    chain = longest_chain(imports(root))
    product = sum(lines.values())
    rows = [
        ("modules", str(sum(folders.values())), ""),
        (f"folders of more than {MOST_IN_FOLDER} modules", str(len(full)), ", ".join(full)),
        (f"modules of more than {MOST_LINES} lines", str(len(long)), ", ".join(long)),
        (f"floors of {ENTERED}", str(len(chain)), " → ".join(chain)),
        ("product lines", f"{product:,}", ""),
    ]
    rows += [
        (f"  {name}", f"{sum(lines[p] for p in modules if p.is_relative_to(root / name)):,}", "") for name in PRODUCT
    ]
    return [*rows, ("test lines", f"{tests:,}", ""), ("test lines for each product line", f"{tests / product:.2f}", "")]


def ways(root: Path) -> list[Row]:
    """The files that a POST, a GET and a batch pass; which ones, where they are more than they should be."""
    rows = []
    for what, files in files_passed(root).items():
        most = MOST_PASSED[what]
        beyond = ", ".join(files) if len(files) > most else ""
        rows.append((f"files on the way of a {what}, at most {most}", str(len(files)), beyond))
    return rows


def imports(root: Path) -> Graph:
    """Which modules of the product import which."""
    paths = {_name(root, path): path for name in PRODUCT for path in (root / name).rglob("*.py")}
    return {name: frozenset(_imported(name, path, paths)) for name, path in paths.items()}


def _name(root: Path, path: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def _imported(name: str, path: Path, modules: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [one if one in modules else str(node.module) for one in found]
        else:
            continue
        yield from (one for one in found if one in modules and one != name)


def longest_chain(graph: Graph) -> list[str]:
    """The longest chain of imports from a module of `consumer` down; of modules that import each other, one counts."""
    below = {name: _reachable(graph, name) for name in graph}

    @cache
    def chain(name: str) -> tuple[str, ...]:
        lower = sorted(one for one in below[name] if name not in below[one])
        return (name, *_longest([chain(one) for one in lower]))

    return list(_longest([chain(name) for name in sorted(graph) if name.split(".")[0] == ENTERED]))


def _longest(chains: list[tuple[str, ...]]) -> tuple[str, ...]:
    longest: tuple[str, ...] = ()
    for chain in chains:
        longest = chain if len(chain) > len(longest) else longest
    return longest


def _reachable(graph: Graph, name: str) -> set[str]:
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        new = graph[waiting.pop()] - seen
        seen |= new
        waiting += new
    return seen


def main() -> None:
    """Print the table."""
    root = Path(__file__).resolve().parent.parent
    rows = measure(root) + ways(root)
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for what, value, beyond in rows:
        print(f"{what:{widths[0]}}  {value:>{widths[1]}}  {beyond}".rstrip())


if __name__ == "__main__":
    main()
