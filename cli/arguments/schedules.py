"""The command line of `raingauge schedules`: names, options and help. It must stay quick to import, as `cli.app`."""

from typing import Annotated, Any, Literal

import typer

from cli.arguments.options import DEFAULT_URL, Json, Url
from cli.session import session_of

schedules = typer.Typer(name="schedules", rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]
NewName = Annotated[
    str, typer.Argument(metavar="NAME", help="A name to choose: 1 to 40 of A-Z a-z 0-9 . _ -, not . or ..")
]
Cron = Annotated[
    str | None, typer.Option("--cron", metavar="EXPRESSION", help="Minute, hour, day, month, day of the week.")
]
Every = Annotated[int | None, typer.Option("--every-s", metavar="SECONDS", help="In place of --cron: 60 or more.")]
Zone = Annotated[
    str | None, typer.Option("--zone", metavar="ZONE", help="The time zone of --cron, as in Europe/Berlin.")
]
Cities = Annotated[
    str | None,
    typer.Option("--cities", metavar="FILE|-", help="As for `raingauge collect`. Left out: the default cities."),
]
MaxAge = Annotated[
    int | None,
    typer.Option("--max-age-s", metavar="SECONDS", help="How old an observation may be to be used again."),
]
Missed = Annotated[
    Literal["skip", "latest"] | None,
    typer.Option("--missed", help="Make up for the latest missed run, or skip all.", show_default=False),
]
Overlap = Annotated[
    Literal["skip", "queue", "cancel_previous"] | None,
    typer.Option("--overlap", help="What to do while the previous run is open.", show_default=False),
]
Limit = Annotated[int, typer.Option("--limit", metavar="ROWS", min=1, max=1000, help="Rows at most, 1 to 1000.")]
AfterName = Annotated[str | None, typer.Option("--after", metavar="NAME", help="Only names that follow this one.")]
AfterTime = Annotated[str | None, typer.Option("--after", metavar="TIME", help="Only runs before this time.")]


@schedules.callback()
def about_schedules() -> None:
    """Collect again and again.

    \b
    Examples:
      raingauge schedules create hourly --cron '0 * * * *'
      raingauge schedules list
      raingauge schedules runs hourly

    A run is a collection: its id is the schedule's name and the time, as in hourly:2026-11-20T12:00Z.
    """


@schedules.command(name="list")
def list_schedules(
    context: typer.Context, limit: Limit = 100, after: AfterName = None, json: Json = False, url: Url = DEFAULT_URL
) -> None:
    """Print schedules, in the order of their names.

    \b
    Examples:
      raingauge schedules list
      raingauge schedules list --json | jq -r '.data[].next_at'
    """
    from cli.client import Api
    from cli.commands import schedules as actions

    actions.list_all(Api(url, session_of(context)), limit, after, json=json)


@schedules.command()
def show(context: typer.Context, name: Name, json: Json = False, url: Url = DEFAULT_URL) -> None:
    """Print a schedule: when it runs next, and how it last ran.

    \b
    Examples:
      raingauge schedules show hourly
    """
    from cli.client import Api
    from cli.commands import schedules as actions

    actions.show(Api(url, session_of(context)), name, json=json)


@schedules.command()
def create(
    context: typer.Context,
    name: NewName,
    cron: Cron = None,
    every_s: Every = None,
    zone: Zone = None,
    cities: Cities = None,
    max_age_s: MaxAge = None,
    missed: Missed = None,
    overlap: Overlap = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the next runs and the cost, and store nothing.")
    ] = False,
    json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Create a schedule; it runs first at the next time from now.

    \b
    Examples:
      raingauge schedules create hourly --cron '0 * * * *' --dry-run
      raingauge schedules create hourly --cron '0 * * * *'
      raingauge schedules create mornings --cron '30 6 * * MON-FRI' --zone Europe/Berlin --cities ids.csv
      raingauge schedules create often --every-s 900 --overlap queue

    What the month cannot pay for, together with the other active schedules, is refused. Runs that
    were missed are made up for by one, unless --missed skip. A run is skipped while the previous
    one is open, unless --overlap says otherwise.
    """
    from cli.client import Api
    from cli.commands import schedules as actions

    body = _given(cron=cron, every_s=every_s, zone=zone, max_age_s=max_age_s, missed=missed, overlap=overlap)
    api = Api(url, session_of(context))
    if dry_run:
        return actions.foresee(api, name, body, cities, json=json)
    return actions.create(api, name, body, cities, json=json)


@schedules.command()
def change(
    context: typer.Context,
    name: Name,
    cron: Cron = None,
    every_s: Every = None,
    zone: Zone = None,
    cities: Cities = None,
    default_cities: Annotated[bool, typer.Option("--default-cities", help="The default cities again.")] = False,
    max_age_s: MaxAge = None,
    missed: Missed = None,
    overlap: Overlap = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Change what is given of a schedule; the rest stays.

    \b
    Examples:
      raingauge schedules change hourly --cron '5 * * * *'
      raingauge schedules change hourly --cities ids.csv --overlap queue
      raingauge schedules change hourly --default-cities

    It runs at the next time from now. A schedule of the settings is changed there.
    """
    from cli.client import Api
    from cli.commands import schedules as actions
    from cli.errors import Misused

    if default_cities and cities is not None:
        raise Misused("give either --cities or --default-cities")
    body = _given(cron=cron, every_s=every_s, zone=zone, max_age_s=max_age_s, missed=missed, overlap=overlap)
    body |= {"cities": None} if default_cities else {}
    actions.change(Api(url, session_of(context)), name, body, cities, json=json)


@schedules.command()
def pause(context: typer.Context, name: Name, json: Json = False, url: Url = DEFAULT_URL) -> None:
    """Start no further run. What was started goes on.

    \b
    Examples:
      raingauge schedules pause hourly
    """
    from cli.client import Api
    from cli.commands import schedules as actions

    actions.switch(Api(url, session_of(context)), name, "pause", json=json)


@schedules.command()
def resume(context: typer.Context, name: Name, json: Json = False, url: Url = DEFAULT_URL) -> None:
    """Let a paused schedule run again, from the next time from now.

    \b
    Examples:
      raingauge schedules resume hourly
    """
    from cli.client import Api
    from cli.commands import schedules as actions

    actions.switch(Api(url, session_of(context)), name, "resume", json=json)


@schedules.command()
def delete(context: typer.Context, name: Name, url: Url = DEFAULT_URL) -> None:
    """Delete a schedule and the record of its runs. Its collections stay.

    \b
    Examples:
      raingauge schedules delete hourly
    """
    from cli.client import Api
    from cli.commands import schedules as actions

    actions.delete(Api(url, session_of(context)), name)


@schedules.command()
def runs(
    context: typer.Context,
    name: Name,
    limit: Limit = 20,
    after: AfterTime = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Print what became of each time, the newest first.

    \b
    Examples:
      raingauge schedules runs hourly
      raingauge schedules runs hourly --json | jq -r '.data[].collection_id'
    """
    from cli.client import Api
    from cli.commands import schedules as actions

    actions.list_runs(Api(url, session_of(context)), name, limit, after, json=json)


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}
