"""What answers of several endpoints have in common: the units, the link to the next page, the weak ETag."""

import hashlib
from typing import Annotated, Final

from fastapi import Query, Request

from raingauge.units import Units

JSON: Final = "application/json"
ID_IS: Final = "The collection's id, for example `1`."
UnitsAre = Annotated[
    Units,
    Query(
        description="metric: °C and m/s; imperial: °F and miles an hour; standard: K and m/s. "
        "Other fields have the same unit in all three.",
        examples=["imperial"],
    ),
]


def link(next_url: str) -> str:
    """The `Link` header that leads to the next page (RFC 8288)."""
    return f'<{next_url}>; rel="next"'


def weak_etag(content: bytes) -> str:
    """The weak ETag of what this content stands for."""
    return f'W/"{hashlib.sha256(content).hexdigest()[:24]}"'


def is_named(etag: str, request: Request) -> bool:
    """Whether `If-None-Match` names it, by weak comparison (RFC 9110, 8.8.3.2 and 13.1.2)."""
    if "if-none-match" not in request.headers:
        return False
    named = {tag.strip().removeprefix("W/") for tag in ",".join(request.headers.getlist("if-none-match")).split(",")}
    return etag.removeprefix("W/") in named or "*" in named
