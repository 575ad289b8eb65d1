"""`GET /readings/latest`: its pages, its limit, and the age of what it answers."""

from datetime import timedelta

from producer.readings import MAX_LATEST
from tests.api_support import OBSERVED_AT, Front, observation


async def test_the_cities_of_a_large_collection_come_in_pages_each_on_one(front: Front) -> None:
    await front.collect(1, cities=[*range(1, MAX_LATEST + 31)])
    first, last = await front.pages("/readings/latest?id=1&units=imperial")
    assert first["next"] == "/readings/latest?id=1&after=50&units=imperial"
    assert first["missing"] == [*range(1, MAX_LATEST + 1)]
    assert last["missing"] == [*range(MAX_LATEST + 1, MAX_LATEST + 31)]


async def test_the_age_counts_from_the_observation(front: Front) -> None:
    await front.collect(1, cities=[1])
    front.settle("1", [observation(1)])
    front.clock.moment = OBSERVED_AT + timedelta(hours=1)
    (reading,) = (await front.http.get("/readings/latest?city_id=1")).json()["readings"]
    assert (reading["age_s"], reading["observed_at"]) == (3600.0, "2026-11-20T11:53:00.000Z")


async def test_a_request_names_at_most_a_thousand_cities(front: Front) -> None:
    for number, status in ((MAX_LATEST, 200), (MAX_LATEST + 1, 422)):
        named = ",".join(map(str, range(1, number + 1)))
        assert (await front.http.get(f"/readings/latest?city_id={named}")).status_code == status
