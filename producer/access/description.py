"""What OpenAPI says of access: the two ways to show a token, and of each operation what it needs and how it is refused.

It is derived from `rules`, so that the description cannot differ from what is done.
"""

from typing import Any, Final

from producer.access import refusals
from producer.access.clients import Client
from producer.access.credentials import COOKIE
from producer.access.rules import needed
from raingauge.web import MEDIA_TYPE, about

SCHEMES: Final[dict[str, Any]] = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "rg_…",
        "description": "A token of `raingauge admin token add`. Needed as soon as one exists.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": "The cookie that `POST /session` sets.",
    },
}
CHALLENGE: Final = {"WWW-Authenticate": {"description": "Why, as in RFC 6750.", "schema": {"type": "string"}}}
RETRY: Final = {"Retry-After": {"description": "Seconds to wait before the next try.", "schema": {"type": "integer"}}}


def add(description: dict[str, Any]) -> None:
    """Add to an OpenAPI document what each operation needs."""
    description["components"]["securitySchemes"] = SCHEMES
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            scope = needed(method.upper(), path)
            operation["security"] = [] if scope is None else [{"token": [scope]}, {"session": [scope]}]
            if scope is not None:
                _add_refusals(operation["responses"], scope)


def _add_refusals(responses: dict[str, Any], scope: Any) -> None:
    client = Client("grafana", "read")
    narrow = f"The token's scope does not include `{scope}`."
    known = responses.get("403", {}).get("description", "")
    responses["401"] = _response(401, "There is no valid token.", refusals.MISSING, CHALLENGE)
    detail = f"the token {client.name} has the scope {client.scope}; this needs {scope}"
    if narrow not in known:
        responses["403"] = _response(403, f"{narrow} {known}".strip(), detail, CHALLENGE)
    limit = "Too many requests a second, or too many open cities, for this token; nothing was changed."
    responses["429"] = _response(429, limit, f"the token {client.name} may send 5 requests a second", RETRY)
    away = "the database cannot be used now: no answer in time; try again"
    responses.setdefault("503", _response(503, "The database cannot be used now. Try again.", away, RETRY))


def _response(status: int, description: str, detail: str, headers: dict[str, Any]) -> dict[str, Any]:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": about(status, detail)}}
    return {"description": description, "headers": headers, "content": content}
