"""`raingauge quota`: the provider account on one screen."""

from typing import Any, Final

from rich.text import Text

from cli.client import Answer, Api
from cli.output import Cell, bar, document, facts
from cli.times import short, until

BAR: Final = 20


def quota(api: Api, *, json: bool) -> None:
    """Print what is held, what is released next, the month, its forecast, and why the gate is closed."""
    answer = api.get("/quota")
    if json:
        return document(answer.body)
    return facts(_rows(answer))


def _rows(answer: Answer) -> list[tuple[str, Cell]]:
    found = answer.json
    limit, month, release = found["limit"], found["month"], found["next_release"]
    window = f"{_cities(limit['cities_per_window'])} in {limit['window_s']:g} s"
    pace = f"{found['held']:,} of {window}, {limit['pacing']}"
    spent = f"{month['spent']:,} of {_cities(month['budget'])}, ends {until(month['ends_at'], answer.now)}"
    rows: list[tuple[str, Cell]] = [
        ("account", found["account"]),
        ("gate", _gate(found["gate"], answer)),
        ("held now", _drawn(found["held"], limit["cities_per_window"], pace)),
        ("free now", f"{found['free']:,}"),
    ]
    if release is not None:
        rows.append(("next release", f"{_cities(release['cities'])} {until(release['at'], answer.now)}"))
    rows += [
        (f"month {month['month']}", _drawn(month["spent"], month["budget"], spent)),
        ("allowed now", _allowed(month, answer)),
        ("forecast", Text(month["outlook"], style="yellow" if month["forecast"] > month["budget"] else "")),
        ("as of (UTC)", short(found["now"])),
    ]
    return rows


def _cities(count: int) -> str:
    """A number of cities: `1 city`, `1,200 cities`."""
    return "1 city" if count == 1 else f"{count:,} cities"


def _allowed(month: dict[str, Any], answer: Answer) -> Cell:
    """What the month's budget allows; when it is nothing, why nothing is fetched although the gate is open."""
    if month["allowed_now"] > 0:
        return f"{month['allowed_now']:,} by the month's budget, pacing {month['pacing']}"
    begins = until(month["ends_at"], answer.now)
    return Text(f"0: the month's budget allows no more cities yet; a new month begins {begins}", style="yellow")


def _gate(gate: dict[str, Any], answer: Answer) -> Text:
    if gate["state"] == "open":
        return Text.assemble(
            ("open", "green"), {"group": ", 20 cities a call", "single": ", 1 city a call"}.get(gate["endpoint"], "")
        )
    again = until(gate["blocked_until"], answer.now)
    return Text.assemble(("closed", "yellow"), f": {gate['why']}; tried again {again}")


def _drawn(part: int, whole: int, words: str) -> Text:
    line = bar(part / whole if whole else 0.0, BAR)
    return Text.assemble(line, f"  {words}") if line else Text(words)
