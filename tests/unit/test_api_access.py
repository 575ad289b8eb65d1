"""Access to the API: every route is closed, scopes, expiry and revocation, signing in, limits, and what is logged."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from producer.access.admission import Admission, admission
from producer.access.refusals import MALFORMED, MISSING
from producer.access.rules import OPEN, OPEN_BELOW
from producer.api.application import create_api
from raingauge.access import stored, tokens
from raingauge.blocking import inline
from raingauge.database import Database
from raingauge.database.transactions import Transactions
from raingauge.settings import Settings
from tests.api_support import NOON, Front, assert_problem, client

TOKENS: Final[dict[str, str]] = {scope: tokens.new_token() for scope in ("read", "write", "admin")}


class Guarded(Front):
    """The front, with a token of each scope in the database."""

    def __init__(self, database: Database, **sections: Any) -> None:
        super().__init__(database, settings=Settings.model_validate(sections))
        for scope in ("read", "write", "admin"):
            self.add(scope, TOKENS[scope], scope)
        self.admitted = self.admission()
        self.http = client(self.settings, self.collections, self.relay, self.admitted)

    def admission(self) -> Admission:
        transactions = Transactions(self.database, inline, self.clock)
        return admission(transactions, self.settings, {})

    def add(self, name: str, token: str, scope: tokens.Scope, **more: Any) -> None:
        expires_at = more.get("expires_at")
        self.database.write(lambda c: stored.add(c, NOON, name, tokens.digest(token), scope, expires_at))

    async def send(self, method: str, path: str, token: str | None = None, **more: Any) -> httpx2.Response:
        headers = {} if token is None else bearer(token)
        return await self.http.request(method, path, headers=headers, **more)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def front(sqlite: Database) -> Guarded:
    return Guarded(sqlite)


# -- what is closed ----------------------------------------------------------------------------------------------------


def routes(api: FastAPI) -> Iterator[tuple[str, str]]:
    """The methods and paths of all routes and mounts, with something in the place of parameters."""
    for each in iter_route_contexts(api.routes):
        path = "/" + "/".join("1" if part.startswith("{") else part for part in (each.path or "").split("/") if part)
        for method in each.methods or ["GET"]:
            yield method, path


async def test_every_route_is_closed_but_those_that_are_open_by_name(front: Guarded) -> None:
    api = create_api(front.settings, front.collections, front.relay)
    described = [(method.upper(), path) for path, each in api.openapi()["paths"].items() for method in each]
    found = {*routes(api)}
    assert found > {(method, path) for method, path in described if "{" not in path}
    assert len(found) > len(described) > 30
    for method, path in sorted(found):
        answer = await front.send(method, path)
        if (method, path) in OPEN or path.startswith(OPEN_BELOW):
            assert answer.status_code != 401 or path == "/session", (method, path)
        else:
            assert (answer.status_code, method, path) == (401, method, path)


@pytest.mark.parametrize("path", ["/nothing", "/static", "/get/", "/static/../get", "/session/", "/%2fget"])
async def test_other_spellings_of_a_path_open_nothing(front: Guarded, path: str) -> None:
    answer = await front.send("GET", path)
    assert answer.status_code in {401, 404}
    assert answer.status_code == 401 or path.startswith("/static/")


async def test_the_description_says_what_each_operation_needs(front: Guarded) -> None:
    api = create_api(front.settings, front.collections, front.relay)
    paths = api.openapi()["paths"]
    assert paths["/collect"]["post"]["security"] == [{"token": ["write"]}, {"session": ["write"]}]
    assert paths["/get"]["get"]["security"] == [{"token": ["read"]}, {"session": ["read"]}]
    assert paths["/health"]["get"]["security"] == []
    assert set(api.openapi()["components"]["securitySchemes"]) == {"token", "session"}


# -- scopes, expiry, revocation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/collections", {"read", "write", "admin"}),
        ("HEAD", "/collections", {"read", "write", "admin"}),
        ("GET", "/metrics", {"read", "write", "admin"}),
        ("POST", "/collections/7/cancel", {"write", "admin"}),
        ("DELETE", "/collections/7", {"admin"}),
        ("PUT", "/quota", {"admin"}),
    ],
)
async def test_a_scope_allows_what_it_includes(front: Guarded, method: str, path: str, allowed: set[str]) -> None:
    for scope, token in TOKENS.items():
        answer = await front.send(method, path, token)
        assert (answer.status_code != 403) == (scope in allowed), scope
        if answer.status_code == 403:
            needed = "write" if "write" in allowed else "admin"
            assert f'error="insufficient_scope", scope="{needed}"' in answer.headers["www-authenticate"]
            assert_problem(answer, 403, f"the token {scope} has the scope {scope}; this needs {needed}")


@pytest.mark.parametrize(
    ("headers", "detail", "code"),
    [
        ({}, MISSING, None),
        ({"Authorization": "Basic dXNlcjpwYXNz"}, MISSING, None),
        ({"Authorization": "Bearer"}, MALFORMED, "invalid_token"),
        ({"Authorization": "Bearer rg_x"}, MALFORMED, "invalid_token"),
        (bearer(TOKENS["read"][:-1] + "?"), MALFORMED, "invalid_token"),
        (bearer(tokens.new_token()), "there is no such token", "invalid_token"),
        ({"Cookie": f"raingauge_session={TOKENS['read']}"}, MISSING, None),
        ({"Cookie": f"raingauge_session={'0' * 64}"}, "there is no such token", "invalid_token"),
    ],
)
async def test_a_refusal_says_why_as_rfc_6750_has_it(
    front: Guarded, headers: Mapping[str, str], detail: str, code: str | None
) -> None:
    answer = await front.http.get("/collections", headers=headers)
    assert_problem(answer, 401, detail)
    challenge = answer.headers["www-authenticate"]
    assert challenge.startswith('Bearer realm="raingauge"')
    assert (f'error="{code}"' in challenge) if code else ("error" not in challenge)


async def test_a_token_ends_when_it_expires_even_while_its_verdict_is_kept(front: Guarded) -> None:
    token = tokens.new_token()
    front.add("short", token, "read", expires_at=NOON + timedelta(seconds=1))
    assert (await front.send("GET", "/collections", token)).status_code == 200
    front.clock.moment += timedelta(seconds=1)
    for _ in range(2):
        answer = await front.send("GET", "/collections", token)
        assert_problem(answer, 401, "the token short expired at 2026-11-20T12:00:01.000Z")
        front.clock.moment += timedelta(seconds=60)


async def test_a_revoked_token_works_for_five_seconds_at_most(front: Guarded) -> None:
    assert (await front.send("GET", "/collections", TOKENS["read"])).status_code == 200
    front.database.write(lambda c: stored.revoke(c, front.clock.moment, "read"))
    assert (await front.send("GET", "/collections", TOKENS["read"])).status_code == 200
    front.clock.moment += timedelta(seconds=5)
    answer = await front.send("GET", "/collections", TOKENS["read"])
    assert_problem(answer, 401, "the token read was revoked")


async def test_revoking_the_last_token_opens_nothing(front: Guarded) -> None:
    for scope in TOKENS:
        front.database.write(lambda c, name=scope: stored.revoke(c, NOON, name))  # type: ignore[misc]
    for http in (front.http, client(front.settings, front.collections, front.relay, front.admission())):
        assert_problem(await http.get("/collections"), 401, MISSING)


# -- signing in --------------------------------------------------------------------------------------------------------


async def test_the_page_signs_in_and_out_with_a_cookie_that_is_not_the_token(front: Guarded) -> None:
    answer = await front.send("POST", "/session", json={"token": TOKENS["write"]})
    assert (answer.status_code, answer.content) == (204, b"")
    cookie = answer.headers["set-cookie"]
    assert cookie.endswith("; Path=/; Max-Age=2592000; HttpOnly; SameSite=Strict")
    assert TOKENS["write"] not in cookie
    shown = {"Cookie": f"other=1; {cookie.partition(';')[0]}"}
    assert (await front.http.get("/session", headers=shown)).json() == {"name": "write", "scope": "write"}
    assert (await front.http.post("/collect", json={"id": 1}, headers=shown)).status_code == 202
    elsewhere = shown | {"Sec-Fetch-Site": "cross-site"}
    assert (await front.http.post("/collect", json={"id": 2}, headers=elsewhere)).status_code == 403
    out = await front.http.delete("/session", headers=shown)
    assert (out.status_code, "Max-Age=0" in out.headers["set-cookie"]) == (204, True)
    front.http.cookies.clear()
    assert_problem(await front.http.get("/session"), 401, MISSING)


@pytest.mark.parametrize(
    ("token", "detail"),
    [("rg_x", MALFORMED), (tokens.new_token(), "there is no such token"), ("é", MALFORMED)],
    ids=["mistyped", "unknown", "no token"],
)
async def test_a_wrong_token_signs_nobody_in(front: Guarded, token: str, detail: str) -> None:
    answer = await front.send("POST", "/session", json={"token": token})
    assert_problem(answer, 401, detail)
    assert "set-cookie" not in answer.headers


async def test_the_cookie_is_secure_behind_https_and_stays_below_the_path_of_the_proxy(sqlite: Database) -> None:
    front = Guarded(sqlite, http={"root_path": "/weather"})
    headers = {"X-Forwarded-Proto": "https"}
    answer = await front.http.post("/weather/session", json={"token": TOKENS["read"]}, headers=headers)
    assert "Path=/weather;" in answer.headers["set-cookie"]
    assert answer.headers["set-cookie"].endswith("; Secure")
    assert (await front.http.get("/weather/get?id=1")).status_code == 401


async def test_without_tokens_everybody_may_do_everything(sqlite: Database) -> None:
    front = Front(sqlite)
    assert (await front.http.get("/session")).json() == {"anonymous": True}
    assert (await front.collect()).status_code == 202
    assert (await front.http.post("/session", json={"token": tokens.new_token()})).status_code == 401
