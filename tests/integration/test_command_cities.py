"""`raingauge cities search|match` on a small file of cities: what is printed, and what is reported."""

import csv
import json
from pathlib import Path

import pytest

from cli.__main__ import main
from cli.city_ids import read_city_ids


@pytest.fixture
def file(cities_file: Path) -> str:
    return str(cities_file)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """The exit status, stdout and stderr."""
    status = main(["cities", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["muench"], "2867714\tMunich\tDE\t"),
        (["Москва"], "524901\tMoscow\tRU\t"),
        (["salto", "--country", "Argentina"], "3837441\tSalto\tAR\t"),
        (["--near=-34.9,-56.2", "--limit", "1"], "3441575\tMontevideo\tUY\t"),
    ],
)
def test_cities_are_found_by_name_and_by_place(
    arguments: list[str], line: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(capsys, "search", *arguments, "--file", file)
    assert (status, out.splitlines()[1][: len(line)], len(out.splitlines())) == (0, line, 2)


def test_json_is_that_of_the_api(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "search", "young", "--json", "--file", file)
    (found,) = json.loads(out)["cities"]
    assert (found["id"], found["population"], found["distance_km"]) == (3439525, 15001, None)


def test_matched_places_are_a_csv_that_collect_reads(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "places.csv").write_text("name,country\nMünchen,DE\nYoung,UY\n", "utf-8")
    status, out, err = run(capsys, "match", f"{tmp_path}/places.csv", "--file", file)
    assert (status, err) == (0, "")
    assert [row["name"] for row in csv.DictReader(out.splitlines())] == ["Munich", "Young"]
    assert read_city_ids("out", out) == [2867714, 3439525]


def test_what_fits_several_cities_or_none_is_reported_and_never_guessed(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "places.csv").write_text("name,country\nSpringfield,US\nMontevidio,UY\nYoung,UY\n", "utf-8")
    status, out, err = run(capsys, "match", f"{tmp_path}/places.csv", "--file", file)
    assert (status, read_city_ids("out", out)) == (2, [3439525])
    assert "line 2: Springfield, US: several cities fit\n  4409896  Springfield, " in err
    assert "line 3: Montevidio, UY: there is no city of this name; similar names: montevideo\n" in err
    assert "2 of 3 places in" in err
    assert "--prefer largest" in err.splitlines()[-1]
    status, out, err = run(capsys, "match", f"{tmp_path}/places.csv", "--prefer", "largest", "--file", file)
    assert "--prefer" not in err
    assert (status, read_city_ids("out", out)) == (2, [4409896, 3439525])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["search", "x", "--file", "/nowhere/cities.db"], "there is no file of cities at /nowhere/cities.db"),
        (["search", "x", "--country", "Atlantis"], "there is no country Atlantis"),
        (["search", "--near", "95,0"], "--near 95,0: expected latitude and longitude"),
        (["search", "x", "--limit", "9" * 30], "invalid value for '--limit'"),
        (["match", "/nowhere/places.csv"], "/nowhere/places.csv: No such file"),
        (["match", "/dev/null"], "expected a header"),
    ],
)
def test_a_mistake_ends_with_2_and_one_line(
    arguments: list[str], line: str, file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAINGAUGE_CITIES__FILE", file)
    status, out, err = run(capsys, *arguments)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert line in err
