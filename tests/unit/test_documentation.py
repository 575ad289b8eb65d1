"""The documents speak of what exists: commands, settings, paths, links and examples. It must not start anything."""

import importlib.util
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import yaml
from pydantic import BaseModel

from consumer.__main__ import parser as consumer_parser
from consumer.app import Worker, WorkerFacts
from consumer.caller import Tally
from producer.api.schemas import Accepted, CollectionBody, Datum
from producer.app import ProducerFacts
from producer.relay import Relay
from raingauge.contracts import decode
from raingauge.health import Facts
from raingauge.settings import CONFIG_VARIABLE, FILE_SUFFIX, PREFIX, Settings

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
OPERATIONS = ROOT / "docs/operations.md"
DECISIONS = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOLDERS = "producer|consumer|raingauge|simulator|standalone|migrations|tests|bench|docs|deploy"
DATA_AGE_S = 600
LONGEST_MONTH_S = 31 * 86_400

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")


TEXTS = {path: path.read_text(encoding="utf-8") for path in DOCUMENTS}
WITHOUT_FENCES = {path: FENCE.sub("", text) for path, text in TEXTS.items()}
SPANS = [span for text in WITHOUT_FENCES.values() for span in SPAN.findall(text)]
CODE = "\n".join([*(block for text in TEXTS.values() for _, block in FENCE.findall(text)), *SPANS])
"""Everything in code blocks and code spans."""


def json_blocks(document: Path) -> list[str]:
    return [block for language, block in FENCE.findall(TEXTS[document]) if language == "json"]


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a document."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#+ (.+)$", WITHOUT_FENCES[document], re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def settings_with_defaults() -> dict[str, str]:
    def leaves(prefix: str, section: BaseModel) -> Iterator[tuple[str, str]]:
        for name, value in section:
            if isinstance(value, BaseModel):
                yield from leaves(f"{prefix}.{name}", value)
            else:
                yield f"{prefix}.{name}", f"{value:g}" if isinstance(value, float) else str(value)

    return {
        name: default
        for section, field in Settings.model_fields.items()
        for name, default in leaves(section, field.default)
    }


def seconds(text: str) -> int:
    """For example of `5 h 34 min`."""
    units = {"h": 3600, "min": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+) (h|min|s)\b", text))


def test_every_command_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z][a-z-]*)", CODE)) <= targets
    for module in set(re.findall(r"python -m ([\w.]+)", CODE)):
        assert importlib.util.find_spec(f"{module}.__main__") is not None, module
    for command in re.findall(r"python -m consumer (quota [a-z-]+)", CODE):
        number = ["1"] if command.endswith("set-month") else []
        assert callable(consumer_parser().parse_args([*command.split(), *number]).program)


def test_every_service_and_profile_of_compose_that_is_named_exists() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    profiles = {profile for service in services.values() for profile in service.get("profiles", [])}
    assert set(re.findall(r"(?:--scale|docker compose (?:exec|run --rm)) ([a-z-]+)", CODE)) <= services.keys()
    assert set(re.findall(r"--profile (\w+)", CODE)) <= profiles


def test_every_environment_variable_that_is_named_is_a_setting() -> None:
    known = {PREFIX + name.upper().replace(".", "__") for name in settings_with_defaults()} | {CONFIG_VARIABLE}
    known |= {f"{PREFIX}{section}__URL{FILE_SUFFIX}" for section in ("DATABASE", "BROKER")}
    assert set(re.findall(rf"{PREFIX}[A-Z_]+", CODE)) <= known


def test_every_dotted_name_is_a_setting_or_an_event_that_is_logged() -> None:
    rooms = ("producer", "consumer", "raingauge")
    sources = "\n".join(path.read_text("utf-8") for room in rooms for path in ROOT.glob(f"{room}/**/*.py"))
    events = set(re.findall(r'log\.\w+\([^"]{0,80}"([a-z_.]+)"', sources))
    sections = "|".join(Settings.model_fields)
    pattern = re.compile(rf"({sections}|handoff|gate|message|batch)(\.[a-z_]+)+")
    assert {span for span in SPANS if pattern.fullmatch(span)} <= settings_with_defaults().keys() | events


def test_every_path_that_is_named_exists() -> None:
    paths = {span for span in SPANS if re.fullmatch(rf"({FOLDERS})/[\w./-]*", span)}
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    for _, target in LINK.findall(WITHOUT_FENCES[document]):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            goal = (document.parent / path).resolve() if path else document
            assert goal.exists(), target
            assert goal.is_relative_to(ROOT), target
            assert not anchor or anchor in anchors(goal), target


def test_the_table_of_settings_has_all_of_them_with_their_defaults() -> None:
    rows = re.findall(r"^\| `([a-z]+\.[a-z_.]+)` \| ([^|]+) \|", TEXTS[OPERATIONS], re.MULTILINE)
    assert {name: default.strip() for name, default in rows} == settings_with_defaults()


def test_the_table_of_metrics_has_all_of_them() -> None:
    caller = SimpleNamespace(quiet_s=0.0, tally=Tally(), waiting_for=None)
    worker = SimpleNamespace(intake=SimpleNamespace(held=0, obstacles=[]), caller=caller)
    parts: list[Facts] = [ProducerFacts(cast("Relay", SimpleNamespace(pending=0))), WorkerFacts(cast("Worker", worker))]
    named = set(re.findall(r"^\| `(raingauge_[a-z_]+)` \|", TEXTS[OPERATIONS], re.MULTILINE))
    counters = {f"raingauge_{name}_total" for part in parts for name in part.counts()}
    assert named == counters | {f"raingauge_{name}" for part in parts for name in part.gauges()}


def test_a_decision_has_its_context_choice_rejected_options_and_price() -> None:
    for decision in DECISIONS:
        heading, *paragraphs = TEXTS[decision].rstrip().split("\n\n")
        assert re.fullmatch(rf"# {int(decision.name[:4])}\. .+", heading)
        labels = [paragraph.partition(" ")[0] for paragraph in paragraphs]
        assert labels == ["**Context.**", "**Choice.**", "**Rejected.**", "**Price.**"], decision
        assert len(TEXTS[decision].splitlines()) <= 25, decision


def test_the_index_has_every_decision_by_its_title() -> None:
    index = {target: title for title, target in LINK.findall(TEXTS[ROOT / "docs/adr/README.md"])}
    assert index == {path.name: TEXTS[path].splitlines()[0].removeprefix("# ") for path in DECISIONS}
    assert [int(path.name[:4]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))


def test_the_readme_has_two_screens() -> None:
    assert len(TEXTS[README].splitlines()) <= 130


def test_the_examples_in_the_readme_are_answers_of_the_api() -> None:
    posted, got = (json.loads(block) for block in json_blocks(README))
    assert list(posted) == list(Accepted.model_fields)
    assert list(got) == list(CollectionBody.model_fields)
    assert got["data"]
    for row in got["data"]:
        assert list(row) == [name for name, field in Datum.model_fields.items() if field.is_required()]
    Accepted.model_validate(posted)
    CollectionBody.model_validate(got)


def test_the_message_in_the_documents_is_one() -> None:
    (message,) = json_blocks(ROOT / "docs/architecture.md")
    decoded = decode(message.encode())
    assert json.loads(decoded.encode()) == json.loads(message)


def test_what_a_free_key_buys_is_computed() -> None:
    account = Settings.model_fields["quota"].default
    rows = re.findall(r"^\| ([\d,]+) \| ([^|]+) \| every ([^|]+) \|", TEXTS[README], re.MULTILINE)
    assert rows
    for number, sweep, repeat in rows:
        cities = int(number.replace(",", ""))
        least = cities * account.window_s / account.cities_per_window
        assert least <= seconds(sweep) < least + 60
        assert seconds(repeat) >= max(DATA_AGE_S, cities * LONGEST_MONTH_S / account.cities_per_month)
    share = account.cities_per_month / LONGEST_MONTH_S / (account.cities_per_window / account.window_s)
    assert f"{share:.0%}".replace("%", " %") in TEXTS[README]
