"""A release is of one piece: one version everywhere, and workflows that run what a person runs, with no more rights."""

import re
import tomllib
from datetime import date
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
VERSION: Final[str] = PROJECT["project"]["version"]
MAKEFILE: Final = (ROOT / "Makefile").read_text("utf-8")
WORKFLOWS: Final = {path.stem: path.read_text("utf-8") for path in (ROOT / ".github/workflows").glob("*.yml")}
IMAGES: Final = ["producer", "consumer", "simulator"]
each_workflow = pytest.mark.parametrize("name", WORKFLOWS)

Jobs = dict[str, dict[str, Any]]


def jobs(name: str) -> Jobs:
    found: Jobs = yaml.safe_load(WORKFLOWS[name])["jobs"]
    return found


def commands(name: str) -> str:
    """All that a workflow runs in a shell."""
    return "\n".join(step["run"] for job in jobs(name).values() for step in job.get("steps", []) if "run" in step)


def test_the_newest_release_of_the_changelog_is_the_version_and_unreleased_changes_stand_above_it() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    released = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", one) for one in headings if "Unrel" not in one]
    assert headings.index("[Unreleased]") == 0
    found = [(one[1], date.fromisoformat(one[2])) for one in released if one is not None]
    assert len(found) == len(headings) - 1
    assert found[0][0] == VERSION
    assert found == sorted(found, key=lambda one: one[1], reverse=True)


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_is_labelled_with_the_version_and_the_licence(image: str) -> None:
    text = (ROOT / image / "Dockerfile").read_text("utf-8")
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]+)"', text))
    expected = {"title": f"Raingauge {image}", "version": VERSION, "licenses": PROJECT["project"]["license"]}
    assert labels == expected


def test_kubernetes_runs_the_images_of_the_version() -> None:
    texts = [path.read_text("utf-8") for path in (ROOT / "deploy/kubernetes").glob("*/*.yaml")]
    tags = re.findall(r"(?:image: raingauge-\w+:|newTag: )([\w.-]+)", "\n".join(texts))
    assert tags == [VERSION] * 5


@each_workflow
def test_actions_are_pinned_to_commits_and_jobs_have_the_rights_that_they_need(name: str) -> None:
    actions = re.findall(r"uses: (\S+)(.*)", WORKFLOWS[name])
    others = [(action, note) for action, note in actions if not action.startswith("./")]
    assert others
    for action, note in others:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", note), "the version that the commit is"
    whole = yaml.safe_load(WORKFLOWS[name])
    assert whole["permissions"] in ({}, {"contents": "read"})
    writing = {job for job, one in jobs(name).items() if "write" in one.get("permissions", {}).values()}
    assert writing == ({"images", "release"} if name == "release" else set())
    assert whole["concurrency"]["group"].startswith("${{ github.workflow }}")
    for job in jobs(name).values():
        checkouts = [one for one in job.get("steps", []) if one.get("uses", "").startswith("actions/checkout@")]
        assert all(one["with"] == {"persist-credentials": False} for one in checkouts)
        assert "uses" in job or job["timeout-minutes"] <= 60


def test_every_python_that_is_named_is_tested_and_is_found_by_make() -> None:
    named = [one.rpartition(" :: ")[2] for one in PROJECT["project"]["classifiers"]]
    assert PROJECT["project"]["requires-python"] == f">={named[0]}"
    assert [named[0], *jobs("ci")["python"]["strategy"]["matrix"]["python"]] == named
    assert " ".join(f"python{one}" for one in named) + " python3," in MAKEFILE
    assert "bash .ci/run" in commands("ci")


def test_the_workflows_run_targets_of_make_that_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    used = {name: set(re.findall(r"\bmake (?:PYTHON=\S+ )?([a-z-]+)", commands(name))) for name in WORKFLOWS}
    assert used == {"ci": {"test"}, "release": {"sbom"}}
    assert set().union(*used.values()) <= targets


def test_a_release_publishes_one_image_per_service_for_two_architectures_after_all_tests() -> None:
    publishing = jobs("release")["images"]
    assert publishing["strategy"]["matrix"]["image"] == IMAGES
    assert {"test", "materials"} <= set(publishing["needs"])
    (build,) = [one["with"] for one in publishing["steps"] if "build-push-action" in one.get("uses", "")]
    assert build["platforms"] == "linux/amd64,linux/arm64"
    assert (build["provenance"], build["sbom"], build["push"]) == ("mode=max", True, True)
    assert jobs("release")["test"]["uses"] == "./.github/workflows/ci.yml"
    assert "workflow_call" in WORKFLOWS["ci"]
