"""Commands about what is kept: the history of cities, and deleting collections."""

import re
import sys
from typing import Literal
from urllib.parse import quote

import typer

from cli.client import Api, Parameters
from cli.commands.collections import NUMBERS, Units, cell, heading
from cli.errors import Misused
from cli.output import document, note, plain, table

SHOWN = ("fetched_at", "city_id", "temperature", "humidity", "observed_at")
PAGE = 1000


def history(
    api: Api, city: str, period: dict[str, str | None], fields: str, form: Literal["table", "csv", "json"], units: Units
) -> None:
    """Print the history of cities: a table or CSV of all rows, or the API's JSON, a page of it."""
    moments = {name: _moment(text) for name, text in period.items()}
    given: Parameters = {"city_id": city, **moments, "fields": fields or None, "units": units}
    if form == "json":
        return document(api.get("/readings", given).body)
    if form == "csv":
        with api.stream("/readings", {**given, "format": "csv"}) as chunks:
            sys.stdout.buffer.writelines(chunks)
        sys.stdout.flush()
        return None
    names = [*dict.fromkeys((*SHOWN[:4], *filter(None, fields.split(",")), SHOWN[4]))]
    found = api.pages("/readings", "data", {**given, "limit": PAGE})
    rows = [[cell(name, row[name]) for name in names] for row in found]
    headings = {name: "fetched_at (UTC)" if name == "fetched_at" else heading(name, units) for name in names}
    if rows:
        table([*headings.values()], rows, [headings[name] for name in names if name in NUMBERS])
    else:
        note("nothing was observed there then; `raingauge cities search` finds a city's id")
    return None


def _moment(text: str | None) -> str | None:
    """A date is its first moment in UTC."""
    return f"{text}T00:00:00Z" if text is not None and re.fullmatch(r"\d{4}-\d\d-\d\d", text) else text


def delete(api: Api, collection_id: str, *, is_sure: bool) -> None:
    """Delete a collection, after a question unless `is_sure`.

    Raises:
        Misused: nobody is there to answer.
    """
    if not is_sure:
        found = api.get("/get", {"id": collection_id, "data": "false"}).json
        if not sys.stdin.isatty():
            raise Misused(f"{plain(collection_id)} would be deleted for good; add --yes to do so without a question")
        what = f"{found['id']} ({found['status']}, {found['collected']:,} of {found['total']:,} collected)"
        if not typer.confirm(f"Delete {plain(what)} for good?", err=True):
            return note("nothing was deleted")
    api.delete(f"/collections/{quote(collection_id, safe='')}")
    return note(f"{collection_id} is deleted")
