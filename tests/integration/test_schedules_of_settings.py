"""Schedules of the settings: read, checked, stored at the producer's start, and kept from the API's hands."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from producer.cities import default_cities
from producer.schedules import storage
from producer.schedules.from_settings import SettingsSchedules, definitions
from producer.schedules.storage import ScheduleState
from raingauge.database import Database
from raingauge.errors import SettingsError
from raingauge.settings import QuotaSettings, ScheduleSettings, Settings
from tests.api_support import NOON, Front, assert_problem

HOURLY: dict[str, Any] = {"name": "hourly", "cron": "0 * * * *"}


@pytest.fixture
def front(sqlite: Database) -> Front:
    return Front(sqlite)


def settings(*schedules: dict[str, Any], budget: int = 1_000_000) -> Settings:
    given = [ScheduleSettings(**one) for one in schedules]
    return Settings(schedules=given, quota=QuotaSettings(cities_per_month=budget))


def start(front: Front, *schedules: dict[str, Any], budget: int = 1_000_000) -> dict[str, ScheduleState]:
    """Store them as a producer does at its start; what is stored then."""
    wanted = definitions(settings(*schedules))
    at_start = SettingsSchedules(front.collections.transactions, wanted, default_cities(), budget)
    front.database.write(at_start.store)
    return {state.name: state for state in front.database.read(lambda c: storage.page(c, "", 100))}


def test_they_are_stored_changed_and_removed_as_the_settings_say(front: Front) -> None:
    first = start(front, HOURLY, {"name": "often", "every_s": 600, "cities": [1, 2, 2]})
    assert (first["often"].cities, first["hourly"].cities, first["often"].max_age_s) == (2, None, 600)
    front.clock.moment = NOON + timedelta(hours=3)
    second = start(front, HOURLY, {"name": "often", "every_s": 1200})
    assert second["hourly"].next_at == NOON + timedelta(
        hours=1
    )  # what was missed meanwhile is decided by the scheduler
    assert second["often"].next_at == NOON + timedelta(hours=3, minutes=20)
    assert [*start(front, HOURLY)] == ["hourly"]


async def test_the_api_pauses_and_resumes_them_and_changes_nothing_else(front: Front) -> None:
    start(front, HOURLY)
    why = "the schedule hourly comes from the settings: change `schedules` there and restart the producer; here it can "
    for answer in (
        await front.http.patch("/schedules/hourly", json={"every_s": 600}),
        await front.http.delete("/schedules/hourly"),
    ):
        assert_problem(answer, 409, why + "be paused and resumed")
    assert (await front.http.post("/schedules/hourly/pause")).json()["origin"] == "settings"
    assert start(front, HOURLY | {"overlap": "queue"})["hourly"].next_at is None  # it stays paused
    assert (await front.http.post("/schedules/hourly/resume")).json()["next_at"] == "2026-11-20T13:00:00.000Z"


async def test_one_of_the_api_is_adopted_when_it_is_the_same_and_never_overwritten(front: Front) -> None:
    await front.http.post("/schedules", json=HOURLY)
    with pytest.raises(SettingsError, match="hourly: a schedule of this name was created through the API with another"):
        start(front, HOURLY | {"overlap": "queue"})
    assert start(front, HOURLY)["hourly"].origin == "settings"


async def test_the_month_has_to_pay_for_those_of_the_settings_but_others_do_not_hinder_the_start(front: Front) -> None:
    await front.http.post("/schedules", json=HOURLY | {"name": "other"})
    assert len(start(front, HOURLY, budget=130_000)) == 2
    with pytest.raises(
        SettingsError, match=r"schedules: hourly: .*124,248 cities in 2026-12, and the budget is 100,000"
    ):
        start(front, HOURLY, budget=100_000)


@pytest.mark.parametrize(
    ("text", "city_ids"), [("1\n2\n", (1, 2)), ("city_id,name\n5,Young\n", (5,)), ("[7, 7, 8]", (7, 8))]
)
def test_cities_come_from_a_file(text: str, city_ids: tuple[int, ...], tmp_path: Path) -> None:
    (tmp_path / "ids").write_text(text)
    [found] = definitions(settings(HOURLY | {"cities_file": str(tmp_path / "ids")}))
    assert found.city_ids == city_ids


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"cron": "61 * * * *"}, "schedules.0.cron: bad minute"),
        ({"every_s": 60}, "schedules.0.cron: give either `cron` or `every_s`"),
        ({"zone": "Mars"}, "schedules.0.zone: it is no name of the IANA time zone database"),
        ({"cities_file": "missing.csv"}, "schedules.0.cities_file: cannot read missing.csv: No such file"),
        ({"cities_file": "names.csv"}, "schedules.0.cities_file: names.csv, line 1: 'Young' is no city id"),
        ({"cities_file": "zero.csv"}, "schedules.0.cities_file: zero.csv: 0 is no city id"),
        ({"cities_file": "latin.csv"}, "schedules.0.cities_file: latin.csv is not UTF-8 text"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(
    fields: dict[str, Any], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in (("names", b"Young"), ("zero", b"0"), ("latin", b"\xff")):
        Path(f"{name}.csv").write_bytes(content)
    with pytest.raises(SettingsError) as error:
        definitions(settings(HOURLY | fields))
    assert str(error.value).startswith(why)
