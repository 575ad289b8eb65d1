"""What a request carries to show who sends it: a token in `Authorization`, or the page's cookie.

A script of the page cannot read the cookie (HttpOnly), and browsers do not attach it to requests from other sites
(SameSite). It contains a session derived from the token: https://datatracker.ietf.org/doc/html/rfc6265, RFC 6750.
"""

from typing import Final, NamedTuple

from starlette.types import Scope

from raingauge.access.tokens import SESSION, digest, digest_of_session, is_token

COOKIE: Final = "raingauge_session"
COOKIE_AGE_S: Final = 30 * 86_400
BEARER: Final = "bearer"


class Credential(NamedTuple):
    """What a request shows."""

    digest: str
    token: str | None
    """None: it comes from the cookie, whose form was checked."""

    @property
    def is_well_formed(self) -> bool:
        """Whether there can be such a token: otherwise the database is not worth asking."""
        return self.token is None or is_token(self.token)


def credential(scope: Scope) -> Credential | None:
    """The request's token, else its cookie, else None."""
    cookies = None
    for name, value in scope["headers"]:
        if name == b"authorization":
            kind, _, token = value.decode("latin-1").partition(" ")
            if kind.lower() == BEARER:
                return Credential(digest(token.strip()), token.strip())
        elif name == b"cookie":
            cookies = value
    session = None if cookies is None else _session(cookies.decode("latin-1"))
    return None if session is None else Credential(digest_of_session(session), None)


def _session(cookies: str) -> str | None:
    if COOKIE not in cookies:
        return None
    for each in cookies.split(";"):
        name, _, value = each.strip().partition("=")
        if name == COOKIE and SESSION.fullmatch(value):
            return value
    return None


def set_cookie(session: str, scope: Scope) -> str:
    """The value of `Set-Cookie` that signs the page in, or out if `session` is empty."""
    parts = [f"{COOKIE}={session}", f"Path={scope['root_path'] or '/'}", f"Max-Age={COOKIE_AGE_S if session else 0}"]
    parts += ["HttpOnly", "SameSite=Strict"]
    forwarded = dict(scope["headers"]).get(b"x-forwarded-proto", b"")
    if scope["scheme"] == "https" or forwarded.split(b",")[0].strip().lower() == b"https":
        parts.append("Secure")
    return "; ".join(parts)
