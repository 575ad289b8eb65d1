"""What the endpoints of schedules take and answer: bodies, and how they are filled. It knows no SQL."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from producer.api.problems import Invalid
from producer.api.schemas import Time, example_of, field
from producer.schedules.registry import Foreseen
from producer.schedules.storage import Definition, Missed, Overlap, RunState, ScheduleState
from producer.schedules.times import LEAST_EVERY_S, MOST_EVERY_S, Times, WrongExpression
from raingauge.contracts import CityId, utc_text
from raingauge.settings import Settings
from raingauge.settings.sections import ScheduleName

Name = Annotated[
    ScheduleName,
    Field(
        description="The schedule's name: 1 to 40 of `A-Za-z0-9._-` but not `.` or `..`.",
        examples=["hourly"],
        json_schema_extra={"pattern": r"^(?!\.{1,2}$)[A-Za-z0-9._-]{1,40}$"},
    ),
]
Cron = Annotated[
    str,
    AfterValidator(lambda text: " ".join(text.split())),
    Field(
        description="Five fields: minute, hour, day of the month, month, day of the week; in `zone`.",
        examples=["0 * * * *"],
    ),
]
EverySeconds = Annotated[
    int,
    Field(
        strict=True,
        ge=LEAST_EVERY_S,
        le=MOST_EVERY_S,
        description="In place of `cron`: the interval in seconds, counted from 1970-01-01T00:00:00Z.",
        examples=[3600],
    ),
]
Zone = Annotated[
    str, Field(description="The IANA time zone of `cron`. Left out: UTC.", examples=["America/Montevideo"])
]
Cities = Annotated[
    list[CityId],
    Field(min_length=1, description="City ids. Left out: the default cities.", examples=[[3439525, 3439781]]),
]
MaxAge = Annotated[
    int,
    Field(
        strict=True,
        ge=0,
        le=86_400,
        description="As in `POST /collect`. Left out: the service's setting.",
        examples=[600],
    ),
]
MissedIs = Annotated[
    Missed,
    Field(
        description="When runs could not be started in time: `latest` makes up for the last one, `skip` for none.",
        examples=["latest"],
    ),
]
OverlapIs = Annotated[
    Overlap,
    Field(
        description="When the previous run is still open: `skip` the new one, `queue` it beside, or `cancel_previous`.",
        examples=["skip"],
    ),
]


class ScheduleFields(BaseModel):
    """What can be said of a schedule; what is left out has its default, or stays."""

    # The factories only keep a default out of the schema: these may be left out, but not be null.
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    cron: Cron = Field(default_factory=str)
    every_s: EverySeconds = Field(default_factory=int)
    zone: Zone = Field(default_factory=lambda: "UTC")
    max_age_s: MaxAge = Field(default_factory=int)
    missed: MissedIs = Field(default_factory=lambda: "latest")
    overlap: OverlapIs = Field(default_factory=lambda: "skip")


class NewScheduleBody(ScheduleFields):
    """A schedule to create."""

    name: Name
    cities: Cities = Field(default_factory=list)


class ScheduleChange(ScheduleFields):
    """What is to be changed of a schedule; what is left out stays. `cron` and `every_s` replace each other."""

    cities: Cities | None = Field(
        default_factory=list, description="City ids; null: the default cities.", examples=[[3439525]]
    )


class RunBody(BaseModel):
    """A nominal time that has passed."""

    nominal_at: Time = Field(description="When it was to run, ISO 8601 in UTC.")
    decided_at: Time = Field(description="When it was started or skipped, ISO 8601 in UTC.")
    collection_id: str | None = field("Its collection; null when it was skipped.", "hourly:2026-11-20T12:00Z")
    reason: str | None = field("Why it was skipped.", None)


class ScheduleBody(BaseModel):
    """A schedule."""

    name: str = field("Its name.", "hourly")
    cron: str | None = field("Its cron expression; null with `every_s`.", "0 * * * *")
    every_s: int | None = field("Seconds from run to run; null with `cron`.", None)
    zone: str = field("The time zone of `cron`.", "UTC")
    cities: int = field("How many cities each run collects.", 167)
    max_age_s: int = field("How old an observation may be to be used again, seconds.", 600)
    missed: Missed = field("What becomes of missed runs: skip, or latest.", "latest")
    overlap: Overlap = field("What becomes of a run while the previous one is open.", "skip")
    origin: Literal["settings", "api"] = field("Where it comes from; only those of the API can be changed.", "api")
    description: str = field("The expression in words.", "At the start of every hour")
    paused_at: Time | None = field("Since when it is paused, ISO 8601 in UTC; null when it is active.", None)
    next_at: Time | None = field("The next run, ISO 8601 in UTC; null while paused.", "2026-11-20T13:00:00.000Z")
    next_at_local: str | None = field(
        "The same on the clocks of the zone; null where the service does not know it.", "2026-11-20T13:00:00+00:00"
    )
    last_run: RunBody | None = field("The last run, started or skipped; null before the first.", example_of(RunBody))


class SchedulePage(BaseModel):
    """Schedules in the order of their names."""

    data: list[ScheduleBody] = field("A page of them.", [example_of(ScheduleBody)])
    next: str | None = field("Where the next page is; null on the last one.", "/schedules?limit=100&after=hourly")


class RunPage(BaseModel):
    """Runs, newest first."""

    data: list[RunBody] = field("A page of them.", [example_of(RunBody)])
    next: str | None = field(
        "Where the next page is; null on the last one.",
        "/schedules/hourly/runs?limit=100&after=2026-11-20T12%3A00%3A00.000Z",
    )


class ForeseenRunBody(BaseModel):
    """A run to be."""

    at: Time = Field(description="When it would run, ISO 8601 in UTC.")
    at_local: str = field("The same on the clocks of the zone.", "2026-11-20T13:00:00+00:00")
    ends_at: Time | None = field(
        "When it would end, as things are now; null when it would be skipped, or when nobody knows.",
        "2026-11-20T13:02:40.000Z",
    )
    skipped: bool = field("Whether it would be skipped because the previous run is still open.", False)


class ForeseenBody(BaseModel):
    """What a schedule would do."""

    name: str = field("Its name.", "hourly")
    description: str = field("The expression in words.", "At the start of every hour")
    next: list[ForeseenRunBody] = field("The next ten runs.", [example_of(ForeseenRunBody)])
    cities: int = field("How many cities each run would collect.", 167)
    cities_per_month: int = field(
        "Cities to request in the dearest of the next twelve months, at most: fewer where others fetched the same.",
        124_248,
    )
    others_per_month: int = field("The same of all other active schedules together.", 0)
    budget: int = field("Cities that a month may spend: `quota.cities_per_month`.", 1_000_000)
    share: float = field("`cities_per_month` / `budget`.", 0.124248)


def definition(settings: Settings, body: NewScheduleBody) -> Definition:
    """The schedule that a body describes, with the defaults of the settings for what it leaves out.

    Raises:
        Invalid: its expression or zone is wrong, or it has too many cities.
    """
    given = body.model_fields_set
    times = _times(body.cron if "cron" in given else None, body.every_s if "every_s" in given else None, body.zone)
    city_ids = _distinct(settings, body.cities) if "cities" in given else None
    max_age_s = body.max_age_s if "max_age_s" in given else settings.freshness.max_age_s
    return Definition(body.name, times, city_ids, max_age_s, body.missed, body.overlap)


def changed(settings: Settings, body: ScheduleChange, before: Definition) -> Definition:
    """The schedule after a change. Raises Invalid as above."""
    given = {name: getattr(body, name) for name in body.model_fields_set}
    zone = given.pop("zone", before.times.zone)
    is_new = given.keys() & {"cron", "every_s"}
    old = (None, None) if is_new else (before.times.cron, before.times.every_s)
    times = _times(given.pop("cron", old[0]), given.pop("every_s", old[1]), zone)
    if "cities" in given:
        cities = given.pop("cities")
        given["city_ids"] = None if cities is None else _distinct(settings, cities)
    return replace(before, times=times, **given)


def _distinct(settings: Settings, cities: Sequence[int]) -> tuple[int, ...]:
    distinct, most = tuple(dict.fromkeys(cities)), settings.collect.max_cities
    if len(distinct) > most:
        what = f"a collection has at most {most} distinct cities, not {len(distinct)}"
        raise Invalid(what, "body", "cities")
    return distinct


def _times(cron: str | None, every_s: int | None, zone: str) -> Times:
    try:
        return Times(cron, every_s, zone)
    except WrongExpression as error:
        raise Invalid(str(error), "body", error.field) from error


def run_body(run: RunState) -> dict[str, Any]:
    """The fields of RunBody."""
    return {
        "nominal_at": utc_text(run.nominal_at),
        "decided_at": utc_text(run.decided_at),
        "collection_id": run.collection_id,
        "reason": run.reason,
    }


def schedule_body(state: ScheduleState, cities: int) -> dict[str, Any]:
    """The fields of ScheduleBody; `cities`: how many each run collects."""
    times = state.times
    return {
        "name": state.name,
        "cron": times.cron,
        "every_s": times.every_s,
        "zone": times.zone,
        "cities": cities,
        "max_age_s": state.max_age_s,
        "missed": state.missed,
        "overlap": state.overlap,
        "origin": state.origin,
        "description": times.words(),
        "paused_at": _text(state.paused_at),
        "next_at": _text(state.next_at),
        "next_at_local": None if state.next_at is None or not times.has_zone else _local(times, state.next_at),
        "last_run": None if state.last_run is None else run_body(state.last_run),
    }


def foreseen_body(found: Foreseen) -> dict[str, Any]:
    """The fields of ForeseenBody."""
    times = found.wanted.times
    return {
        "name": found.wanted.name,
        "description": times.words(),
        "next": [
            {
                "at": utc_text(run.at),
                "at_local": _local(times, run.at),
                "ends_at": _text(run.ends_at),
                "skipped": run.skipped,
            }
            for run in found.runs
        ],
        "cities": found.cities,
        "cities_per_month": found.cities_per_month,
        "others_per_month": found.others_per_month,
        "budget": found.budget,
        "share": found.cities_per_month / found.budget,
    }


def _local(times: Times, moment: datetime) -> str:
    return times.local(moment).isoformat(timespec="seconds")


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else utc_text(moment)
