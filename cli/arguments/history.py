"""The command line of `raingauge history` and `raingauge delete`. It must stay quick to import, as `cli.app`."""

from typing import Annotated, Literal

import typer

from cli.arguments.completion import complete_collections
from cli.arguments.options import DEFAULT_URL, Url
from cli.session import session_of

kept = typer.Typer(rich_markup_mode=None)

Id = Annotated[str, typer.Argument(metavar="ID", help="The collection's id.", autocompletion=complete_collections)]


@kept.command()
def history(
    context: typer.Context,
    city: Annotated[str, typer.Argument(metavar="CITY", help="A city's id, or several with commas.")],
    since: Annotated[str | None, typer.Option("--from", metavar="TIME", help="Not before: a date or a time.")] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Before it: a date or a time.")] = None,
    fields: Annotated[str, typer.Option("--fields", metavar="FIELDS", help="More columns: pressure,clouds.")] = "",
    form: Annotated[
        Literal["table", "csv", "json"], typer.Option("--format", help="csv: a file; json: a page of the API.")
    ] = "table",
    units: Annotated[
        Literal["metric", "imperial", "standard"],
        typer.Option("--units", help="metric: °C; imperial: °F and mph; standard: K."),
    ] = "metric",
    url: Url = DEFAULT_URL,
) -> None:
    """Print what was observed in a city, oldest first.

    \b
    Examples:
      raingauge history 3439525 --from 2026-11-01
      raingauge history 3439525,3440714 --format csv > weather.csv
      raingauge history 3439525 --fields pressure,wind_speed

    Times are UTC. `raingauge cities search` finds a city's id.
    """
    from cli.client import Api
    from cli.commands import kept as commands

    period = {"from": since, "to": until}
    commands.history(Api(url, session_of(context)), city, period, fields, form, units)


@kept.command()
def delete(
    context: typer.Context,
    collection_id: Id,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Delete a collection that has ended, with its readings.

    \b
    Examples:
      raingauge delete 1
      raingauge delete 1 --yes

    It cannot be undone. Cancel an open collection first: `raingauge cancel`.
    """
    from cli.client import Api
    from cli.commands import kept as commands

    commands.delete(Api(url, session_of(context)), collection_id, is_sure=yes)
