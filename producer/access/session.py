"""`/session`: signing in on the page with a token, and out. The token is sent once; then a cookie holds its session."""

import logging
from typing import Any, ClassVar, Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from producer.access import refusals
from producer.access.clients import client
from producer.access.credentials import set_cookie
from producer.api.parts import AdmissionDep
from producer.api.problems import ELSEWHERE, UNAVAILABLE, WORDS, responses
from producer.api.requests import StrictRoute
from raingauge.access.tokens import Scope, digest, is_token, session_of
from raingauge.web import UNEXPECTED

router = APIRouter(tags=["session"], route_class=StrictRoute)

audit: Final = logging.getLogger("raingauge.audit")

EXAMPLE: Final = "rg_…"
COOKIE: Final[dict[str, Any]] = {
    "headers": {"Set-Cookie": {"description": "The session, HttpOnly.", "schema": {"type": "string"}}}
}


class SignIn(BaseModel):
    """Who signs in."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    token: str = Field(description="A token, as it was shown when it was made.", max_length=200, examples=[EXAMPLE])


class SessionBody(BaseModel):
    """Who is signed in."""

    name: str | None = Field(None, description="The name of the token.", examples=["grafana"])
    scope: Scope | None = Field(None, description="What it may do; each includes those before it.", examples=["read"])
    anonymous: bool | None = Field(
        None, description="true: there are no tokens, and everybody may do everything.", examples=[True]
    )


@router.post(
    "/session",
    operation_id="sign_in",
    summary="Sign in with a token",
    status_code=204,
    response_class=Response,
    response_description="Signed in: the cookie is sent with all further requests.",
    responses={
        204: COOKIE,
        **responses(
            s401=refusals.MALFORMED,
            s403=ELSEWHERE,
            s413="the body is longer than 4004096 bytes",
            s422=f"token: {WORDS['missing']}",
            s500=UNEXPECTED,
            s503=UNAVAILABLE,
        ),
    },
)
async def sign_in(request: Request, admission: AdmissionDep, body: SignIn) -> Response:
    """Takes a token and sets a cookie that stands for it, until it is revoked or expires; at most for 30 days.

    Scripts cannot read the cookie, and the token cannot be computed from it.
    """
    if not is_token(body.token):
        return refusals.invalid_token(refusals.MALFORMED)
    verdict = await admission.verdict(digest(body.token))
    if verdict.client is None:
        return refusals.invalid_token(verdict.reason)
    audit.info(
        "audit",
        extra={"token": verdict.client.name, "method": "POST", "route": "/session", "subject": None, "status": 204},
    )
    return Response(status_code=204, headers={"Set-Cookie": set_cookie(session_of(body.token), request.scope)})


@router.delete(
    "/session",
    operation_id="sign_out",
    summary="Sign out",
    status_code=204,
    response_class=Response,
    response_description="Signed out.",
    responses={204: COOKIE, **responses(s403=ELSEWHERE, s422=f"at: {WORDS['extra_forbidden']}", s500=UNEXPECTED)},
)
async def sign_out(request: Request) -> Response:
    """Removes the cookie. The token stays valid."""
    return Response(status_code=204, headers={"Set-Cookie": set_cookie("", request.scope)})


@router.get(
    "/session",
    operation_id="session",
    summary="Who is signed in",
    response_model_exclude_none=True,
    response_description="The token of this request, or that none is needed.",
    responses=responses(s422=f"at: {WORDS['extra_forbidden']}", s500=UNEXPECTED),
)
async def session() -> SessionBody:
    """Answers the name and the scope of the token, or `{"anonymous": true}` where no token exists."""
    sender = client()
    return SessionBody(anonymous=True) if sender is None else SessionBody(name=sender.name, scope=sender.scope)
