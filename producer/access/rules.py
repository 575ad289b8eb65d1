"""What a request needs: the one table of it, for the middleware and for OpenAPI.

Every route needs a token unless it is listed as open here, so a new one does. GET needs the scope `read`, DELETE needs
`admin`, all else `write`; exceptions are listed here. Paths are those of the routes, without `http.root_path`.
"""

from typing import Final

from raingauge.access.tokens import Scope

OPEN: Final = frozenset(
    {
        ("GET", "/"),  # the page, which is static, and signs in
        ("GET", "/health"),
        ("GET", "/ready"),
        ("POST", "/session"),
        ("DELETE", "/session"),
    }
)
"""What needs no token."""
OPEN_BELOW: Final = "/static/"
"""The page's files."""
ADMIN_BELOW: Final = ("/quota", "/schedules", "/webhooks")
"""Changes that concern all clients, or that spend quota repeatedly."""
READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def needed(method: str, path: str) -> Scope | None:
    """The scope that a request needs, or None if it needs no token."""
    if method in READS:
        is_open = ("GET", path) in OPEN or path.startswith(OPEN_BELOW)
        return None if is_open else "read"
    if (method, path) in OPEN:
        return None
    return "admin" if method == "DELETE" or path.startswith(ADMIN_BELOW) else "write"
