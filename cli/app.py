"""The command line of `raingauge`: names, options and help. What a command does is in a module that it imports itself.

This module must stay quick to import: `raingauge --help` needs nothing else, and every command needs this first.
Examples come first in each help, because they are what people read.
"""

from typing import Annotated, Literal

import typer

from cli.arguments.completion import complete_collections
from cli.arguments.history import kept
from cli.arguments.options import DEFAULT_URL, Json, Url
from cli.arguments.schedules import schedules
from cli.commands.admin import admin
from cli.commands.proof import proof
from cli.session import session_of

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
cities = typer.Typer(name="cities", rich_markup_mode=None)

Id = Annotated[str, typer.Argument(metavar="ID", help="The collection's id.", autocompletion=complete_collections)]
NewId = Annotated[str, typer.Argument(metavar="ID", help="An id to choose: 1 to 64 of A-Z a-z 0-9 . _ -, not . or ..")]
Units = Annotated[
    Literal["metric", "imperial", "standard"],
    typer.Option("--units", help="metric: °C; imperial: °F and mph; standard: K."),
]
CitiesFile = Annotated[
    str, typer.Option("--file", envvar="RAINGAUGE_CITIES__FILE", metavar="FILE", help="The file of cities.")
]
Status = Literal["queued", "collecting", "waiting", "done", "cancelled", "open"]
Format = Literal["csv", "json", "jsonl", "geojson", "parquet"]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"raingauge {version('raingauge')}")
        raise typer.Exit


@app.callback()
def raingauge(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Weather for thousands of cities on one key, never faster than the key allows.

    \b
    Examples:
      raingauge run                                everything in one process
      raingauge collect 1 --wait                   the default cities, and a bar
      raingauge get 1                              their weather as a table
      raingauge export 1 -o weather.csv            and as a file
      raingauge cities match places.csv > ids.csv  city ids of a list of names
      raingauge collect trip --cities ids.csv      the weather of these

    The API's address comes from --url or RAINGAUGE_URL. Data goes to stdout, everything else to stderr.

    \b
    Exit status: 0 done, 1 unexpected or a proof that fails, 2 usage or settings,
    3 the API is away, 4 refused, 5 a wait ended with failed cities or cancelled,
    130 Ctrl-C.
    """


@app.command()
def run() -> None:
    """Run everything in one process: API, collecting, SQLite.

    \b
    Examples:
      raingauge run
      OPENWEATHER_API_KEY=... raingauge run
      RAINGAUGE_HTTP__PORT=8080 raingauge run

    Without a key the weather is simulated. Settings come from config.env.yml and
    the environment; data is in var/. Ctrl-C stops it; it goes on where it was.
    """
    from cli.commands.embedded import run_embedded

    run_embedded()


@app.command()
def collect(
    context: typer.Context,
    collection_id: NewId,
    cities: Annotated[
        str | None,
        typer.Option(
            "--cities",
            metavar="FILE|-",
            help="One id a line, a CSV with a column city_id or id, or a JSON list. Left out: the default cities.",
        ),
    ] = None,
    max_age_s: Annotated[
        int | None,
        typer.Option(
            "--max-age-s", metavar="SECONDS", help="How old an observation may be to be used again; 0: fetch all."
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it ends: exit status 0 or 5.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what it would cost, and collect nothing.")] = False,
    json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Collect the weather of cities.

    \b
    Examples:
      raingauge collect 1 --wait
      raingauge collect capitals --cities ids.csv
      echo 3441575 | raingauge collect mine --cities - --wait
      raingauge collect big --cities ids.csv --dry-run

    The API accepts it at once and goes on by itself. The same command again collects nothing twice.
    """
    from cli.client import Api
    from cli.commands import collections

    body = {} if max_age_s is None else {"max_age_s": max_age_s}
    if dry_run:
        return collections.estimate(Api(url, session_of(context)), collection_id, body, cities, json=json)
    session = session_of(context)
    return collections.collect(Api(url, session), session, collection_id, body, cities, wait=wait, json=json)


@app.command()
def watch(context: typer.Context, collection_id: Id, json: Json = False, url: Url = DEFAULT_URL) -> None:
    """Follow a collection until it ends.

    \b
    Examples:
      raingauge watch 1
      raingauge watch 1 && raingauge export 1 -o weather.csv

    Ends with exit status 5 when cities failed or it was cancelled. Ctrl-C ends the watching, not the collection.
    """
    from cli.client import Api
    from cli.commands import collections

    session = session_of(context)
    collections.watch(Api(url, session), session, collection_id, json=json)


@app.command()
def get(
    context: typer.Context,
    collection_id: Id,
    fields: Annotated[
        str, typer.Option("--fields", metavar="NAMES", help="More columns, as in country,pressure,wind_speed.")
    ] = "",
    limit: Annotated[int, typer.Option("--limit", metavar="ROWS", help="Rows at most, 1 to 10000.")] = 1000,
    after: Annotated[int | None, typer.Option("--after", metavar="CITY", help="Only city ids above this.")] = None,
    units: Units = "metric",
    json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Print the readings of a collection.

    \b
    Examples:
      raingauge get 1
      raingauge get 1 --fields country,wind_speed --units imperial
      raingauge get 1 --json | jq '.data[].temperature'
    """
    from cli.client import Api
    from cli.commands import collections

    names = [name for name in fields.split(",") if name]
    parameters = {"limit": limit, "after": after}
    collections.get(Api(url, session_of(context)), collection_id, parameters, names, units, json=json)


@app.command(name="list")
def list_collections(
    context: typer.Context,
    status: Annotated[Status | None, typer.Option("--status", help="Only these; open: not ended.")] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="ROWS", help="Rows at most, 1 to 1000.")] = 100,
    after: Annotated[str | None, typer.Option("--after", metavar="ID", help="Only those older than this id.")] = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Print collections, the newest first.

    \b
    Examples:
      raingauge list
      raingauge list --status open
      raingauge list --json | jq -r '.collections[].id'
    """
    from cli.client import Api
    from cli.commands import collections

    collections.list_all(Api(url, session_of(context)), status, limit, after, json=json)


@app.command()
def cancel(context: typer.Context, collection_id: Id, json: Json = False, url: Url = DEFAULT_URL) -> None:
    """End a collection. What is collected stays readable.

    \b
    Examples:
      raingauge cancel 1
    """
    from cli.client import Api
    from cli.commands import collections

    collections.cancel(Api(url, session_of(context)), collection_id, json=json)


@app.command()
def export(
    context: typer.Context,
    collection_id: Id,
    form: Annotated[
        Format | None, typer.Option("--format", help="Left out: by the file's suffix, or csv.", show_default=False)
    ] = None,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE|-", help="Where to; - is stdout.")] = "-",
    units: Units = "metric",
    url: Url = DEFAULT_URL,
) -> None:
    """Write all readings of a collection to a file or stdout.

    \b
    Examples:
      raingauge export 1 -o weather.csv
      raingauge export 1 -o map.geojson
      raingauge export 1 --format jsonl | head -3

    The file appears when it is complete, and replaces one of the same name.
    """
    from cli.client import Api
    from cli.commands import collections

    collections.export(Api(url, session_of(context)), collection_id, form, units, output)


@app.command()
def quota(context: typer.Context, json: Json = False, url: Url = DEFAULT_URL) -> None:
    """Print how the provider account stands.

    \b
    Examples:
      raingauge quota
      raingauge quota --json | jq .held

    One screen: the quota held now, what is released next, the month's budget and
    forecast, and why the gate is closed when it is.
    """
    from cli.client import Api
    from cli.commands import account

    account.quota(Api(url, session_of(context)), json=json)


@app.command()
def events(
    context: typer.Context,
    after: Annotated[
        int | None,
        typer.Option("--after", metavar="NUMBER", help="Only events above this number. Left out: the newest."),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="ROWS", min=1, max=1000, help="Rows at most, 1 to 1000.")
    ] = 20,
    json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Print what happened.

    \b
    Examples:
      raingauge events
      raingauge events --after 120
      raingauge events --json --limit 1000

    Collections that ended, the gate that closed, what clients reported. With
    --json it is one page of the API, from --after on.
    """
    from cli.client import Api
    from cli.commands import events as reported

    reported.list_events(Api(url, session_of(context)), after, limit, json=json)


@cities.callback()
def about_cities() -> None:
    """Find city ids by name or place.

    \b
    Examples:
      raingauge cities search montev
      raingauge cities match places.csv > ids.csv

    Both work without the API, on the file of cities that `make cities` builds.
    """


@cities.command()
def search(
    query: Annotated[str, typer.Argument(metavar="[NAME]", help="How its name begins, in any language.")] = "",
    country: Annotated[
        str, typer.Option("--country", metavar="CODE|NAME", help="Only there: UY, URY or Uruguay.")
    ] = "",
    near: Annotated[str, typer.Option("--near", metavar="LAT,LON", help="The nearest ones first.")] = "",
    limit: Annotated[
        int, typer.Option("--limit", metavar="ROWS", min=1, max=10_000, help="Rows at most, 1 to 10000.")
    ] = 20,
    json: Annotated[bool, typer.Option("--json", help="Print the JSON that GET /cities answers.")] = False,
    file: CitiesFile = "var/cities.db",
) -> None:
    """Print the cities whose names begin with NAME, the largest first.

    \b
    Examples:
      raingauge cities search muen
      raingauge cities search san --country UY
      raingauge cities search --near=-34.9,-56.2 --limit 5
    """
    from cli.commands.cities import search as search_cities

    search_cities(file, query, country, near, limit, as_json=json)


@cities.command()
def match(
    places: Annotated[
        str,
        typer.Argument(
            metavar="FILE|-", help="A CSV with the columns name, country and, where known, admin1; or lat and lon."
        ),
    ],
    prefer: Annotated[
        Literal["largest"] | None, typer.Option("--prefer", help="Where several cities fit, take the largest.")
    ] = None,
    file: CitiesFile = "var/cities.db",
) -> None:
    """Print the city ids of a list of places, as CSV.

    \b
    Examples:
      raingauge cities match places.csv > ids.csv
      raingauge cities match places.csv --prefer largest > ids.csv
      raingauge collect trip --cities ids.csv --wait

    Nothing is guessed: rows that fit several cities, or none, are reported on
    stderr with what is like them, and the exit status is 2.
    """
    from cli.commands.cities import match_places

    match_places(file, places, prefer_largest=prefer is not None)


app.add_typer(kept)
app.add_typer(cities)
app.add_typer(schedules)
app.add_typer(proof)
app.add_typer(admin)
