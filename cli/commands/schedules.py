"""Commands about schedules: list, show, create, change, pause, resume and delete them, and list their runs."""

from collections.abc import Iterator
from typing import Any, Final, Literal
from urllib.parse import quote

from rich.text import Text

from cli.city_ids import load_text, read_city_ids
from cli.client import Answer, Api, following
from cli.output import Cell, document, facts, note, plain, screen, table
from cli.times import ago, short, until

LISTED: Final = (
    "name", "cron", "every_s", "zone", "cities", "max_age_s", "missed", "overlap", "origin", "paused_at", "next_at"
)  # fmt: skip
"""The columns of a piped list, with the API's values; on a terminal a list is drawn instead."""
RUNS: Final = ("nominal_at", "decided_at", "collection_id", "reason")


def list_all(api: Api, limit: int, after: str | None, *, json: bool) -> None:
    """Print schedules, in the order of their names."""
    answer = api.get("/schedules", {"limit": limit, "after": after})
    if json:
        return document(answer.body)
    found = answer.json["data"]
    if not found:
        note("there are no schedules; `raingauge schedules create` makes one")
    elif screen().is_terminal:
        table(("name", "when", "cities", "next", "last run"), _drawn(answer), ("cities",), ("when", "last run"))
    else:
        table((*LISTED,), (_values(each, LISTED) for each in found))
    return _more(answer)


def show(api: Api, name: str, *, json: bool) -> None:
    """Print a schedule."""
    _shown(api.get(_path(name)), json=json)


def create(api: Api, name: str, body: dict[str, Any], cities: str | None, *, json: bool) -> None:
    """Create a schedule, and print it."""
    _shown(api.post("/schedules", {"name": name, **body, **_cities(cities)}), json=json)


def foresee(api: Api, name: str, body: dict[str, Any], cities: str | None, *, json: bool) -> None:
    """Print when a schedule would run and what it would cost, and store nothing."""
    answer = api.post("/schedules", {"name": name, **body, **_cities(cities)}, {"dry_run": "true"})
    if json:
        return document(answer.body)
    found = answer.json
    table(
        ("at (UTC)", "at (local)", "ends (UTC)"),
        ([short(run["at"]), run["at_local"], _end(run)] for run in found["next"]),
    )
    beside = f", the other schedules {found['others_per_month']:,}" if found["others_per_month"] else ""
    return note(
        f"{found['description']}: {found['cities']:,} cities a run, at most {found['cities_per_month']:,} a month "
        f"({found['share']:.1%} of {found['budget']:,}{beside})"
    )


def change(api: Api, name: str, body: dict[str, Any], cities: str | None, *, json: bool) -> None:
    """Change a schedule, and print it."""
    _shown(api.patch(_path(name), {**body, **_cities(cities)}), json=json)


def switch(api: Api, name: str, action: Literal["pause", "resume"], *, json: bool) -> None:
    """Pause or resume a schedule, and print it."""
    _shown(api.post(f"{_path(name)}/{action}"), json=json)


def delete(api: Api, name: str) -> None:
    """Delete a schedule."""
    api.delete(_path(name))
    note(f"{name} is deleted; its collections stay")


def list_runs(api: Api, name: str, limit: int, after: str | None, *, json: bool) -> None:
    """Print what became of each nominal time, the newest first."""
    answer = api.get(f"{_path(name)}/runs", {"limit": limit, "after": after})
    if json:
        return document(answer.body)
    found = answer.json["data"]
    if not found:
        note("it has not run yet")
    elif screen().is_terminal:
        rows = ([short(run["nominal_at"]), run["collection_id"] or "skipped", run["reason"] or ""] for run in found)
        table(("time (UTC)", "collection", "why"), rows, (), ("why",))
    else:
        table(RUNS, (_values(run, RUNS) for run in found))
    return _more(answer)


def _shown(answer: Answer, *, json: bool) -> None:
    if json:
        return document(answer.body)
    found = answer.json
    state = f"paused since {short(found['paused_at'])}" if found["paused_at"] else _next(found, answer)
    last = found["last_run"]
    rows: list[tuple[str, Cell]] = [
        ("schedule", Text(plain(found["name"]), style="bold")),
        ("when", found["description"]),
        ("next", state),
        ("cities", f"{found['cities']:,}, observations up to {found['max_age_s']:,} s old"),
        ("missed runs", "the latest is made up for" if found["missed"] == "latest" else "are skipped"),
        ("overlap", found["overlap"]),
        ("origin", found["origin"]),
    ]
    return facts([*rows, ("last run", "none yet" if last is None else _run(last, answer))])


def _drawn(answer: Answer) -> Iterator[list[Cell]]:
    """Rows for a terminal."""
    for each in answer.json["data"]:
        following = Text("paused", style="yellow") if each["paused_at"] else _next(each, answer)
        last = "" if each["last_run"] is None else _run(each["last_run"], answer)
        yield [each["name"], each["description"], f"{each['cities']:,}", following, last]


def _next(found: dict[str, Any], answer: Answer) -> str:
    return until(found["next_at"], answer.now) or "never"


def _run(run: dict[str, Any], answer: Answer) -> str:
    what = run["collection_id"] or f"skipped ({run['reason']})"
    return f"{what}, {ago(run['nominal_at'], answer.now)}"


def _end(run: dict[str, Any]) -> str:
    if run["skipped"]:
        return "skipped: the run before is still open"
    return short(run["ends_at"]) or "unknown"


def _values(each: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    return ["" if each[name] is None else str(each[name]) for name in names]


def _cities(file: str | None) -> dict[str, Any]:
    return {} if file is None else {"cities": read_city_ids(file, load_text(file))}


def _path(name: str) -> str:
    return f"/schedules/{quote(name, safe='')}"


def _more(answer: Answer) -> None:
    if (next_url := answer.json["next"]) is not None:
        note(f"there are more: --after {following(next_url)['after']}")
