"""Compares an answer with what a scenario expects. It knows no HTTP."""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final
from uuid import UUID

MISSING: Final = object()
TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def _is_uuid(value: Any) -> bool:
    try:
        return isinstance(value, str) and str(UUID(value)) == value.lower()
    except ValueError:
        return False


PLACEHOLDERS: Final[dict[str, Callable[[Any], bool]]] = {
    "$any": lambda value: value is not MISSING,
    "$absent": lambda value: value is MISSING,
    "$number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "$text": lambda value: isinstance(value, str),
    "$time": lambda value: isinstance(value, str) and TIME.fullmatch(value) is not None,
    "$uuid": _is_uuid,
}


def mismatches(expected: Any, found: Any, where: str = "answer") -> Iterator[str]:
    """What is not as expected, a line for each difference.

    Objects have at least the given keys; lists are of the same length; `{"$length": n, "$each": x}` is a list of n
    elements that each match x.
    """
    if (parts := _parts(expected, found)) is not None:
        for name, value, part in parts:
            yield from mismatches(value, part, f"{where}.{name}")
    elif isinstance(expected, str) and expected.startswith("$") and expected not in PLACEHOLDERS:
        yield f"{where}: there is no placeholder {expected}; there are {', '.join(PLACEHOLDERS)}"
    elif not _matches(expected, found):
        yield f"{where}: expected {expected!r}, found {'nothing' if found is MISSING else repr(found)}"


def _parts(expected: Any, found: Any) -> list[tuple[object, Any, Any]] | None:
    """What of two objects or lists is to be compared: a name, what is expected and what is there."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return [(name, value, found.get(name, MISSING)) for name, value in expected.items()]
    if not isinstance(found, list):
        return None
    if isinstance(expected, dict) and expected and expected.keys() <= {"$length", "$each"}:
        expected = [expected.get("$each", "$any")] * expected.get("$length", len(found))
    if isinstance(expected, list) and len(expected) == len(found):
        return [*zip(range(len(found)), expected, found, strict=True)]
    return None


def _matches(expected: Any, found: Any) -> bool:
    if isinstance(expected, str) and expected in PLACEHOLDERS:
        return PLACEHOLDERS[expected](found)
    return bool(expected == found) and isinstance(expected, bool) == isinstance(found, bool)
