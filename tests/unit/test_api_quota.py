"""`GET /quota` and `GET /quota/proof`: how the account stands, and what its charges say about the promise."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx2
import pytest
from sqlalchemy import insert

from producer import quota
from producer.api.schemas import WHY, CourseBody, ProofBody, QuotaBody
from raingauge.contracts import utc_text
from raingauge.database import Database
from raingauge.settings import OpenWeatherSettings, QuotaSettings, Settings
from raingauge.storage.models import QuotaCharge
from tests.api_support import NOON, Front, assert_problem

NO_GATE: Final = "no consumer has created this account's gate yet"
SECOND: Final = timedelta(seconds=1)


@pytest.fixture
def front(front: Front) -> Front:
    front.open_gate(endpoint="group")
    return front


def charge(front: Front, ago_s: float, answered_s: float | None = 0.3, cost: int = 20, account: str = "") -> None:
    """A charge reserved so long ago; its answers came so much later, or not yet."""
    reserved = front.clock.moment - ago_s * SECOND
    closed = None if answered_s is None else reserved + answered_s * SECOND
    row = {"account": account or front.account, "cost": cost, "consumer": "one", "reserved_at": reserved}
    row |= {"closed_at": closed, "ends_at": closed or reserved + 25 * SECOND}
    front.database.write(lambda c: c.execute(insert(QuotaCharge).values(row)))


async def standing(front: Front) -> dict[str, Any]:
    answer = await front.http.get("/quota")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    QuotaBody.model_validate(body)
    return body


Moment = datetime | str | None


async def ask_proof(front: Front, begin: Moment = None, end: Moment = None) -> httpx2.Response:
    given = {"from": begin, "to": end}
    query = {name: each if isinstance(each, str) else each.isoformat() for name, each in given.items() if each}
    return await front.http.get("/quota/proof", params=query)


async def proof(front: Front, begin: Moment = None, end: Moment = None) -> dict[str, Any]:
    answer = await ask_proof(front, begin, end)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    ProofBody.model_validate(body)
    return body


# -- how it stands -----------------------------------------------------------------------------------------------------


async def test_a_fresh_account_has_all_of_its_quota(front: Front) -> None:
    body = await standing(front)
    assert list(body) == list(QuotaBody.model_fields)
    assert body["limit"] == {"cities_per_window": 60, "window_s": 60.0, "pacing": "smooth"}
    assert (body["account"], body["now"]) == ("openweather", "2026-11-20T12:00:00.000Z")
    assert (body["held"], body["free"], body["charges_open"], body["next_release"]) == (0, 60, 0, None)
    assert body["gate"] == {"state": "open", "why": WHY["open"], "blocked_until": None, "endpoint": "group"}
    assert body["consumers"] == 0
    front.beat()
    assert (await standing(front))["consumers"] == 1


async def test_what_charges_hold_is_not_free_and_comes_back_at_the_next_release(front: Front) -> None:
    charge(front, ago_s=61)
    charge(front, ago_s=50)
    charge(front, ago_s=50, cost=3)
    charge(front, ago_s=10, answered_s=None, cost=7)
    charge(front, ago_s=1, account="another", cost=20)
    body = await standing(front)
    assert (body["held"], body["free"], body["charges_open"]) == (30, 30, 1)
    assert body["next_release"] == {"at": "2026-11-20T12:00:10.300Z", "cities": 23}
    charge(front, ago_s=2, cost=40)  # as after `quota adopt` with a smaller limit
    body = await standing(front)
    assert (body["held"], body["free"]) == (70, 0)


async def test_limits_are_the_gates_and_the_month_is_the_settings(sqlite: Database) -> None:
    terms = QuotaSettings(cities_per_window=10, cities_per_month=5000, month_pacing="none")
    front = Front(sqlite, settings=Settings(quota=terms))
    front.open_gate(cities_per_window=600, window_s=30.0, pacing="burst", month_spent=4990)
    body = await standing(front)
    assert body["limit"] == {"cities_per_window": 600, "window_s": 30.0, "pacing": "burst"}
    month = body["month"]
    assert (month["budget"], month["pacing"], month["spent"], month["allowed_now"]) == (5000, "none", 4990, 10)


async def test_the_month_is_told_with_its_forecast_at_the_rate_of_the_last_hour(sqlite: Database) -> None:
    front = Front(sqlite)
    front.open_gate(month_spent=600_000)
    charge(front, ago_s=3601)
    charge(front, ago_s=3599)
    charge(front, ago_s=10, cost=5)
    month = (await standing(front))["month"]
    terms = {"month": "2026-11", "ends_at": "2026-12-01T00:00:00.000Z", "budget": 1_000_000, "pacing": "even"}
    outlook = "at the last hour's rate 606,300 of 1,000,000 cities are spent when the month ends"
    assert month == terms | {"spent": 600_000, "allowed_now": 60, "forecast": 606_300, "outlook": outlook}
    charge(front, ago_s=5, cost=10_000)
    over = (await standing(front))["month"]["outlook"]
    assert over == "at the last hour's rate the budget of 1,000,000 cities is spent before the month ends"
    front.clock.moment = datetime(2026, 12, 1, tzinfo=UTC)
    month = (await standing(front))["month"]
    assert (month["month"], month["spent"], month["ends_at"]) == ("2026-12", 0, "2027-01-01T00:00:00.000Z")


async def test_a_later_month_that_is_counted_after_a_step_back_is_named(sqlite: Database) -> None:
    front = Front(sqlite)
    front.open_gate(month="2026-12", month_spent=7)
    month = (await standing(front))["month"]
    assert (month["month"], month["spent"]) == ("2026-12", 7)


@pytest.mark.parametrize("state", ["quota", "key", "provider", "database", "failover"])
async def test_a_closed_gate_says_why_and_until_when(sqlite: Database, state: str) -> None:
    front = Front(sqlite)
    front.open_gate(state=state, blocked_until=NOON + 60 * SECOND)
    gate = (await standing(front))["gate"]
    assert (gate["state"], gate["why"], gate["blocked_until"]) == (state, WHY[state], "2026-11-20T12:01:00.000Z")


USED: Final = {
    "auto": {"unknown": "unknown", "refused": "single", "single": "single", "group": "group"},
    "group": {"single": "group"},
    "single": {"unknown": "single"},
}


@pytest.mark.parametrize(("setting", "found"), [(setting, found) for setting, all_ in USED.items() for found in all_])
async def test_the_endpoint_in_use_is_the_one_set_or_found(sqlite: Database, setting: Any, found: str) -> None:
    front = Front(sqlite, settings=Settings(openweather=OpenWeatherSettings(endpoint=setting)))
    front.open_gate(endpoint=found, last_now=NOON + SECOND)
    stands = await standing(front)
    assert stands["gate"]["endpoint"] == USED[setting][found]
    assert stands["now"] == "2026-11-20T12:00:01.000Z", "time is never behind the last reservation"


@pytest.mark.parametrize("path", ["/quota", "/quota/", "/quota/proof", "/quota/proof/"])
async def test_before_any_consumer_there_is_nothing_to_tell(sqlite: Database, path: str) -> None:
    front = Front(sqlite)
    assert_problem(await front.http.get(path), 404, NO_GATE)
    front.open_gate(account="another")
    assert_problem(await front.http.get(path), 404, NO_GATE)


# -- the proof ---------------------------------------------------------------------------------------------------------


async def test_without_charges_of_the_account_the_promise_holds(front: Front) -> None:
    charge(front, 100, account="another")
    hour = {"from": "2026-11-20T11:00:00.000Z", "to": "2026-11-20T12:00:00.000Z", "window_s": 60.0, "limit": 60}
    assert await proof(front) == hour | {"worst": 0, "window": None, "charges": 0, "cities": 0, "holds": True}


async def test_the_worst_window_is_told_with_where_it_is(front: Front) -> None:
    for ago_s in (1000, 980, 960, 930):
        charge(front, ago_s)
    charge(front, 3670)  # its last window has no moment within the hour
    body = await proof(front)
    assert (body["worst"], body["limit"], body["holds"]) == (60, 60, True)
    assert (body["charges"], body["cities"]) == (4, 80)
    assert body["window"] == {"begin": "2026-11-20T11:43:20.300000Z", "end": "2026-11-20T11:44:20.300000Z"}


async def test_a_promise_that_was_broken_is_found_out_even_by_a_call_that_may_have_arrived_late(front: Front) -> None:
    charge(front, 184, answered_s=None, cost=30)
    charge(front, 100, cost=31)
    body = await proof(front)
    assert (body["worst"], body["holds"]) == (61, False)


async def test_a_charge_that_was_released_at_once_counts_all_the_same(front: Front) -> None:
    """The proof does not rest on what it proves."""
    charge(front, 100, answered_s=-59)
    assert (await proof(front, NOON - 50 * SECOND))["worst"] == 20


async def test_the_time_can_be_chosen(front: Front) -> None:
    charge(front, 7200)
    charge(front, 100)
    begin, end = NOON - timedelta(hours=3), NOON - timedelta(hours=1)
    body = await proof(front, begin, end)
    assert (body["from"], body["to"], body["charges"]) == (utc_text(begin), utc_text(end), 1)
    assert (await proof(front, begin))["charges"] == 2
    assert (await proof(front, None, end))["from"] == "2026-11-20T10:00:00.000Z"
    assert (await proof(front, "2026-11-20T11:00:00+03:00"))["from"] == "2026-11-20T08:00:00.000Z"
    assert (await proof(front, "2026-11-20t11:00z"))["from"] == "2026-11-20T11:00:00.000Z"


async def test_the_answer_goes_no_further_than_now_and_what_is_kept(front: Front) -> None:
    body = await proof(front, NOON - timedelta(hours=30), NOON - timedelta(hours=20))
    assert (body["from"], body["to"]) == ("2026-11-19T12:00:00.000Z", "2026-11-19T16:00:00.000Z")
    for hours in (1, 24, 10_000):
        body = await proof(front, NOON - timedelta(hours=1), NOON + timedelta(hours=hours))
        assert (body["from"], body["to"]) == ("2026-11-20T11:00:00.000Z", "2026-11-20T12:00:00.000Z")
    assert (await proof(front, NOON - timedelta(hours=24)))["from"] == "2026-11-19T12:00:00.000Z"


KEPT: Final = "to: proofs reach back a day (`raingauge proof` further); give a time after 2026-11-19T12:00:00.000Z"
ORDER: Final = "from: it must be before `to` and not in the future"
LONG: Final = "from: a proof is about 24 hours at most"


async def test_a_time_that_cannot_be_proved_is_refused(front: Front) -> None:
    periods: list[tuple[Any, Any, str]] = [
        (NOON - timedelta(hours=24, seconds=1), None, LONG),
        (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC), LONG),
        ("0001-01-01T00:00:00+23:59", None, LONG),
        (None, NOON - timedelta(hours=24), KEPT),
        (None, "0001-01-01T00:00:00+23:59", KEPT),
        (NOON - timedelta(hours=3), NOON - timedelta(hours=4), ORDER),
        (NOON - timedelta(hours=3), NOON - timedelta(hours=3), ORDER),
        (NOON, None, ORDER),
        (NOON + timedelta(hours=3), NOON + timedelta(hours=4), ORDER),
        ("9999-12-31T23:59:59-23:59", None, ORDER),
    ]
    for begin, end, detail in periods:
        where, _, what = detail.partition(": ")
        problem = assert_problem(await ask_proof(front, begin, end), 422, detail)
        assert problem["errors"] == [{"where": where, "what": what}]


async def test_what_is_no_moment_is_refused(front: Front) -> None:
    dates = ("2026-11-20", "2026-11-20T12:00:00", "2026-13-20T12:00:00Z", "2026-11-20T12:00:00 00:00")
    for text in ("", "yesterday", "1763640000", *dates):
        answer = await front.http.get("/quota/proof", params={"from": text})
        assert (answer.status_code, [error["where"] for error in answer.json()["errors"]]) == (422, ["from"])


@pytest.mark.parametrize("query", ["from=2026-11-20T11:00:00Z&from=2026-11-20T11:00:00Z", "since=2026-11-20T11:00:00Z"])
async def test_what_is_repeated_or_unknown_is_refused(front: Front, query: str) -> None:
    assert (await front.http.get(f"/quota/proof?{query}")).status_code == 422
    assert_problem(await front.http.get("/quota?at=2026-11-20T16:00:00Z"), 422, "at: it is not known here")


@pytest.mark.parametrize("portion_s", [1, 50, 75, 100_000])
async def test_many_charges_are_replayed_in_portions(
    front: Front, monkeypatch: pytest.MonkeyPatch, portion_s: int
) -> None:
    monkeypatch.setattr(quota, "PORTION", portion_s * SECOND)
    for ago_s in (300, 100, 300, 250, 300):
        charge(front, ago_s)
    body = await proof(front, NOON - 400 * SECOND)
    assert (body["charges"], body["worst"]) == (5, 80)


# -- over time ---------------------------------------------------------------------------------------------------------


async def test_the_course_of_what_is_held_has_its_steps_at_reservation_and_release(front: Front) -> None:
    charge(front, ago_s=300, answered_s=1)
    charge(front, ago_s=30, answered_s=None, cost=5)
    body = (await front.http.get("/quota/held")).json()
    CourseBody.model_validate(body)
    held = {point["at"]: point["held"] for point in body["points"]}
    shown = [held[utc_text(NOON - ago_s * SECOND)] for ago_s in (600, 302.5, 300, 240, 237.5, 32.5, 30, 0)]
    assert shown == [0, 0, 20, 20, 0, 0, 5, 5]
    assert (body["limit"]["cities_per_window"], len(held)) == (60, 241)


async def test_the_course_is_no_longer_than_charges_are_kept_and_begins_with_a_gate(sqlite: Database) -> None:
    front = Front(sqlite)
    assert_problem(await front.http.get("/quota/held"), 404, NO_GATE)
    front.open_gate(window_s=86_400.0)
    points = (await front.http.get("/quota/held")).json()["points"]
    assert points[0]["at"] == utc_text(NOON - timedelta(days=1))


async def test_of_very_many_charges_the_course_is_shorter(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "MAX_CHARGES_SHOWN", 3)
    for ago_s in (500, 400, 50, 40):
        charge(front, ago_s)
    points = (await front.http.get("/quota/held")).json()["points"]
    assert (points[0]["at"], points[-1]["held"]) == (utc_text(NOON - 300 * SECOND), 40)
