"""The page at `/`: strict headers, paths that never change, nothing inline, nothing from elsewhere."""

import base64
import gzip
import hashlib
import json
import re
from importlib.resources import files
from typing import Final, get_args

import pytest

from cli.waiting import REASONS
from producer.api.page import LIBRARIES, Page
from producer.api.schemas import WHY, CollectionHead, State
from producer.forecast import Reason
from tests.api_support import Front, assert_problem

PAGE: Final = Page()
OWN: Final = {path: gzip.decompress(file.compressed).decode() for path, file in PAGE.files.items() if "/" not in path}
IMPORT: Final = re.compile(r'(?:\bfrom |\bimport\(|^import )"([^"]+)"', re.MULTILINE)


@pytest.mark.parametrize("path", ["/", "//", ""])
async def test_the_page_may_load_its_own_files_and_nothing_else(front: Front, path: str) -> None:
    answer = await front.http.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    (imports,) = re.findall(r'<script type="importmap">(.*?)</script>', answer.text)
    digest = base64.b64encode(hashlib.sha256(imports.encode()).digest()).decode()
    assert policy.pop("script-src") == f"'self' 'sha256-{digest}'"
    own = {name: policy.pop(name) for name in ("style-src", "img-src", "connect-src")}
    assert set(own.values()) == {"'self'"}
    assert policy == dict.fromkeys(("default-src", "base-uri", "form-action", "frame-ancestors"), "'none'")
    others = {"cache-control": "no-cache", "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
    assert others.items() <= dict(answer.headers).items()
    assert json.loads(imports)["imports"].keys() == LIBRARIES.keys()


async def test_every_file_has_a_path_that_never_changes_and_is_sent_compressed_to_who_takes_it(front: Front) -> None:
    assert {"app.js", "page.css", "icon.svg", "vendor/echarts.mjs", "vendor/countries-50m.json"} <= PAGE.files.keys()
    for path, file in PAGE.files.items():
        answer = await front.http.get(f"/static/{PAGE.version}/{path}")
        assert (answer.status_code, answer.headers["content-encoding"]) == (200, "gzip")
        assert answer.headers["content-type"] == file.media_type
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.content == gzip.decompress(file.compressed)


@pytest.mark.parametrize("accepted", ["identity", "", "gzip;q=0", "br, GZIP ; q=0.00 ", "gzipped"])
async def test_whoever_does_not_take_gzip_gets_a_file_as_it_is(front: Front, accepted: str) -> None:
    answer = await front.http.get(f"/static/{PAGE.version}/app.js", headers={"Accept-Encoding": accepted})
    assert "content-encoding" not in answer.headers
    assert (answer.text, answer.headers["vary"]) == (OWN["app.js"], "Accept-Encoding")


@pytest.mark.parametrize("accepted", ["gzip", "br, Gzip", "gzip;q=0.5, identity;q=0", "deflate,gzip ; q=1"])
async def test_whoever_takes_gzip_gets_it(front: Front, accepted: str) -> None:
    answer = await front.http.get(f"/static/{PAGE.version}/app.js", headers={"Accept-Encoding": accepted})
    assert answer.headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("path", [f"{PAGE.version}/nope", f"{PAGE.version}/%2e%2e/page.py", "0123456789abcdef/app.js"])
async def test_no_other_file_is_there(front: Front, path: str) -> None:
    answer = await front.http.get(f"/static/{path}")
    assert_problem(answer, 404, f"there is no file /static/{path.replace('%2e', '.')}; reload the page")


def test_every_import_of_the_scripts_is_a_file_or_a_named_library() -> None:
    scripts = {path: text for path, text in OWN.items() if path.endswith(".js")}
    found = [(path, name) for path, text in scripts.items() for name in IMPORT.findall(text)]
    assert len(found) > 50
    assert [each for each in found if each[1].removeprefix("./") not in scripts and each[1] not in LIBRARIES] == []
    assert [path for path in LIBRARIES.values() if path not in PAGE.files] == []


def test_nothing_is_inline_and_nothing_names_another_host() -> None:
    html = gzip.decompress(PAGE.html.compressed).decode()
    assert re.findall(r"<style|\sstyle=|\son\w+=|<script(?! type=\"(?:importmap|module)\")", html) == []
    for path, text in OWN.items():
        assert " style=" not in text, path
        hosts = set(re.findall(r"https?://([\w.-]+)", text))
        assert hosts <= {"openweathermap.org", "www.geonames.org", "www.w3.org"}, path


def test_every_reason_has_words_on_the_page_in_the_command_and_in_the_api() -> None:
    described = CollectionHead.model_fields["reason"].description or ""
    for reason in get_args(Reason):
        assert re.search(rf'^  {reason}: "|reason === "{reason}"', OWN["text.js"], re.MULTILINE), reason
        assert reason in described
        assert WHY.get(reason, REASONS[reason]).startswith(REASONS[reason])
    for state in get_args(State):
        assert WHY[state]
        assert state == "open" or f'\n  {state}: "' in OWN["text.js"], state


def test_a_changed_file_changes_the_paths_and_the_start_costs_little() -> None:
    assert Page().version == PAGE.version
    assert PAGE.version in gzip.decompress(PAGE.html.compressed).decode()
    assert sum(len(file.compressed) for file in PAGE.files.values()) < 800_000


def test_each_library_comes_with_its_licence_and_its_hash() -> None:
    vendor = files("producer").joinpath("page/vendor")
    packages = json.loads(vendor.joinpath("packages.json").read_text("utf-8"))
    named = {path.removesuffix(".gz") for package in packages for path in package["files"].values()}
    assert named | {"packages.json"} == {
        path.removeprefix("vendor/") for path in PAGE.files if path.startswith("vendor/")
    }
    for package in packages:
        assert package["integrity"].startswith("sha512-")
        assert any(path.startswith("licences/") for path in package["files"].values()), package["name"]
