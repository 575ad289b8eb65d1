"""Middleware that refuses requests under the name of another host, and adds the headers that every answer has.

A page of another site whose name suddenly leads to this machine (DNS rebinding) would otherwise count as our own. It
knows neither routes nor tokens.
"""

from collections.abc import Awaitable, Sequence
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from raingauge.settings import HttpSettings
from raingauge.web import UNEXPECTED, problem, shown

ANY: Final = "*"
OF_LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")
HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""https://owasp.org/www-project-secure-headers/"""
MAX_KNOWN: Final = 1000


class Hosts:
    """Refuses other hosts than these (421, RFC 9110, 15.5.20); `*` allows any."""

    def __init__(self, app: ASGIApp, allowed: Sequence[str]) -> None:
        self._app = app
        self._allowed = frozenset(host.lower() for host in allowed)
        self._any = ANY in self._allowed
        self._known: set[bytes] = set()
        """Values of the header `Host` that were found to be allowed."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        has_begun = False

        def send_with_headers(message: Message) -> Awaitable[None]:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            return send(message)

        if self._any or (host := _host(scope)) in self._known or self._is_allowed(host):
            try:
                await self._app(scope, receive, send_with_headers)
            except Exception:
                if not has_begun:  # Starlette would answer outside of all middleware
                    await problem(500, UNEXPECTED)(scope, receive, send_with_headers)
                raise  # for the log
            return
        name = shown(host.decode("latin-1"))
        detail = (
            f"this service is not {name or 'without a name'}; http.allowed_hosts lists the hosts that it answers to"
        )
        await problem(421, detail)(scope, receive, send_with_headers)

    def _is_allowed(self, host: bytes) -> bool:
        if _without_port(host.decode("latin-1").lower()) not in self._allowed:
            return False
        if len(self._known) < MAX_KNOWN:
            self._known.add(host)
        return True


def _host(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"host":
            host: bytes = value
            return host
    return b""


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() and (":" not in name or name.endswith("]")) else host


def allowed_hosts(http: HttpSettings) -> Sequence[str]:
    """The hosts that the settings allow; see `http.allowed_hosts`."""
    if http.allowed_hosts:
        return http.allowed_hosts
    return (*OF_LOOPBACK, f"[{http.host}]" if ":" in http.host else http.host) if http.is_loopback else (ANY,)
