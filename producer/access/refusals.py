"""Refusals of requests: no token, a wrong one, a scope that is not enough, too many requests. Problems, as all errors.

https://datatracker.ietf.org/doc/html/rfc6750#section-3
"""

from typing import Final

from fastapi.responses import JSONResponse

from producer.access.clients import Client
from raingauge.access.tokens import Scope
from raingauge.errors import DatabaseUnavailable
from raingauge.web import problem

REALM: Final = 'Bearer realm="raingauge"'
MISSING: Final = "this needs a token: send it as `Authorization: Bearer rg_…`, or sign in on the page"
MALFORMED: Final = "the token is mistyped or cut off: it has the wrong form or checksum"
RETRY_AFTER_S: Final = 2


def without_token() -> JSONResponse:
    """401: the request shows nothing."""
    return problem(401, MISSING, headers={"WWW-Authenticate": REALM})


def invalid_token(reason: str) -> JSONResponse:
    """401: what it shows is no valid token."""
    challenge = f'{REALM}, error="invalid_token", error_description="{reason}"'
    return problem(401, reason, headers={"WWW-Authenticate": challenge})


def insufficient_scope(client: Client, needed: Scope) -> JSONResponse:
    """403: the token's scope is not enough."""
    challenge = f'{REALM}, error="insufficient_scope", scope="{needed}"'
    detail = f"the token {client.name} has the scope {client.scope}; this needs {needed}"
    return problem(403, detail, headers={"WWW-Authenticate": challenge})


def too_many_requests(client: Client, rate: float, retry_after_s: int) -> JSONResponse:
    """429: more requests a second than the client may send."""
    detail = f"the token {client.name} may send {rate:g} requests a second to this producer"
    return problem(429, detail, headers={"Retry-After": str(retry_after_s)})


def unknown_now(error: DatabaseUnavailable) -> JSONResponse:
    """503: the database is away, and nothing is known of the token."""
    detail = f"the database cannot be used now: {error.shown}; the token cannot be verified, try again"
    return problem(503, detail, headers={"Retry-After": str(RETRY_AFTER_S)})
