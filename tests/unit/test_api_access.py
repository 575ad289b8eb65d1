"""Access to the API: every route is closed, scopes, expiry and revocation, signing in, limits, and what is logged."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from sqlalchemy import delete

from producer.access.admission import Admission, admission
from producer.access.clients import Sender, current
from producer.access.hosts import HEADERS
from producer.access.refusals import MALFORMED, MISSING
from producer.access.rules import OPEN, OPEN_BELOW
from producer.single_flight import LOADS_AT_ONCE
from raingauge.access import stored, tokens
from raingauge.blocking import inline
from raingauge.clock import SystemClock
from raingauge.database import Database
from raingauge.database.transactions import Transactions
from raingauge.errors import DatabaseUnavailable, SettingsError
from raingauge.model import CollectionRequest
from raingauge.settings import HttpSettings, Settings, TokenSettings
from raingauge.storage.models import Token
from tests.api_support import NOON, Front, api, assert_problem, client, observation

TOKENS: Final[dict[str, str]] = {scope: tokens.new_token() for scope in ("read", "write", "admin")}


class Guarded(Front):
    """The front, with a token of each scope in the database; `fixed`: those of the settings."""

    def __init__(self, database: Database, fixed: Mapping[str, TokenSettings] | None = None, **sections: Any) -> None:
        super().__init__(database, settings=Settings.model_validate(sections))
        self.is_away = False
        self.hangs: asyncio.Event | None = None
        """Transactions that begin meanwhile wait for it."""
        self.hanging = 0
        for scope in ("read", "write", "admin"):
            self.add(scope, TOKENS[scope], scope)
        self.admitted = self.admission(fixed)
        self.http = client(self.settings, self.collections, self.relay, self.admitted)

    async def run_database(self, work: Callable[[], Any]) -> Any:
        if self.is_away:
            raise DatabaseUnavailable("no answer")
        if self.hangs is not None:
            self.hanging += 1
            await self.hangs.wait()
        return work()

    def admission(self, fixed: Mapping[str, TokenSettings] | None = None) -> Admission:
        transactions = Transactions(self.database, self.run_database, self.clock)
        digests = {tokens.digest(token): settings for token, settings in (fixed or {}).items()}
        return admission(transactions, self.settings, digests)

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
    open_api = api(front.settings, front.collections, front.relay)
    described = [(method.upper(), path) for path, each in open_api.openapi()["paths"].items() for method in each]
    found = {*routes(open_api)}
    assert found > {(method, path) for method, path in described if "{" not in path}
    assert len(found) > len(described) > 30
    for method, path in sorted(found):
        answer = await front.send(method, path)
        if (method, path) in OPEN or path.startswith(OPEN_BELOW):
            assert answer.status_code != 401 or path == "/session", (method, path)
        else:
            assert (answer.status_code, method, path) == (401, method, path)


async def test_other_spellings_of_a_path_open_nothing(front: Guarded) -> None:
    for path in ("/nothing", "/static", "/get/", "/static/../get", "/session/", "/%2fget"):
        answer = await front.send("GET", path)
        assert answer.status_code == 401 or (answer.status_code == 404 and path.startswith("/static/"))


async def test_the_description_says_what_each_operation_needs(front: Guarded) -> None:
    description = api(front.settings, front.collections, front.relay).openapi()
    paths = description["paths"]
    assert paths["/collect"]["post"]["security"] == [{"token": ["write"]}, {"session": ["write"]}]
    assert paths["/get"]["get"]["security"] == [{"token": ["read"]}, {"session": ["read"]}]
    assert paths["/health"]["get"]["security"] == []
    assert set(description["components"]["securitySchemes"]) == {"token", "session"}


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


REFUSED: Final[dict[str, list[dict[str, str]]]] = {
    MISSING: [{}, {"Authorization": "Basic dXNlcjpwYXNz"}, {"Cookie": f"raingauge_session={TOKENS['read']}"}],
    MALFORMED: [*({"Authorization": f"Bearer{rest}"} for rest in ("", " rg_x")), bearer(TOKENS["read"][:-1] + "?")],
    "there is no such token": [bearer(tokens.new_token()), {"Cookie": f"raingauge_session={'0' * 64}"}],
}


@pytest.mark.parametrize("detail", REFUSED, ids=["missing", "malformed", "unknown"])
async def test_a_refusal_says_why_as_rfc_6750_has_it(front: Guarded, detail: str) -> None:
    for headers in REFUSED[detail]:
        answer = await front.http.get("/collections", headers=headers)
        assert_problem(answer, 401, detail)
        challenge = answer.headers["www-authenticate"]
        assert challenge.startswith('Bearer realm="raingauge"')
        assert "error" not in challenge if detail == MISSING else 'error="invalid_token"' in challenge


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


async def test_while_the_database_is_away_tokens_in_use_go_on_and_others_get_503(front: Guarded) -> None:
    assert (await front.send("GET", "/collections", TOKENS["read"])).status_code == 200
    front.is_away = True
    for passed_s in (3, 5, 60, 800):
        front.clock.moment = NOON + timedelta(seconds=passed_s)
        assert (await front.send("GET", "/collections", TOKENS["read"])).status_code == 200
        unknown = await front.send("GET", "/collections", TOKENS["admin"])
        assert (unknown.status_code, unknown.headers["retry-after"]) == (503, "2")
    front.clock.moment = NOON + timedelta(seconds=901)
    assert (await front.send("GET", "/collections", TOKENS["read"])).status_code == 503
    front.is_away = False
    assert (await front.send("GET", "/collections", TOKENS["read"])).status_code == 200


async def test_a_busy_client_never_waits_for_the_database(front: Guarded) -> None:
    """Its verdict is renewed in the background before it is too old."""
    await front.send("GET", "/collections", TOKENS["read"])
    for _ in range(5):
        front.clock.moment += timedelta(seconds=3)
        assert front.admitted.verification.at_hand(tokens.digest(TOKENS["read"])) is not None
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))


async def test_invented_tokens_push_no_valid_one_out(front: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producer.access.verification.MAX_KEPT", 2)
    assert (await front.send("GET", "/collections", TOKENS["read"])).status_code == 200
    for _ in range(3):
        assert (await front.send("GET", "/collections", tokens.new_token())).status_code == 401
    front.is_away = True
    assert (await front.send("GET", "/collections", TOKENS["read"])).status_code == 200


async def test_a_valid_token_is_renewed_while_transactions_for_invented_ones_hang(front: Guarded) -> None:
    await front.send("GET", "/collections", TOKENS["read"])
    front.database.write(lambda c: stored.revoke(c, NOON, "read"))
    front.clock.moment += timedelta(seconds=5)
    front.hangs = let_go = asyncio.Event()
    invented = []
    for number in range(1, LOADS_AT_ONCE + 1):
        invented.append(asyncio.create_task(front.send("GET", "/collections", tokens.new_token())))
        while front.hanging < number:
            await front.clock.sleep(0)
    front.hangs = None
    answer = await front.send("GET", "/collections", TOKENS["read"])
    assert_problem(answer, 401, "the token read was revoked")
    let_go.set()
    await asyncio.wait(invented)


async def test_the_first_token_closes_what_was_open_and_streams_that_are(sqlite: Database) -> None:
    front = Guarded(sqlite)
    front.database.write(lambda c: c.execute(delete(Token)))
    admitted = front.admission()
    front.http = client(front.settings, front.collections, front.relay, admitted)
    assert (await front.http.get("/collections")).status_code == 200
    assert await admitted.still_admits()
    front.add("first", TOKENS["read"], "read")
    assert (await front.http.get("/collections")).status_code == 200
    await admitted.check()  # as it does every few seconds
    assert (await front.http.get("/collections")).status_code == 401
    assert not await admitted.still_admits()


async def test_a_stream_ends_when_its_token_is_revoked(front: Guarded) -> None:
    verdict = await front.admitted.verdict(tokens.digest(TOKENS["read"]))
    assert verdict.client is not None
    before = current.set(Sender(verdict.client, tokens.digest(TOKENS["read"])))
    live = [await front.admitted.still_admits()]
    front.database.write(lambda c: stored.revoke(c, NOON, "read"))
    front.clock.moment += timedelta(seconds=5)
    live.append(await front.admitted.still_admits())
    current.reset(before)
    assert live == [True, False]


async def test_without_a_token_it_serves_this_machine_only(sqlite: Database) -> None:
    def admitted(**http: Any) -> Admission:
        transactions = Transactions(sqlite, inline, SystemClock())
        return admission(transactions, Settings.model_validate({"http": http}), {})

    own = [admitted(host=host) for host in ("127.0.0.2", "::1", "localhost")]
    for each in [*own, admitted(host="0.0.0.0", allow_anonymous=True)]:
        await each.check()
        assert each.is_open
    for host in ("0.0.0.0", "weather.example.org", "::"):
        beyond = admitted(host=host)
        with pytest.raises(SettingsError, match=r"^http\.host: .* token add .* 127\.0\.0\.1, .*allow_anonymous"):
            await beyond.check()
        assert beyond.is_open is None


async def test_the_last_use_is_stored_at_most_once_a_minute_and_not_by_the_request(front: Guarded) -> None:
    def last_used() -> datetime | None:
        (token,) = [each for each in front.database.read(stored.list_all) if each.name == "read"]
        return token.last_used_at

    for passed_s, expected in ((0, NOON), (30, NOON), (61, NOON + timedelta(seconds=61))):
        front.clock.moment = NOON + timedelta(seconds=passed_s)
        before = last_used()
        await front.send("GET", "/collections", TOKENS["read"])
        assert last_used() == before
        await front.admitted.verification.store_uses()
        assert last_used() == expected


async def test_revoking_the_last_token_opens_nothing(front: Guarded) -> None:
    for scope in TOKENS:
        front.database.write(lambda c, name=scope: stored.revoke(c, NOON, name))  # type: ignore[misc]
    for http in (front.http, client(front.settings, front.collections, front.relay, front.admission())):
        assert_problem(await http.get("/collections"), 401, MISSING)


async def test_removing_the_last_token_of_settings_opens_nothing(
    sqlite: Database, caplog: pytest.LogCaptureFixture
) -> None:
    transactions, settings = Transactions(sqlite, inline, SystemClock()), Settings()
    of_settings = {tokens.digest(token): each for token, each in fixed().items()}
    opened = [True, False, False]
    for digests, is_open in zip(({}, of_settings, {}), opened, strict=True):
        admitted = admission(transactions, settings, digests)
        await admitted.wait_until_known()
        assert admitted.is_open is is_open
    assert [record.message for record in caplog.records] == ["access.nobody"]
    token = tokens.new_token()
    sqlite.write(lambda c: stored.add(c, NOON, "new", tokens.digest(token), "read", None))
    caplog.clear()
    await admission(transactions, settings, {}).wait_until_known()
    assert caplog.records == []


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


async def test_a_wrong_token_signs_nobody_in(front: Guarded) -> None:
    wrong = {"rg_x": MALFORMED, "é": MALFORMED, tokens.new_token(): "there is no such token"}
    for token, detail in wrong.items():
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


# -- tokens of the settings, limits, audit -----------------------------------------------------------------------------

FIXED: Final = tokens.new_token()


def fixed(**more: Any) -> dict[str, TokenSettings]:
    return {FIXED: TokenSettings.model_validate({"name": "ci", "scope": "write", "token_file": "file"} | more)}


async def test_a_token_of_the_settings_works_without_the_database_until_it_expires(sqlite: Database) -> None:
    soon = SystemClock().now() + timedelta(hours=1)
    front = Guarded(sqlite, fixed(expires=soon))
    front.is_away = True
    assert (await front.send("GET", "/session", FIXED)).json() == {"name": "ci", "scope": "write"}
    front.clock.moment += timedelta(hours=1)
    assert (await front.send("GET", "/session", FIXED)).status_code == 401


async def test_requests_a_second_are_limited_for_each_client_alone(sqlite: Database) -> None:
    front = Guarded(sqlite, fixed(limits={"requests_per_s": 0.5}), limits={"requests_per_s": 2})
    statuses = [(await front.send("GET", "/session", TOKENS["read"])).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert (await front.send("GET", "/session", TOKENS["write"])).status_code == 200
    assert (await front.send("GET", "/session", FIXED)).status_code == 200
    late = await front.send("GET", "/session", FIXED)
    assert_problem(late, 429, "the token ci may send 0.5 requests a second to this producer")
    assert late.headers["retry-after"] == "2"
    front.clock.moment += timedelta(seconds=2)
    assert (await front.send("GET", "/session", FIXED)).status_code == 200


async def test_limits_of_an_entry_replace_only_what_they_name(sqlite: Database) -> None:
    front = Guarded(sqlite, fixed(limits={"requests_per_s": 2}), limits={"requests_per_s": 1, "cities_open": 3})
    late = await front.send("POST", "/collect", FIXED, json={"id": 1, "cities": [1, 2, 3, 4]})
    assert_problem(late, 422, "the token ci may have 3 cities open; it has 0, and this collection has 4")
    statuses = [(await front.send("GET", "/session", FIXED)).status_code for _ in range(2)]
    assert statuses == [200, 429]


async def test_open_cities_are_limited_and_settled_ones_free_their_place(sqlite: Database) -> None:
    front = Guarded(sqlite, limits={"cities_open": 3})
    front.open_gate()
    front.beat()
    post = partial(front.send, "POST", "/collect")
    assert (await post(TOKENS["write"], json={"id": 1, "cities": [1, 2]})).status_code == 202
    late = await post(TOKENS["write"], json={"id": 2, "cities": [3, 4]})
    assert_problem(late, 429, "the token write may have 3 cities open; it has 2, and this collection has 2")
    assert 1 <= int(late.headers["retry-after"]) <= 60
    assert (await post(TOKENS["write"], json={"id": 1, "cities": [1, 2]})).status_code == 200
    assert (await post(TOKENS["admin"], json={"id": 3, "cities": [3, 4]})).status_code == 202
    never = await post(TOKENS["write"], json={"id": 4, "cities": [1, 2, 3, 4]})
    assert_problem(never, 422, "the token write may have 3 cities open; it has 2, and this collection has 4")
    front.settle("1", [observation(1)])
    assert (await post(TOKENS["write"], json={"id": 2, "cities": [3, 4]})).status_code == 202
    compat = await front.send("POST", "/compat/weather/weather", TOKENS["write"], json={"user_id": 9})
    assert compat.status_code == 422


async def test_equal_posts_at_once_do_not_pass_the_limit_together(sqlite: Database) -> None:
    front = Guarded(sqlite, limits={"cities_open": 2})
    post = partial(front.send, "POST", "/collect", TOKENS["write"])
    large, small = {"id": 1, "cities": [1, 2, 3]}, {"id": 1, "cities": [1, 2]}
    both = await asyncio.gather(post(json=large), post(json=large))
    assert ([answer.status_code for answer in both], front.rows()) == ([422, 422], (0, 0, 0))
    mixed = await asyncio.gather(*(post(json=body) for body in (large, small, small, large)))
    assert [answer.status_code for answer in mixed] == [422, 202, 200, 409]


async def test_a_dry_run_is_held_to_the_limit_of_open_cities_as_the_real_post(sqlite: Database) -> None:
    front = Guarded(sqlite, limits={"cities_open": 2})
    post = partial(front.send, "POST", token=TOKENS["write"])
    await post("/collect", json={"id": 1, "cities": [1]})
    for cities, status in (([1], 200), ([2, 3], 429), ([1, 2, 3, 4, 5], 422)):
        foreseen = await post("/collect?dry_run=true", json={"id": 2, "cities": cities})
        assert foreseen.status_code == status
        if status != 200:
            real = await post("/collect", json={"id": 2, "cities": cities})
            assert (foreseen.json(), foreseen.headers["retry-after"] if status == 429 else "60") == (real.json(), "60")
    known = await post("/collect?dry_run=true", json={"id": 1, "cities": [1]})
    assert (known.status_code, front.rows()[0]) == (200, 1)


async def test_a_list_says_who_requested_a_collection_and_get_stays_as_it_was(front: Guarded) -> None:
    assert (await front.send("POST", "/collect", TOKENS["write"], json={"id": 1, "cities": [1]})).status_code == 202
    await front.collections.accept(CollectionRequest("2", (1,), 600, named=True))
    listed = (await front.send("GET", "/collections", TOKENS["read"])).json()["collections"]
    assert {each["id"]: each.get("requested_by", "nobody") for each in listed} == {"1": "write", "2": "nobody"}
    assert "requested_by" not in (await front.send("GET", "/get?id=1", TOKENS["read"])).json()


async def test_each_change_by_a_token_is_one_line_of_the_audit(
    front: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "raingauge.audit")
    token = TOKENS["write"]
    await front.send("POST", "/session", json={"token": token})
    await front.send("POST", "/collect", token, json={"id": 1, "cities": [1]})
    await front.send("POST", "/collections/1/cancel", token)
    event = await front.send("POST", "/events", token, json={"user_id": "u", "description": "d"})
    for method, path in (("POST", "/collections/none/cancel"), ("GET", "/get?id=1"), ("DELETE", "/collections/1")):
        await front.send(method, path, token)
    lines = [record for record in caplog.records if record.name == "raingauge.audit"]
    names = ("token", "method", "route", "subject", "status")
    assert [tuple(vars(line)[name] for name in names) for line in lines] == [
        ("write", "POST", "/session", None, 204),
        ("write", "POST", "/collect", "1", 202),
        ("write", "POST", "/collections/{id}/cancel", "1", 200),
        ("write", "POST", "/events", event.json()["event_id"], 201),
    ]
    assert token not in caplog.text + str([vars(line) for line in caplog.records])


async def test_an_unexpected_error_after_the_commit_is_audited_and_answered_with_the_headers_of_security(
    front: Guarded, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "raingauge.audit")

    def fail() -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(front.relay, "wake", fail)
    answer = await front.send("POST", "/collect", TOKENS["write"], json={"id": 1, "cities": [1]})
    assert_problem(answer, 500, "an unexpected error; it is in the log")
    for name, value in HEADERS:
        assert answer.headers.get_list(name.decode()) == [value.decode()]
    lines = [vars(record) for record in caplog.records if record.name == "raingauge.audit"]
    assert [(line["token"], line["subject"], line["status"]) for line in lines] == [("write", "1", 500)]
    assert front.rows()[0] == 1


# -- hosts and headers -------------------------------------------------------------------------------------------------


LOOPBACK: Final = ("localhost:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST")
FOREIGN: Final = ("rebound.example.org", "localhost.example.org:8000", "")


@pytest.mark.parametrize(
    ("http", "statuses"),
    [
        ({}, dict.fromkeys(LOOPBACK, 200) | dict.fromkeys(FOREIGN, 421)),
        ({"host": "127.0.0.9"}, {"127.0.0.9:8000": 200}),
        ({"allowed_hosts": ["weather.example.org"]}, {"weather.example.org": 200, "localhost": 421}),
        ({"host": "0.0.0.0", "allow_anonymous": True}, {"whatever.example.org": 200}),
    ],
    ids=["by default", "on another address", "by name", "to all"],
)
async def test_only_its_own_hosts_are_answered(sqlite: Database, http: Any, statuses: dict[str, int]) -> None:
    front = Front(sqlite, settings=Settings.model_validate({"http": http}))
    for host in [*statuses] * 2:
        answer = await front.http.get("/health", headers={"Host": host})
        assert (answer.status_code, answer.headers["x-content-type-options"]) == (statuses[host], "nosniff")
    assert HttpSettings.model_validate(http).allowed_hosts == http.get("allowed_hosts", [])


@pytest.mark.parametrize("path", ["/", "/health", "/nothing", "/docs", "/docs/assets/swagger-ui.css"])
async def test_every_answer_has_the_headers_of_security_once(front: Guarded, path: str) -> None:
    answer = await front.send("GET", path)
    for name, value in HEADERS:
        assert answer.headers.get_list(name.decode()) == [value.decode()]
    assert "access-control-allow-origin" not in answer.headers
