"""The simulator over HTTP, with a clock that moves only when told: answers, quota, faults, control path."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from simulator.app import create_app
from simulator.settings import SimulatorSettings

JSON = "application/json; charset=utf-8"
KEY_REFUSED = (
    b'{"cod":401, "message": "Invalid API key. Please see https://openweathermap.org/faq#error401 for more info."}'
)
OVER_QUOTA = (
    b'{"cod":429, "message": "Your account is temporary blocked due to exceeding of requests limitation of your '
    b'subscription type. Please choose the proper subscription https://openweathermap.org/price"}'
)
PAGE = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    b"<hr><center>openresty</center>\r\n</body>\r\n</html>\r\n"
)


def error(cod: str, message: str) -> bytes:
    return f'{{"cod":"{cod}","message":"{message}"}}'.encode()


NO_DATA = error("404", "No data: 404006")
INTERNAL = error("500", "Internal error: 500000")


class HandClock:
    """A clock that stands still; sleeping moves it at once."""

    def __init__(self) -> None:
        self.seconds = 5000.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        return datetime(2026, 5, 1, 12, 30, tzinfo=UTC) + timedelta(seconds=self.seconds - 5000)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds


class HeldClock(HandClock):
    """Its sleepers wait until the test releases them."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting, self.released = asyncio.Event(), asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.waiting.set()
        await self.released.wait()


class Caller:
    """Calls the app without a network."""

    def __init__(self, clock: HandClock, **settings: Any) -> None:
        self.clock = clock
        app = create_app(SimulatorSettings(**{"latency_s": 0, "quota": 0} | settings), clock)
        self.http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://simulator")

    async def ask(self, endpoint: str, ids: str | None, key: str | None = "simulator", **query: str) -> httpx2.Response:
        query |= {name: value for name, value in (("id", ids), ("appid", key)) if value is not None}
        return await self.http.get(f"/data/2.5/{endpoint}", params=query)

    async def group(self, count: int = 1) -> int:
        return (await self.ask("group", ",".join(map(str, range(1, count + 1))))).status_code

    async def fault(self, fault: str, **more: object) -> None:
        (await self.http.post("/control/faults", json={"fault": fault, **more})).raise_for_status()

    async def control(self, method: str, path: str, json: object = None) -> Any:
        return (await self.http.request(method, f"/control/{path}", json=json)).raise_for_status().json()


Make = Callable[..., Caller]


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def make(clock: HandClock) -> Make:
    """Makes the app with these settings."""
    return lambda **settings: Caller(clock, **settings)


@pytest.fixture
def caller(make: Make) -> Caller:
    return make(unknown=frozenset({7, 8}))


@pytest.mark.parametrize(
    ("endpoint", "ids", "key", "status", "body"),
    [
        ("weather", "1", None, 401, KEY_REFUSED),
        ("weather", "1", "wrong", 401, KEY_REFUSED),
        ("group", "1", "", 401, KEY_REFUSED),
        ("weather", "7", "simulator", 404, error("404", "city not found")),
        ("weather", "1,2", "simulator", 400, error("400", "1,2 is not a city ID")),
        ("weather", "x", "simulator", 400, error("400", "x is not a city ID")),
        ("weather", "9" * 19, "simulator", 400, error("400", "9" * 19 + " is not a city ID")),
        ("weather", "0", "simulator", 400, error("400", "Invalid ID")),
        ("weather", None, "simulator", 400, error("400", "Nothing to geocode")),
        ("group", "", "simulator", 400, error("400", "Nothing to geocode")),
        ("group", "1,-2", "simulator", 400, error("400", "-2 is not a city ID")),
        ("group", '1,"ñ"', "simulator", 400, error("400", '\\"ñ\\" is not a city ID')),
        ("group", "1,00", "simulator", 400, error("400", "Invalid ID")),
        ("group", "7,8,7", "simulator", 404, NO_DATA),
        ("group", ",".join(["1"] * 21), "simulator", 400, error("400", "id list must be in range from 1 to 20")),
    ],
)
async def test_errors_have_the_providers_bodies_byte_for_byte(
    caller: Caller, endpoint: str, ids: str | None, key: str | None, status: int, body: bytes
) -> None:
    answer = await caller.ask(endpoint, ids, key)
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (status, body, JSON)


async def test_a_single_call_gets_one_city(caller: Caller) -> None:
    answer = await caller.ask("weather", "3439525", units="metric")
    body = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (200, JSON)
    assert (body["id"], body["name"], body["cod"]) == (3439525, "Young", 200)
    assert -10 < body["main"]["temp"] < 50
    assert (await caller.ask("weather", "3439525")).json()["main"]["temp"] > 250


async def test_a_group_of_up_to_twenty_leaves_out_unknown_cities_and_keeps_no_order(caller: Caller) -> None:
    body = (await caller.ask("group", "1,7,2,3")).json()
    assert list(body) == ["cnt", "list"]
    assert (body["cnt"], [item["id"] for item in body["list"]]) == (3, [3, 2, 1])
    assert (await caller.ask("group", ",".join(map(str, range(101, 121))))).json()["cnt"] == 20


@pytest.mark.parametrize(
    ("group", "ids", "status", "body", "units"),
    [("strict", "1,7", 404, NO_DATA, 3), ("removed", "1,2,3", 401, KEY_REFUSED, 4)],
)
async def test_a_group_that_is_strict_or_removed_is_refused_until_it_works_again_but_costs_its_cities(
    caller: Caller, group: str, ids: str, status: int, body: bytes, units: int
) -> None:
    await caller.control("PUT", "settings", {"group": group})
    refused = await caller.ask("group", ids)
    assert (refused.status_code, refused.content) == (status, body)
    assert (await caller.ask("weather", "1")).status_code == 200
    assert (await caller.control("GET", "witness"))["units"] == units
    assert await caller.group(2) == (200 if group == "strict" else 401)
    await caller.control("PUT", "settings", {"group": "works"})
    assert (await caller.ask("group", ids)).status_code == 200


async def test_other_paths_and_a_trailing_slash_are_not_found(caller: Caller) -> None:
    for path in ("/data/2.5/weather/", "/data/2.5/forecast", "/"):
        assert (await caller.http.get(path)).status_code == 404
    assert (await caller.http.get("/health")).json() == {"status": "ok"}


async def test_over_the_quota_the_provider_refuses_until_the_window_has_rolled_on(make: Make, clock: HandClock) -> None:
    caller = make(quota=60)
    assert [await caller.group(20) for _ in range(3)] == [200, 200, 200]
    refused = await caller.ask("weather", "1")
    assert (refused.status_code, refused.content) == (429, OVER_QUOTA)
    assert "retry-after" not in refused.headers
    clock.seconds += 59.9
    assert await caller.group() == 429
    clock.seconds += 0.1
    assert await caller.group() == 200


async def test_every_call_counts_toward_the_quota_but_those_over_it_or_with_a_wrong_key(make: Make) -> None:
    caller = make(quota=60, unknown=frozenset({7}))
    for ids in ("1,x", ",".join(["1"] * 21), "7,7,7", "", "1,1,1"):
        await caller.ask("group", ids)
    assert (await caller.ask("group", "1", "wrong")).status_code == 401
    left = 60 - (2 + 21 + 3 + 1 + 3)
    assert [await caller.group(count) for count in (20, left - 20 + 1, left - 20, 1)] == [200, 429, 200, 429]


async def test_a_call_arrives_before_its_latency_and_every_response_takes_it(make: Make, clock: HandClock) -> None:
    caller = make(latency_s=0.25)
    await caller.ask("weather", "1")
    await caller.ask("weather", "1", "wrong")
    assert clock.slept == [0.25, 0.25]
    assert [call["at_s"] for call in (await caller.control("GET", "calls"))["calls"]] == [0, 0.25]


@pytest.mark.parametrize(
    ("form", "status", "body", "content_type"),
    [
        ({"fault": "errors"}, 500, INTERNAL, JSON),
        ({"fault": "errors", "city_ids": [9, 1]}, 500, INTERNAL, JSON),
        ({"fault": "refuse_key"}, 401, KEY_REFUSED, JSON),
        ({"fault": "too_many"}, 429, OVER_QUOTA, JSON),
        ({"fault": "html"}, 502, PAGE, "text/html"),
        ({"fault": "outage"}, 502, PAGE, "text/html"),
        ({"fault": "lose"}, 502, PAGE, "text/html"),
    ],
)
async def test_a_fault_spoils_the_answers_until_it_ends(
    caller: Caller, clock: HandClock, form: dict[str, object], status: int, body: bytes, content_type: str
) -> None:
    await caller.control("POST", "faults", form | {"for_s": 10})
    answer = await caller.ask("group", "1")
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (status, body, content_type)
    clock.seconds += 10
    assert await caller.group() == 200


async def test_a_429_can_have_a_retry_after_and_the_latest_fault_of_a_kind_counts(caller: Caller) -> None:
    for seconds in (5, 7):
        await caller.fault("too_many", retry_after_s=seconds)
    assert (await caller.ask("weather", "1")).headers["retry-after"] == "7"


async def test_a_fault_of_cities_or_of_a_share_hits_those_calls_alone_and_the_same_ones_for_a_seed(make: Make) -> None:
    caller = make()
    await caller.fault("errors", city_ids=[5, 6])
    assert [(await caller.ask("group", ids)).status_code for ids in ("4,5", "4")] == [500, 200]
    runs = []
    for each in (make(seed=1), make(seed=1)):
        await each.fault("errors", share=0.3)
        runs.append([await each.group() for _ in range(200)])
    assert runs[0] == runs[1]
    by_setting = make(error_share=0.3)
    for statuses in (runs[0], [await by_setting.group() for _ in range(200)]):
        assert set(statuses) == {200, 500}
        assert 40 < statuses.count(500) < 80


@pytest.mark.parametrize(("fault", "afterwards"), [("too_many", 200), ("outage", 429), ("errors", 429)])
async def test_of_the_faults_only_too_many_uses_no_quota_up(make: Make, fault: str, afterwards: int) -> None:
    caller = make(quota=20)
    await caller.fault(fault)
    await caller.group(20)
    await caller.control("DELETE", "faults")
    assert await caller.group(20) == afterwards


async def test_slow_adds_to_the_latency_and_an_outage_shows_at_once(make: Make, clock: HandClock) -> None:
    caller = make(latency_s=0.25)
    faults: list[tuple[dict[str, Any], list[float]]] = [({"fault": "lose"}, [0.25]), ({"fault": "outage"}, [])]
    for form, slept in [({"fault": "slow", "latency_s": 9}, [9.25]), *faults]:
        await caller.control("DELETE", "faults")
        await caller.fault(**form)
        clock.slept.clear()
        await caller.group()
        assert clock.slept == slept


async def test_a_spoilt_body_ends_in_the_middle_or_pauses_for_each_byte(caller: Caller, clock: HandClock) -> None:
    whole = await caller.ask("weather", "1")
    await caller.fault("broken_json")
    broken = await caller.ask("weather", "1")
    assert (broken.status_code, broken.content) == (200, whole.content[: len(whole.content) // 2])
    await caller.control("DELETE", "faults")
    await caller.fault("drip", pause_s=0.5)
    dripped = await caller.ask("weather", "1")
    assert dripped.content == whole.content
    assert dripped.headers["content-length"] == str(len(whole.content))
    assert clock.slept == [0.5] * len(whole.content)


async def test_active_faults_are_listed_and_cleared(caller: Caller, clock: HandClock) -> None:
    await caller.fault("errors", share=0.3, for_s=10)
    await caller.fault("html", for_s=4)
    clock.seconds += 4
    await caller.fault("too_many")
    errors = {"fault": "errors", "share": 0.3, "for_s": 10, "left_s": 6}
    assert await caller.control("GET", "faults") == {"faults": [errors, {"fault": "too_many", "left_s": None}]}
    assert await caller.control("DELETE", "faults") == {"faults": []}
    assert await caller.group() == 200


WRONG_FAULTS = [
    ("body", "nonsense"),
    ("fault", {}),
    ("fault", {"fault": "x"}),
    ("share", {"fault": "errors", "share": 1.1}),
    ("for_s", {"fault": "errors", "for_s": 0}),
    ("sahre", {"fault": "errors", "sahre": 0.5}),
    ("city_ids", {"fault": "errors", "city_ids": []}),
    ("latency_s", {"fault": "slow", "latency_s": 0}),
    ("retry_after_s", {"fault": "too_many", "retry_after_s": 1.5}),
    ("pause_s", {"fault": "drip", "pause_s": 0}),
]


@pytest.mark.parametrize(
    ("method", "path", "form", "named"),
    [
        *[("POST", "faults", wrong, named) for named, wrong in WRONG_FAULTS],
        ("PUT", "settings", {"quota": -1}, "quota"),
        ("PUT", "settings", {"window_s": 0}, "window_s"),
        ("PUT", "settings", {"key": "mine"}, "key"),
        ("GET", "witness?window_s=soon", None, "window_s"),
        ("GET", "calls?after=-1", None, "after"),
        ("GET", "calls?limit=10001", None, "limit"),
        ("GET", "calls?befor=1", None, "befor"),
    ],
)
async def test_wrong_control_input_is_refused_and_changes_nothing(
    caller: Caller, method: str, path: str, form: object, named: str
) -> None:
    before = await caller.control("GET", "settings")
    refused = await caller.http.request(method, f"/control/{path}", json=form)
    assert refused.status_code == 422
    assert named in refused.json()["detail"][0]["loc"]
    assert await caller.control("GET", "settings") == before
    assert await caller.control("GET", "faults") == {"faults": []}


async def test_settings_change_while_it_runs_and_the_key_is_not_shown(make: Make, clock: HandClock) -> None:
    caller = make(quota=60)
    assert await caller.group(20) == 200
    changed = await caller.control("PUT", "settings", {"quota": 20, "latency_s": 1})
    assert changed == {"quota": 20, "window_s": 60, "latency_s": 1, "error_share": 0, "group": "works"}
    assert await caller.group() == 429
    assert clock.slept == [1]
    assert await caller.control("PUT", "settings", {}) == changed


async def test_a_changed_window_is_enforced_and_witnessed(make: Make, clock: HandClock) -> None:
    caller = make(quota=20)
    for _ in range(3):
        assert await caller.group(20) == 200
        clock.seconds += 60
    await caller.control("PUT", "settings", {"window_s": 100})
    report = await caller.control("GET", "witness")
    assert (report["window_s"], report["most_in_window"]) == (100, 40)
    assert await caller.group(20) == 429


async def test_the_witness_reports_all_that_arrived(make: Make, clock: HandClock) -> None:
    caller = make(quota=60)
    clock.seconds += 2
    assert await caller.group(20) == 200
    clock.seconds += 30
    assert [await caller.group(20) for _ in range(3)] == [200, 200, 429]
    await caller.ask("weather", "1", "wrong")
    clock.seconds += 60
    await caller.ask("weather", "1")
    counts = {"calls": 6, "units": 81, "statuses": {"200": 4, "401": 1, "429": 1}, "underway": 0}
    of_each = {"group_calls": 4, "group_units": 80, "single_calls": 2, "single_units": 1}
    first = {"first_at_s": 2, "first_at": "2026-05-01T12:30:02.000Z", "window_s": 60, "most_in_window": 80}
    last = {"last_at_s": 92, "last_at": "2026-05-01T12:31:32.000Z", "started_at": "2026-05-01T12:30:00.000Z"}
    assert await caller.control("GET", "witness") == counts | of_each | first | last
    assert (await caller.control("GET", "witness?window_s=30"))["most_in_window"] == 60
    assert (await caller.control("GET", "witness?window_s=60"))["most_in_window"] == 80


async def test_a_reset_forgets_the_calls_even_those_under_way_but_not_the_quota_and_goes_on_numbering() -> None:
    clock = HeldClock()
    caller = Caller(clock, quota=20, latency_s=1)
    call = asyncio.ensure_future(caller.group(20))
    await clock.waiting.wait()
    assert (await caller.control("GET", "calls"))["calls"][0]["status"] is None
    assert (await caller.control("GET", "witness"))["underway"] == 1
    report = await caller.control("DELETE", "witness")
    assert (report["calls"], report["most_in_window"], report["first_at"], report["last_at_s"]) == (0, 0, None, None)
    clock.released.set()
    assert await call == 200
    assert await caller.group() == 429
    report = await caller.control("GET", "witness")
    assert (report["calls"], report["underway"], report["statuses"]) == (1, 0, {"429": 1})
    assert (await caller.control("GET", "calls"))["first"] == 2


async def test_the_calls_are_listed_in_pages(caller: Caller, clock: HandClock) -> None:
    await caller.ask("group", "1,x,3")
    clock.seconds += 1.5
    await caller.ask("weather", "7")
    first = await caller.control("GET", "calls?limit=1")
    call = {"number": 1, "endpoint": "group", "ids": [1, None, 3], "status": 400, "units": 3}
    call |= {"at_s": 0, "at": "2026-05-01T12:30:00.000Z"}
    assert first == {"first": 1, "calls": [call], "next": 1}
    second = await caller.control("GET", f"calls?after={first['next']}&limit=1")
    assert second["next"] is None
    assert [(call["endpoint"], call["at_s"], call["status"]) for call in second["calls"]] == [("single", 1.5, 404)]
    assert (await caller.control("GET", "calls?after=2")) == {"first": 1, "calls": [], "next": None}
