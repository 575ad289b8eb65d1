"""The documents speak of what exists: commands, settings, paths, links and examples. It must not start anything."""

import importlib.util
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from pydantic import BaseModel

from consumer.__main__ import parser as consumer_parser
from producer.api.schemas import AcceptedBody, CollectionBody, Datum
from raingauge.contracts import decode
from raingauge.model import EventType
from raingauge.settings import CONFIG_VARIABLE, FILE_SUFFIX, PREFIX, TOKEN_VARIABLES, URL_VARIABLE, Settings
from tests.support.metrics import exported

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
INDEX = ROOT / "docs/README.md"
OPERATIONS = ROOT / "docs/operations.md"
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
FOLDERS = "cli|producer|consumer|raingauge|simulator|standalone|migrations|tests|bench|docs|deploy"

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PICTURE = re.compile(r"<(?:img|source)\b[^>]*?\b(?:src|srcset)=\"([^\"]+)\"")
"""Of HTML: its `srcset` may name several files with their widths."""

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
                as_yaml = str(value).lower() if isinstance(value, bool) else str(value)
                yield f"{prefix}.{name}", f"{value:g}" if isinstance(value, float) else as_yaml

    return {
        name: default
        for section, field in Settings.model_fields.items()
        for name, default in leaves(section, field.default)
    }


def test_every_command_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z][a-z-]*)", CODE)) <= targets
    for module in set(re.findall(r"python -m ([\w.]+)", CODE)):
        assert importlib.util.find_spec(f"{module}.__main__") is not None, module
    for command in re.findall(r"python -m consumer (quota [a-z-]+)", CODE):
        number = ["1"] if command.endswith("set-month") else []
        assert callable(consumer_parser().parse_args([*command.split(), *number]).program)


def test_every_environment_variable_that_is_named_is_a_setting() -> None:
    known = {PREFIX + name.upper().replace(".", "__") for name in settings_with_defaults()} | {
        CONFIG_VARIABLE,
        URL_VARIABLE,
        f"{PREFIX}SCHEDULES",
        *TOKEN_VARIABLES,
    }
    known |= {f"{PREFIX}{section}__URL{FILE_SUFFIX}" for section in ("DATABASE", "BROKER")}
    assert set(re.findall(rf"{PREFIX}[A-Z_]+", CODE)) <= known


def test_every_dotted_name_is_a_setting_or_an_event_that_is_logged() -> None:
    rooms = ("producer", "consumer", "raingauge")
    sources = "\n".join(path.read_text("utf-8") for room in rooms for path in ROOT.glob(f"{room}/**/*.py"))
    events = set(re.findall(r'log\.\w+\([^"]{0,80}"([a-z_.]+)"', sources))
    sections = "|".join(Settings.model_fields)
    pattern = re.compile(rf"({sections}|handoff|gate|message|batch)(\.[a-z_]+)+")
    assert {span for span in SPANS if pattern.fullmatch(span)} <= {
        *settings_with_defaults(),
        *events,
        *get_args(EventType),
        "cities.dead",  # a topic
    }


def test_every_path_and_relative_link_leads_somewhere() -> None:
    paths = {span for span in SPANS if re.fullmatch(rf"({FOLDERS})/[\w./-]*", span)}
    assert [path for path in paths if not (ROOT / path).exists()] == []
    for document, text in WITHOUT_FENCES.items():
        for path, _, anchor in (target.partition("#") for target in LINK.findall(text) if "://" not in target):
            goal = (document.parent / path).resolve() if path else document
            assert goal.exists(), (document, path)
            assert not anchor or anchor in anchors(goal), (document, anchor)


def test_every_picture_in_html_is_there() -> None:
    pictures = [
        document.parent / candidate.split()[0]
        for document, text in WITHOUT_FENCES.items()
        for sources in PICTURE.findall(text)
        for candidate in sources.split(",")
        if "://" not in candidate
    ]
    assert {ROOT / "docs/page/overview.png", ROOT / "docs/page/overview-dark.png"} <= set(pictures)
    assert [picture for picture in pictures if not picture.is_file()] == []


def test_every_command_line_of_raingauge_is_one_that_it_knows() -> None:
    reference = TEXTS[ROOT / "docs/command.md"]
    sections = dict(re.findall(r"^## (raingauge[a-z -]*)\n(.*?)(?=^## |\Z)", reference, re.MULTILINE | re.DOTALL))
    for line in re.findall(r"^(?:export \S+ )?(raingauge [a-z].*)$", CODE, re.MULTILINE):
        words = line.partition(" #")[0].split()
        command = max((" ".join(words[:n]) for n in range(1, 5) if " ".join(words[:n]) in sections), key=len)
        assert command != "raingauge", line
        options = set(re.findall(r"(?<=\s)--?[a-z][a-z-]*", line.partition("|")[0].partition(" #")[0]))
        assert options <= set(re.findall(r"--?[a-z][a-z-]*", sections[command])), line


def test_every_document_and_guide_is_in_the_index() -> None:
    listed = {(ROOT / "docs" / target.partition("#")[0]).resolve() for target in LINK.findall(TEXTS[INDEX])}
    folders = (ROOT / "docs", ROOT / "docs/guides")
    assert {path for folder in folders for path in folder.glob("*.md")} - {INDEX} <= listed


def test_the_table_of_settings_has_all_of_them_with_their_defaults() -> None:
    rows = re.findall(r"^\| `([a-z]+\.[a-z_.]+)` \| ([^|]+) \|", TEXTS[OPERATIONS], re.MULTILINE)
    sections = Settings.model_fields
    found = {name: default.strip() for name, default in rows if name.partition(".")[0] in sections}
    assert found == settings_with_defaults()


def test_the_table_of_events_has_every_type() -> None:
    (section,) = re.findall(r"^## Events\n(.*?)^## ", TEXTS[OPERATIONS], re.MULTILINE | re.DOTALL)
    assert re.findall(r"^\| `([a-z_.]+)` \|", section, re.MULTILINE) == list(get_args(EventType))


def test_the_table_of_metrics_has_all_of_them() -> None:
    rows = re.findall(r"^\| `(raingauge_[a-z_]+)` \| (both|producer|consumer)", TEXTS[OPERATIONS], re.MULTILINE)
    for service in ("producer", "consumer"):
        assert {name for name, on in rows if on in {service, "both"}} == exported(service).keys()


def test_the_examples_are_messages_and_answers() -> None:
    (message,) = json_blocks(ROOT / "docs/architecture.md")
    assert json.loads(decode(message.encode()).encode()) == json.loads(message)
    posted, got = (json.loads(block) for block in json_blocks(README))
    for row in got["data"]:
        assert list(row) == [name for name, field in Datum.model_fields.items() if field.is_required()]
    assert AcceptedBody.model_validate(posted).model_fields_set == AcceptedBody.model_fields.keys()
    always = {name for name, field in CollectionBody.model_fields.items() if field.is_required()}
    assert CollectionBody.model_validate(got).model_fields_set == always
