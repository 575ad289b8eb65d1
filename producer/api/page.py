"""The page at `/` and its files: hashed paths that never change, compressed once, under a strict content policy.

The files are static. What the page shows it gets from the public API.
"""

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from raingauge.web import shown

router = APIRouter(include_in_schema=False)

STATIC: Final = "/static"
INDEX: Final = "index.html"
COMPRESSED: Final = ".gz"
"""Files that are stored compressed have this behind their names."""
MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
LIBRARIES: Final = {
    "@preact/signals": "vendor/signals.mjs",
    "@preact/signals-core": "vendor/signals-core.mjs",
    "echarts": "vendor/echarts.mjs",
    "htm": "vendor/htm.mjs",
    "preact": "vendor/preact.mjs",
    "preact/hooks": "vendor/preact-hooks.mjs",
    "topojson": "vendor/topojson/feature.js",
}
"""The names that scripts import, and their files."""
SECURITY: Final = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""Beside the headers that every answer has."""
FOR_GOOD: Final = "public, max-age=31536000, immutable"
NEVER: Final = re.compile(r"\s*q\s*=\s*0(\.0*)?\s*", re.IGNORECASE)
"""The weight of an encoding that is not accepted."""


@dataclass(frozen=True, slots=True)
class File:
    """A file, compressed with gzip."""

    media_type: str
    compressed: bytes


class Page:
    """The page and its files, read and compressed once. `root_path`: what every path begins with."""

    def __init__(self, root_path: str = "") -> None:
        found = _found(files("producer").joinpath("page"))
        self.files = {path.removesuffix(COMPRESSED): _file(path, content) for path, content in found}
        digest = hashlib.sha256()
        for path, file in sorted(self.files.items()):
            digest.update(path.encode() + b"\0" + hashlib.sha256(file.compressed).digest())
        self.version = digest.hexdigest()[:16]
        static = f"{root_path}{STATIC}/{self.version}"
        imports = json.dumps({"imports": {name: f"{static}/{path}" for name, path in LIBRARIES.items()}})
        template = gzip.decompress(self.files.pop(INDEX).compressed).decode()
        html = template.replace("{static}", static).replace("{root}", root_path).replace("{imports}", imports)
        self.html = File(MEDIA_TYPES[".html"], gzip.compress(html.encode(), mtime=0))
        self.policy = _policy(imports)


page_below: Final = cache(Page)
"""The page below a path prefix, read once."""


def _policy(imports: str) -> str:
    """The Content-Security-Policy: own files only, and inline nothing but the import map."""
    digest = base64.b64encode(hashlib.sha256(imports.encode()).digest()).decode()
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src 'self' 'sha256-{digest}'",
            "style-src 'self'",
            "img-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


def _found(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _found(entry, f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name, entry.read_bytes()


def _file(path: str, content: bytes) -> File:
    name = path.removesuffix(COMPRESSED)
    suffix = name[name.rindex(".") :]
    return File(MEDIA_TYPES[suffix], content if name != path else gzip.compress(content, mtime=0))


def _takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding names gzip, and not with the weight 0 (RFC 9110, 12.5.3)."""
    weights = {name.strip().lower(): weight for name, _, weight in (one.partition(";") for one in accepted.split(","))}
    return "gzip" in weights and NEVER.fullmatch(weights["gzip"]) is None


def _answer(request: Request, file: File, headers: Mapping[str, str]) -> Response:
    more = {"Vary": "Accept-Encoding", **SECURITY, **headers}
    if _takes_gzip(request.headers.get("accept-encoding", "")):
        return Response(file.compressed, headers={"Content-Encoding": "gzip", **more}, media_type=file.media_type)
    return Response(gzip.decompress(file.compressed), headers=more, media_type=file.media_type)


@router.get("/")
async def front(request: Request) -> Response:
    """The page itself."""
    page = page_below(request.scope["root_path"])
    headers = {"Cache-Control": "no-cache", "Content-Security-Policy": page.policy}
    return _answer(request, page.html, headers)


@router.get(STATIC + "/{version}/{path:path}")
async def static(request: Request, version: str, path: str) -> Response:
    """One of its files."""
    page = page_below(request.scope["root_path"])
    file = page.files.get(path)
    if version != page.version or file is None:
        raise HTTPException(404, f"there is no file {shown(request.url.path)}; reload the page")
    return _answer(request, file, {"Cache-Control": FOR_GOOD})
