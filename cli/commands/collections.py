"""Commands about collections: accept, show, follow, list, cancel and export them."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal
from urllib.parse import quote

from rich.text import Text

from cli.city_ids import STDIN, load_text, read_city_ids
from cli.client import Answer, Api, Parameters, following
from cli.errors import Misused
from cli.output import Cell, bar, document, note, plain, say, screen, status, table, whole_file
from cli.session import Session
from cli.times import ago, minute, moment, spelled, until
from cli.waiting import ENDED, REASONS, check, follow

Units = Literal["metric", "imperial", "standard"]
Format = Literal["csv", "json", "jsonl", "geojson", "parquet"]
DEGREES: Final = {"metric": "°C", "imperial": "°F", "standard": "K"}
SPEEDS: Final = {"metric": "m/s", "imperial": "mph", "standard": "m/s"}
SHOWN: Final = ("city_id", "name", "temperature", "humidity", "observed_at")
LONG: Final = ("name", "description")
NUMBERS: Final = ("temperature", "humidity", "pressure", "wind_speed", "clouds", "city_id", "feels_like")
FAILURES_SHOWN: Final = 10
BAR: Final = 8
LISTED: Final = (
    "id", "status", "reason", "progress", "collected", "failed", "total", "requested_at", "finished_at", "expected_at"
)  # fmt: skip
"""The columns of a piped list, with the API's values; on a terminal a list is drawn instead."""


def collect(
    api: Api, session: Session, collection_id: str, body: dict[str, Any], cities: str | None, *, wait: bool, json: bool
) -> None:
    """Accept a collection, and with `wait` follow it.

    Raises:
        Unfinished: it ended with failed cities, or cancelled.
    """
    request = _request(collection_id, body, cities)
    try:
        answer = api.post("/collect", request)
    except KeyboardInterrupt:
        note(f"{collection_id} may be accepted; `raingauge get {collection_id}` shows it, or repeat the command")
        raise
    if not wait:
        return document(answer.body) if json else _accepted(answer)
    return watch(api, session, collection_id, json=json)


def estimate(api: Api, collection_id: str, body: dict[str, Any], cities: str | None, *, json: bool) -> None:
    """Print what a collection would cost, and accept nothing."""
    answer = api.post("/collect", _request(collection_id, body, cities), {"dry_run": "true"})
    if json:
        return document(answer.body)
    found = answer.json
    if found["settled"] == found["total"]:
        return say(f"{found['id']} is done: it would cost nothing, all {found['total']:,} cities are settled")
    end = until(found["expected_at"], answer.now) or "at an unknown time"
    return say(
        f"{found['id']} would cost {found['cost']:,} of {found['total']:,} cities "
        f"({found['fresh']:,} are fresh enough, {found['settled']:,} are settled) and be done {end}"
    )


def watch(api: Api, session: Session, collection_id: str, *, json: bool) -> None:
    """Follow a collection to its end, and print how it ended.

    Raises:
        Unfinished: it ended with failed cities, or cancelled.
    """
    answer = follow(api, collection_id, session)
    if json:
        document(answer.body)
    else:
        say(_summary(answer.json))
    check(answer.json)


def get(api: Api, collection_id: str, parameters: Parameters, fields: list[str], units: Units, *, json: bool) -> None:
    """Print the readings of a collection, a page of them."""
    given = {"id": collection_id, "fields": ",".join(fields) or None, **parameters}
    answer = api.get("/get", given | ({} if units == "metric" else {"units": units}))
    if json:
        return document(answer.body)
    found = answer.json
    names = [*SHOWN[:4], *fields, SHOWN[4]]
    headings = {name: heading(name, units) for name in names}
    rows = ([cell(name, row.get(name)) for name in names] for row in found["data"])
    if found["data"]:
        table([*headings.values()], rows, [headings[name] for name in names if name in NUMBERS], LONG)
    note(f"{_summary(found)}{_outlook(found, answer)}")
    _report_failures(found["errors"])
    if found["next"] is not None:
        after = following(found["next"])["after"]
        note(f"there are more: --after {after} shows the next ones, `raingauge export {collection_id}` writes all")
    return None


def list_all(api: Api, state: str | None, limit: int, after: str | None, *, json: bool) -> None:
    """Print collections, the newest first."""
    answer = api.get("/collections", {"status": state, "limit": limit, "after": after})
    if json:
        return document(answer.body)
    found = answer.json
    if found["collections"]:
        if screen().is_terminal:
            table(
                ("id", "status", "progress", "collected", "requested", "end"),
                _drawn(found, answer),
                (),
                ("id", "status"),
            )
        else:
            table(
                (*LISTED,),
                (["" if each[name] is None else str(each[name]) for name in LISTED] for each in found["collections"]),
            )
    else:
        note("there are none" if state or after else "there are no collections; `raingauge collect 1` starts one")
    if found["next"] is not None:
        note(f"there are older ones: --after {following(found['next'])['after']}")
    return None


def cancel(api: Api, collection_id: str, *, json: bool) -> None:
    """End a collection, and print how it stands."""
    answer = api.post(f"/collections/{quote(collection_id, safe='')}/cancel")
    return document(answer.body) if json else say(_summary(answer.json))


def export(api: Api, collection_id: str, form: Format | None, units: Units, output: str) -> None:
    """Write all readings of a collection to a file, which appears when it is complete, or to stdout.

    Raises:
        Misused: the file cannot be written, or binary data would go to a terminal.
    """
    chosen = form or _form_of(output)
    if output == STDIN and chosen == "parquet" and sys.stdout.isatty():
        raise Misused("parquet is binary; name a file by -o")
    path = f"/collections/{quote(collection_id, safe='')}/export"
    with api.stream(path, {"format": chosen, "units": units}) as chunks:
        if output == STDIN:
            _write(sys.stdout.buffer, chunks)
        else:
            with whole_file(Path(output)) as file:
                _write(file, chunks)
            note(f"wrote {output}")


def _request(collection_id: str, body: dict[str, Any], cities: str | None) -> dict[str, Any]:
    named = {} if cities is None else {"cities": read_city_ids(cities, load_text(cities))}
    return {"id": collection_id, **body, **named}


def _accepted(answer: Answer) -> None:
    found = answer.json
    end = until(found["expected_at"], answer.now)
    size = f"  {found['total']:,} cities" + (f", done {end}" if end else "")
    say(Text.assemble((plain(found["id"]), "bold"), "  ", status(found["status"]), size))
    note(f"`raingauge watch {found['id']}` follows it")


def _summary(found: dict[str, Any]) -> Text:
    failed = f", {found['failed']:,} failed" if found["failed"] else ""
    counts = f"  {found['collected']:,} of {found['total']:,} collected{failed}"
    return Text.assemble((plain(found["id"]), "bold"), "  ", status(found["status"]), counts)


def _outlook(found: dict[str, Any], answer: Answer) -> str:
    """What follows the counts of a collection that has not ended."""
    if found["status"] == "waiting":
        return f"; {REASONS.get(found['reason'], str(found['reason']))}"
    open_until = None if found["status"] in ENDED else found["expected_at"]
    return f"; done {until(open_until, answer.now)}" if open_until else ""


def _drawn(found: dict[str, Any], answer: Answer) -> Iterator[list[Cell]]:
    """Rows for a terminal."""
    for each in found["collections"]:
        reason = f" ({plain(each['reason'])})" if each["reason"] else ""
        state = Text.assemble(status(each["status"]), (reason, "dim"))
        progress = Text.assemble(bar(each["progress"], BAR), f" {100 * each['progress']:3.0f} %")
        failed = f", {each['failed']:,} failed" if each["failed"] else ""
        counts = f"{each['collected']:,} of {each['total']:,}{failed}"
        yield [each["id"], state, progress, counts, ago(each["requested_at"], answer.now), _end(each, answer)]


def _end(each: dict[str, Any], answer: Answer) -> str:
    """How long a collection took, or takes still."""
    if each["finished_at"] is None:
        return until(each["expected_at"], answer.now)
    return f"took {spelled(moment(each['finished_at']) - moment(each['requested_at']))}"


def heading(name: str, units: Units) -> str:
    """A field's heading, with its unit."""
    unit = {"temperature": DEGREES[units], "feels_like": DEGREES[units], "wind_speed": SPEEDS[units]}.get(name)
    unit = unit or {"humidity": "%", "pressure": "hPa", "clouds": "%", "observed_at": "UTC"}.get(name)
    return f"{name} ({unit})" if unit else name


def cell(name: str, value: Any) -> str:
    """A field's value for people."""
    if value is None:
        return ""
    if name.endswith("_at"):
        return minute(value)
    return f"{value:.1f}" if isinstance(value, float) and name not in {"latitude", "longitude"} else str(value)


def _report_failures(errors: list[dict[str, Any]]) -> None:
    for error in errors[:FAILURES_SHOWN]:
        note(f"city {error['city_id']} failed: {error['reason']}")
    if len(errors) > FAILURES_SHOWN:
        note(f"and {len(errors) - FAILURES_SHOWN:,} more; --json shows all")


def _form_of(output: str) -> str:
    suffix = Path(output).suffix.removeprefix(".").lower()
    return suffix if suffix in Format.__args__ else "csv"  # type: ignore[attr-defined]


def _write(file: BinaryIO, chunks: Iterable[bytes]) -> None:
    file.writelines(chunks)
    file.flush()
