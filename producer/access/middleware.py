"""Middleware that lets a request through if its token allows it, and logs each change that a client makes.

What a request needs is said in `rules`, so a new route is closed without doing anything for it.
"""

import logging
from collections.abc import Awaitable
from typing import Final

from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producer.access import refusals
from producer.access.admission import Admission
from producer.access.clients import Sender, current
from producer.access.credentials import credential
from producer.access.rules import READS, needed
from raingauge.access import tokens
from raingauge.errors import DatabaseUnavailable

log = logging.getLogger("raingauge.access")
audit: Final = logging.getLogger("raingauge.audit")


class Access:
    """Lets requests through. `Entrance` comes before it: paths begin with `prefix` and end without a slash."""

    def __init__(self, app: ASGIApp, admission: Admission, prefix: str) -> None:
        self._app = app
        self._admission = admission
        self._monotonic = admission.clock.monotonic
        self._skipped = len(prefix)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._admission.is_open:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            scope_needed = needed(scope["method"], scope["path"][self._skipped :] or "/")
            if scope_needed is None:
                await self._app(scope, receive, send)
            else:
                await self._checked(scope, receive, send, scope_needed)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._app(scope, receive, send)

    async def _checked(self, scope: Scope, receive: Receive, send: Send, scope_needed: tokens.Scope) -> None:
        try:
            found = await self._sender(scope)
        except DatabaseUnavailable as error:
            log.warning("database.unavailable", extra={"error": str(error)})
            await refusals.unknown_now(error)(scope, receive, send)
            return
        if found is None:  # it was found out just now that no token exists
            await self._app(scope, receive, send)
            return
        refusal = found if isinstance(found, JSONResponse) else self._refusal(found, scope_needed)
        if refusal is not None:
            await refusal(scope, receive, send)
        elif isinstance(found, Sender):
            await self._as(found, scope, receive, send)

    async def _sender(self, scope: Scope) -> Sender | JSONResponse | None:
        """Who sends the request, or why nobody; None: tokens are not needed."""
        if self._admission.is_open is None:
            await self._admission.check()
            if self._admission.is_open:
                return None
        presented = credential(scope)
        if presented is None:
            return refusals.without_token()
        verdict = self._admission.verification.at_hand(presented.digest)
        if verdict is None:
            if not presented.is_well_formed:
                return refusals.invalid_token(refusals.MALFORMED)
            verdict = await self._admission.verification.look_up(presented.digest)
        if verdict.client is None:
            return refusals.invalid_token(verdict.reason)
        return Sender(verdict.client, presented.digest)

    def _refusal(self, sender: Sender, scope_needed: tokens.Scope) -> JSONResponse | None:
        client = sender.client
        if client.bucket is not None and (seconds := client.bucket.take(self._monotonic())):
            return refusals.too_many_requests(client, client.bucket.rate, seconds)
        if not tokens.includes(client.scope, scope_needed):
            return refusals.insufficient_scope(client, scope_needed)
        return None

    async def _as(self, sender: Sender, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request as its sender's."""
        before = current.set(sender)
        try:
            if scope["method"] in READS:
                await self._app(scope, receive, send)
            else:
                await self._audited(sender, scope, receive, send)
        finally:
            current.reset(before)

    async def _audited(self, sender: Sender, scope: Scope, receive: Receive, send: Send) -> None:
        status = 500

        def send_and_note_status(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            return send(message)

        try:
            await self._app(scope, receive, send_and_note_status)
        finally:
            if status < 400 or status >= 500:  # what was answered 5xx, or failed, may be committed
                record(sender, scope, status)


def record(sender: Sender, scope: Scope, status: int) -> None:
    """Log that a client changed something: who, by which route, what, with which outcome."""
    subject = sender.subject or next(map(str, scope.get("path_params", {}).values()), None)
    fields = {
        "token": sender.client.name,
        "method": scope["method"],
        "route": getattr(scope.get("route"), "path", None),
        "subject": subject,
        "status": status,
    }
    audit.info("audit", extra=fields)
