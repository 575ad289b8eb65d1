"""The endpoints of events."""

import pytest
from sqlalchemy import Connection

from raingauge.database import Database
from raingauge.storage import events
from raingauge.storage.events import NewEvent, Outcome, Subscription
from tests.api_support import NOON, Front

UNKNOWN = "6f9d5b0e-2d0b-4f4e-9d53-0d4a7c1c2b11"


async def report(front: Front, user_id: str = "1234", description: str = "rain") -> dict[str, str]:
    answer = await front.http.post("/events", json={"user_id": user_id, "description": description})
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"] == f"/events/{answer.json()['event_id']}"
    body: dict[str, str] = answer.json()
    return body


async def test_a_reported_event_is_answered_as_it_stands(front: Front) -> None:
    event = await report(front)
    assert event == {
        "number": 1,
        "event_id": event["event_id"],
        "type": "message",
        "user_id": "1234",
        "description": "rain",
        "status": "NotProcessed",
        "created_at": "2026-11-20T12:00:00.000Z",
    }
    for path in (f"/events/{event['event_id']}", f"/events/{event['event_id']}/"):
        assert (await front.http.get(path)).json() == event


async def test_pages_lead_from_one_to_the_next(front: Front) -> None:
    reported = [await report(front, description=str(number)) for number in range(5)]
    pages = await front.pages("/events?limit=2")
    assert [page["events"] for page in pages] == [reported[:2], reported[2:4], reported[4:]]


@pytest.mark.parametrize(
    "change",
    [{"description": "sun"}, {"user_id": "5"}, {"status": "Processed"}, {}, {"user_id": "5", "status": "Processed"}],
)
async def test_a_change_sets_what_it_names(front: Front, change: dict[str, str]) -> None:
    event = await report(front)
    answer = await front.http.put(f"/events/{event['event_id']}", json=change)
    assert answer.json() == event | change
    assert (await front.http.get(f"/events/{event['event_id']}")).json() == event | change


async def test_a_wrong_event_is_refused_and_stores_nothing(front: Front) -> None:
    for body, where in [
        ({"description": "rain"}, "user_id"),
        ({"user_id": "1"}, "description"),
        ({"user_id": "", "description": "rain"}, "user_id"),
        ({"user_id": 1, "description": "rain"}, "user_id"),
        ({"user_id": "1", "description": "r" * 2001}, "description"),
        ({"user_id": "1", "description": "\0"}, "description"),
        ({"user_id": "1", "description": "rain", "status": "Processed"}, "status"),
    ]:
        answer = await front.http.post("/events", json=body)
        assert (answer.status_code, answer.json()["errors"][0]["where"]) == (422, where)
        assert (await front.http.get("/events")).json()["events"] == []


async def test_a_wrong_change_is_refused(front: Front) -> None:
    event = await report(front)
    for change in [{"status": "done"}, {"status": None}, {"event_id": UNKNOWN}, {"user_id": ""}]:
        assert (await front.http.put(f"/events/{event['event_id']}", json=change)).status_code == 422
        assert (await front.http.get(f"/events/{event['event_id']}")).json() == event


async def test_the_deliveries_of_an_event_are_shown_as_they_stand(front: Front) -> None:
    nobody = await report(front)
    hook = Subscription("a" * 64, "https://example.org/hook", ["message"])
    front.database.write(lambda connection: events.subscribe(connection, [hook]))
    path = f"/events/{(await report(front))['event_id']}/deliveries"
    waiting = {"status": "waiting", "attempts": 0, "last_status": None, "last_error": None}
    due = {"next_attempt_at": "2026-11-20T12:00:00.000Z"}
    assert (await front.http.get(path)).json() == [{"webhook": hook.url, **waiting, **due}]
    ended = Outcome("given_up", 500, "the receiver answered 500", None)

    def end(connection: Connection) -> None:
        (one,) = events.lease_deliveries(connection, hook.webhook_id, NOON, NOON, 1)
        events.end_attempt(connection, hook.webhook_id, one, ended)

    front.database.write(end)
    failed = {"status": "given_up", "attempts": 1, "last_status": 500, "last_error": "the receiver answered 500"}
    assert (await front.http.get(path)).json() == [{"webhook": hook.url, **failed, "next_attempt_at": None}]
    assert (await front.http.get(f"/events/{nobody['event_id']}/deliveries")).json() == []


async def test_what_is_too_long_for_the_database_is_cut(sqlite: Database) -> None:
    long = NewEvent("dead_letter", "u" * 300, "d" * 3000)
    sqlite.write(lambda connection: events.record(connection, NOON, [long]))
    (stored,) = sqlite.read(lambda connection: events.page(connection, 0, 10))
    assert (len(stored.user_id), len(stored.description)) == (200, 2000)
