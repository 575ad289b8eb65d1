"""What watchers get: the bodies of the API as events, or polled with ETags where streams do not get through."""

import json
from datetime import timedelta

import pytest
from sqlalchemy import insert

from producer.api.collections.stream import events_of, overview_of
from producer.live import Change, Overview
from producer.quota import QuotaReports
from raingauge.storage.models import Collection
from tests.api_support import Front, observation


def overview(front: Front) -> Overview:
    transactions, terms = front.collections.transactions, front.settings.terms
    reports = QuotaReports(transactions, front.account, terms, "auto")
    return front.database.read(lambda connection: overview_of(front.collections, reports, connection))


async def test_watchers_see_what_the_list_and_the_quota_answer(served: Front) -> None:
    for name in ("first", "second"):
        await served.collect(name, cities=[1, 2])
    served.settle("first", [observation(1), observation(2)])
    seen = overview(served)
    listed = (await served.http.get("/collections")).json()["collections"]
    assert sorted(seen.collections) == ["first", "second"]
    assert list(seen.collections.values()) == listed
    assert seen.quota == (await served.http.get("/quota")).json()


async def test_before_a_consumer_has_started_the_quota_is_null(front: Front) -> None:
    assert overview(front) == Overview({}, None)


async def test_an_open_collection_is_seen_however_many_newer_ones_there_are(front: Front) -> None:
    await front.collect("oldest", cities=[1, 2])
    front.clock.moment += timedelta(seconds=1)
    newer = {"max_age_s": 600, "cities_hash": "-", "total": 1, "collected": 1}
    newer |= dict.fromkeys(("requested_at", "finished_at", "last_progress_at"), front.clock.moment)
    rows = [newer | {"id": f"newer-{number}"} for number in range(101)]
    front.database.write(lambda connection: connection.execute(insert(Collection), rows))
    seen = overview(front).collections
    assert (len(seen), seen["oldest"]["finished_at"]) == (101, None)
    front.clock.moment += timedelta(seconds=1)
    front.settle("oldest", [observation(1), observation(2)])
    assert overview(front).collections["oldest"]["status"] == "done"
    front.clock.moment += timedelta(seconds=11)
    assert "oldest" not in overview(front).collections


async def test_what_was_just_deleted_is_named_and_listed_no_more(front: Front) -> None:
    for name in ("kept", "deleted"):
        await front.collect(name, cities=[1])
        front.settle(name, [observation(1)])
    requested_at = (await front.body("deleted"))["requested_at"]
    await front.http.delete("/collections/deleted")
    seen = overview(front)
    assert (list(seen.collections), seen.deleted) == (["kept"], ({"id": "deleted", "requested_at": requested_at},))
    front.clock.moment += timedelta(seconds=16)
    assert overview(front).deleted == ()


@pytest.mark.parametrize(
    ("change", "events"),
    [
        (Change(({"id": "1"},), None), [("collections", {"collections": [{"id": "1"}]}), ("quota", None)]),
        (
            Change((), {"held": 1}, is_everything=True),
            [("collections", {"collections": [], "all": True}), ("quota", {"held": 1})],
        ),
        (Change(None, {"held": 1}), [("quota", {"held": 1})]),
        (
            Change(({"id": "2"},), None, deleted=({"id": "1"},)),
            [
                ("deleted", {"collections": [{"id": "1"}]}),
                ("collections", {"collections": [{"id": "2"}]}),
                ("quota", None),
            ],
        ),
    ],
)
def test_a_change_becomes_events(change: Change, events: list[tuple[str, object]]) -> None:
    assert [(event.event, json.loads(event.raw_data or "")) for event in events_of(change)] == events


def test_that_nothing_can_be_read_is_a_problem() -> None:
    (event,) = events_of(Change(None, None, "no answer within 0.7 s"))
    body = json.loads(event.raw_data or "")
    assert (event.event, body["status"], body["detail"]) == ("problem", 503, "no answer within 0.7 s")


async def test_an_unchanged_list_is_answered_304(front: Front) -> None:
    await front.collect(1, cities=[1, 2])
    front.settle("1", [observation(1), observation(2)])
    first = await front.http.get("/collections")
    again = await front.http.get("/collections", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    await front.collect(2, cities=[1])
    changed = await front.http.get("/collections", headers={"If-None-Match": first.headers["etag"]})
    assert (changed.status_code, len(changed.json()["collections"])) == (200, 2)
