"""Makes a test of each case of each scenario file, on each database; README.md says how to write one."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from raingauge.database import open_database
from tests.scenarios.matching import mismatches
from tests.scenarios.playing import faults, play
from tests.support.databases import SERVER_KINDS, empty, sqlite_again

FOLDER: Final = Path(__file__).parent
FILES: Final = {path.stem: path.read_text("utf-8") for path in sorted(FOLDER.glob("*.json"))}

Results = Callable[[str, str], list[str]]


def cases() -> Iterator[Any]:
    """The cases of all files; one worker plays a file."""
    for name, text in FILES.items():
        for number, case in enumerate([] if faults(text) else json.loads(text)["test_cases"]):
            group = pytest.mark.xdist_group(f"scenario {name}")
            yield pytest.param(name, number, id=f"{name}: {case['test_description']}", marks=group)


@pytest.fixture(scope="session")
def results(template: Path, schemas: dict[str, str]) -> Results:
    """The outcome of each case of a file, which is played as a whole when the first one is wanted."""

    @cache
    def played(name: str, kind: str) -> list[str]:
        scenario = json.loads(FILES[name])
        if kind == "sqlite":
            with sqlite_again(template) as engine:
                return play(scenario, engine)
        with closing(open_database(schemas[kind])) as server:
            outcomes = play(scenario, server.engine)
            empty(server)
            return outcomes

    return played


@pytest.mark.parametrize("kind", ["sqlite", *SERVER_KINDS])
@pytest.mark.parametrize(("name", "number"), [*cases()])
def test_scenario(name: str, number: int, kind: str, results: Results) -> None:
    if outcome := results(name, kind)[number]:
        pytest.fail(f"{name}, case {number + 1}\n{outcome}", pytrace=False)


@pytest.mark.parametrize("name", FILES)
def test_file_is_written_as_the_schema_says(name: str) -> None:
    assert faults(FILES[name]) == []


def test_the_example_of_the_documentation_works(template: Path) -> None:
    [example] = re.findall(r"```json\n(.*?)```", (FOLDER / "README.md").read_text("utf-8"), re.DOTALL)
    assert faults(example) == []
    with sqlite_again(template) as engine:
        assert play(json.loads(example), engine) == ["", ""]


CASE: Final = {"test_description": "it works", "url": "/get", "expected_output": {"status_code": 200}}
MISSPELT: Final = "Additional properties are not allowed ('{}' was unexpected)".format


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"setings": {}}, f"$: {MISSPELT('setings')}"),
        ({"test_cases": [CASE, CASE | {"untill": {}}]}, f"$.test_cases[1]: {MISSPELT('untill')}"),
        ({"test_cases": [CASE | {"until": {"bdy": {}}}]}, f"$.test_cases[0].until: {MISSPELT('bdy')}"),
        ({"test_cases": [CASE | {"url": None}]}, "$.test_cases[0].url: None is not of type 'string'"),
        ({"test_cases": [CASE, CASE | {"expected_output": {}}]}, "$.test_cases[1].expected_output: 'status_code' is"),
    ],
)
def test_what_is_wrong_with_a_file_is_named_with_its_place(wrong: dict[str, Any], why: str) -> None:
    good = {"description": "all", "test_cases": [CASE]}
    assert faults(json.dumps(good)) == []
    [fault] = faults(json.dumps(good | wrong))
    assert fault.startswith(why)


def test_a_case_needs_a_url_of_its_own_or_of_the_file() -> None:
    case = {name: value for name, value in CASE.items() if name != "url"}
    file = {"description": "all", "test_cases": [CASE, case]}
    assert faults(json.dumps(file)) == ["$.test_cases[1]: neither it nor the file has a url"]
    assert faults(json.dumps(file | {"url": "/get"})) == []
    assert faults("{")[0].startswith("it is not JSON: ")


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 1.0, "c": 2}, "d": 3}),
        ([1, "$any", {"a": None}], [1, None, {"a": None, "b": 2}]),
        ({"a": "$absent"}, {"b": 1}),
        ({"$length": 2, "$each": "$number"}, [1, 2.5]),
        ({"$each": {"a": "$text"}}, [{"a": ""}, {"a": "x", "b": 1}]),
        (["$time", "$time"], ["2026-11-10T00:00:00Z", "2026-11-10T00:00:00.123Z"]),
        ("$uuid", "9b2d1c1e-5c1b-4c57-8f5e-0a7f3c6d2e11"),
    ],
)
def test_an_answer_matches(expected: Any, found: Any) -> None:
    assert [*mismatches(expected, found)] == []


@pytest.mark.parametrize(
    ("expected", "found", "why"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 2}}, "answer.a.b: expected 1, found 2"),
        ({"a": None}, {}, "answer.a: expected None, found nothing"),
        ({"a": "$any"}, {}, "answer.a: expected '$any', found nothing"),
        ({"a": "$absent"}, {"a": None}, "answer.a: expected '$absent', found None"),
        ([1], [1, 2], "answer: expected [1], found [1, 2]"),
        ([1, 2], [1, 3], "answer.1: expected 2, found 3"),
        ({}, [], "answer: expected {}, found []"),
        ({"$length": 2}, [1], "answer: expected {'$length': 2}, found [1]"),
        ({"$each": {"a": 1}}, [{"a": 1}, {"a": 2}], "answer.1.a: expected 1, found 2"),
        (1, True, "answer: expected 1, found True"),
        ("$number", True, "answer: expected '$number', found True"),
        ("$text", 1, "answer: expected '$text', found 1"),
        ("$time", "2026-11-10", "answer: expected '$time', found '2026-11-10'"),
        ("$uuid", "9b2d1c1e", "answer: expected '$uuid', found '9b2d1c1e'"),
        ("$uid", "", "answer: there is no placeholder $uid; there are $any, $absent, $number, $text, $time, $uuid"),
    ],
)
def test_what_does_not_match_is_named_with_its_place(expected: Any, found: Any, why: str) -> None:
    assert [*mismatches(expected, found)] == [why]
