"""The routes below `/schedules`. They speak HTTP."""

from datetime import UTC
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from producer.access.clients import note_subject
from producer.api.answers import link
from producer.api.parts import SchedulesDep, SettingsDep
from producer.api.periods import LATEST, Moment
from producer.api.problems import ELSEWHERE, UNAVAILABLE, WORDS, Invalid, responses
from producer.api.requests import StrictRoute
from producer.api.schedules.bodies import (
    ForeseenBody,
    NewScheduleBody,
    RunPage,
    ScheduleBody,
    ScheduleChange,
    SchedulePage,
    changed,
    definition,
    foreseen_body,
    run_body,
    schedule_body,
)
from producer.api.schemas import example_of
from producer.schedules.budget import Overspent
from producer.schedules.registry import OtherSchedule, Schedules
from producer.schedules.storage import ScheduleState
from producer.schedules.times import WrongExpression
from raingauge.contracts import utc_text
from raingauge.web import UNEXPECTED, shown

router = APIRouter(tags=["schedules"], route_class=StrictRoute)

MAX_LISTED: Final = 1000
NO_SCHEDULE: Final = "there is no schedule nightly"
TOO_LONG: Final = "the body is longer than 4004096 bytes"
OTHER: Final = "a schedule hourly exists already, with another content"
OF_SETTINGS: Final = (
    "the schedule hourly comes from the settings: change `schedules` there and restart the producer; here it can be "
    "paused and resumed"
)
OVERSPENT: Final = (
    "cron: it would request up to 7,454,880 cities in 2026-12, and the budget is 1,000,000 (quota.cities_per_month): "
    "run it less often, collect fewer cities, or pause another schedule"
)
Name = Annotated[str, Path(description="The schedule's name, for example `hourly`.", examples=["hourly"])]


def describe(**details: str) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI entries of problems."""
    described = responses(**({"s422": f"at: {WORDS['extra_forbidden']}"} | details), s500=UNEXPECTED, s503=UNAVAILABLE)
    meanings = {
        404: "There is no such schedule.",
        409: "The name is taken by another schedule, or by one of the settings; nothing was changed.",
    }
    for status in described.keys() & meanings.keys():
        described[status]["description"] = meanings[int(status)]
    return described


CREATE_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    201: {
        "headers": {
            "Location": {
                "description": "Where the schedule is.",
                "schema": {"type": "string"},
                "example": "/schedules/hourly",
            }
        }
    },
    200: {
        "model": ScheduleBody | ForeseenBody,
        "description": "The same schedule exists already; or a dry run.",
        "content": {
            "application/json": {
                "examples": {
                    "exists already": {"value": example_of(ScheduleBody)},
                    "dry run": {"value": example_of(ForeseenBody)},
                }
            }
        },
    },
    **describe(s403=ELSEWHERE, s409=OTHER, s413=TOO_LONG, s422=OVERSPENT),
}


@router.post(
    "/schedules",
    operation_id="create_schedule",
    summary="Create a schedule",
    status_code=201,
    response_model=ScheduleBody,
    response_description="Created: it runs first at `next_at`.",
    responses=CREATE_RESPONSES,
)
async def create(
    request: Request,
    response: Response,
    schedules: SchedulesDep,
    settings: SettingsDep,
    body: NewScheduleBody,
    dry_run: Annotated[
        bool,
        Query(description="true: answer when it would run and what it would cost; store nothing.", examples=[False]),
    ] = False,
) -> Any:
    """Creates a collection that starts again and again, first at the next time from now.

    Give either `cron` or `every_s`. The same schedule again is answered 200, another one of the same name 409. What
    the month cannot pay for, together with the other active schedules, is refused with 422 and the figures.

    `dry_run=true` answers the next ten runs, when each would end, and the cost; a schedule of the same name counts
    as replaced.
    """
    note_subject(body.name)
    wanted = definition(settings, body)
    try:
        if dry_run:
            return JSONResponse(foreseen_body(await schedules.foresee(wanted)))
        any_age = "max_age_s" not in body.model_fields_set
        state, is_new = await schedules.create(wanted, any_age=any_age)
    except Overspent as error:
        raise Invalid(str(error), "body", "every_s" if wanted.times.cron is None else "cron") from error
    except OtherSchedule as error:
        raise HTTPException(409, str(error)) from error
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"{request.scope['root_path']}/schedules/{state.name}"
    return schedule_body(state, schedules.cities_of(state))


@router.get(
    "/schedules",
    operation_id="schedules",
    summary="Schedules",
    response_description="A page of them.",
    responses=describe(s422="limit: Input should be less than or equal to 1000"),
)
async def listed(
    request: Request,
    response: Response,
    schedules: SchedulesDep,
    after: Annotated[
        str,
        Query(
            pattern="^[A-Za-z0-9._-]*$",
            description="Only schedules whose names follow this one.",
            examples=["a"],
        ),
    ] = "",
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED, description="Schedules of a page.", examples=[100])] = 100,
) -> SchedulePage:
    """Lists all schedules in the order of their names. `next` and the `Link` header lead to the next page."""
    found = await schedules.page(after, limit + 1)
    next_url = None
    if len(found) > limit:
        query = urlencode({"limit": limit, "after": found[limit - 1].name})
        next_url = f"{request.scope['root_path']}/schedules?{query}"
        response.headers["Link"] = link(next_url)
    data = [schedule_body(state, schedules.cities_of(state)) for state in found[:limit]]
    return SchedulePage.model_validate({"data": data, "next": next_url})


@router.get(
    "/schedules/{name}",
    operation_id="schedule",
    summary="A schedule",
    response_description="The schedule as it stands.",
    responses=describe(s404=NO_SCHEDULE),
)
async def one(schedules: SchedulesDep, name: Name) -> ScheduleBody:
    """Answers how a schedule stands: when it runs next, and how it last ran."""
    return _body(schedules, await schedules.find(_known(name)), name)


@router.get(
    "/schedules/{name}/runs",
    operation_id="schedule_runs",
    summary="Runs of a schedule, newest first",
    response_description="A page of them.",
    responses=describe(s404=NO_SCHEDULE, s422="limit: Input should be less than or equal to 1000"),
)
async def runs(
    request: Request,
    response: Response,
    schedules: SchedulesDep,
    name: Name,
    after: Annotated[
        Moment,
        Query(
            default_factory=lambda: LATEST,  # not null: it may be left out
            description="Only runs whose `nominal_at` is before this.",
            examples=["2026-11-20T12:00:00Z"],
        ),
    ],
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED, description="Runs of a page.", examples=[100])] = 100,
) -> RunPage:
    """Lists what became of each nominal time: the collection that was started, or why there is none."""
    try:
        before = after.astimezone(UTC)
    except OverflowError:
        raise Invalid("it is outside the years 1 to 9999", "query", "after") from None
    found = await schedules.runs(_known(name), before, limit + 1)
    if found is None:
        raise _missing(name)
    next_url = None
    if len(found) > limit:
        query = urlencode({"limit": limit, "after": utc_text(found[limit - 1].nominal_at)})
        next_url = f"{request.scope['root_path']}/schedules/{name}/runs?{query}"
        response.headers["Link"] = link(next_url)
    return RunPage.model_validate({"data": [run_body(run) for run in found[:limit]], "next": next_url})


@router.patch(
    "/schedules/{name}",
    operation_id="change_schedule",
    summary="Change a schedule",
    response_description="The schedule afterwards.",
    responses=describe(s403=ELSEWHERE, s404=NO_SCHEDULE, s409=OF_SETTINGS, s413=TOO_LONG, s422=OVERSPENT),
)
async def change(schedules: SchedulesDep, settings: SettingsDep, name: Name, body: ScheduleChange) -> ScheduleBody:
    """Sets what the body names; the next run is after now. A schedule of the settings cannot be changed here (409)."""
    place = next((field for field in ("cron", "every_s", "cities") if field in body.model_fields_set), "zone")
    try:
        state = await schedules.change(_known(name), lambda before: changed(settings, body, before), body.cities or ())
    except Overspent as error:
        raise Invalid(str(error), "body", place) from error
    except OtherSchedule as error:
        raise HTTPException(409, str(error)) from error
    return _body(schedules, state, name)


@router.post(
    "/schedules/{name}/pause",
    operation_id="pause_schedule",
    summary="Pause a schedule",
    response_description="The schedule afterwards.",
    responses=describe(s403=ELSEWHERE, s404=NO_SCHEDULE),
)
async def pause(schedules: SchedulesDep, name: Name) -> ScheduleBody:
    """Starts no further run; a collection that was started goes on. No body is needed."""
    return _body(schedules, await schedules.pause(_known(name)), name)


@router.post(
    "/schedules/{name}/resume",
    operation_id="resume_schedule",
    summary="Resume a schedule",
    response_description="The schedule afterwards.",
    responses=describe(s403=ELSEWHERE, s404=NO_SCHEDULE, s422=OVERSPENT.replace("cron", "name")),
)
async def resume(schedules: SchedulesDep, name: Name) -> ScheduleBody:
    """Lets a paused schedule run again, at the next time from now. No body is needed."""
    try:
        state = await schedules.resume(_known(name))
    except (Overspent, WrongExpression) as error:
        raise Invalid(str(error), "path", "name") from error
    return _body(schedules, state, name)


@router.delete(
    "/schedules/{name}",
    operation_id="delete_schedule",
    summary="Delete a schedule",
    status_code=204,
    response_description="It is deleted.",
    responses=describe(s403=ELSEWHERE, s404=NO_SCHEDULE, s409=OF_SETTINGS),
)
async def delete(schedules: SchedulesDep, name: Name) -> None:
    """Deletes a schedule and the record of its runs. Their collections stay, and those that are open go on."""
    try:
        deleted = await schedules.delete(_known(name))
    except OtherSchedule as error:
        raise HTTPException(409, str(error)) from error
    if not deleted:
        raise _missing(name)


def _known(name: str) -> str:
    """The name, if a schedule can have it: others would be an error in some databases."""
    if not name.isascii() or "\0" in name:
        raise _missing(name)
    return name


def _missing(name: str) -> HTTPException:
    return HTTPException(404, f"there is no schedule {shown(name)}")


def _body(schedules: Schedules, state: ScheduleState | None, name: str) -> ScheduleBody:
    if state is None:
        raise _missing(name)
    return ScheduleBody.model_validate(schedule_body(state, schedules.cities_of(state)))
