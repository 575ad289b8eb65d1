"""Following a collection until it ends: a bar with the time left on a terminal, silence elsewhere.

It polls `GET /get` with the last ETag, which costs the API next to nothing while nothing changes.
"""

from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from cli.client import Answer, Api
from cli.errors import Away, Unfinished
from cli.output import STYLES, note, notes, plain
from cli.session import Session
from cli.times import moment, spelled

EVERY_S: Final = 1.0
PATIENCE: Final = 120
"""Polls in a row that may find the API away, as during a restart, before the wait is given up."""
ENDED: Final = frozenset({"done", "cancelled"})
REASONS: Final = {
    "month": "the month's budget allows no more cities yet",
    "key": "the provider does not accept the key",
    "provider": "no usable answers come from the provider",
    "database": "the database's clock stepped back, or a person closed the gate",
    "failover": "the database is another server than before, and its last charges may be missing",
    "no consumer": "no consumer runs",
    "newer message": "a message needs a newer version of the consumer",
}
"""Why a collection waits, in words."""


def follow(api: Api, collection_id: str, session: Session) -> Answer:
    """Wait until a collection is done or cancelled; returns `GET /get` without rows.

    Raises:
        Refused: there is no such collection.
        Away: the API does not answer for long.
        KeyboardInterrupt: the person has seen enough; the collection goes on.
    """
    try:
        with Bar(collection_id, notes()) as bar:
            return _until_ended(api, collection_id, session, bar)
    except KeyboardInterrupt:
        note(f"{collection_id} goes on without you; `raingauge watch {collection_id}` follows it again")
        raise


def check(state: dict[str, Any]) -> None:
    """Raise Unfinished unless every city of an ended collection has its weather."""
    name, failed = state["id"], state["failed"]
    if state["status"] == "cancelled":
        raise Unfinished(f"{name} was cancelled; what was collected is there: `raingauge get {name}`")
    if failed:
        cities = "1 city" if failed == 1 else f"{failed:,} cities"
        raise Unfinished(f"{cities} of {name} failed; `raingauge get {name}` says why")


def _until_ended(api: Api, collection_id: str, session: Session, bar: "Bar") -> Answer:
    last, away = None, 0
    while True:
        try:
            found = api.get("/get", {"id": collection_id, "data": "false"}, last.etag if last else None)
        except Away:
            away += 1
            if last is None or away > PATIENCE:
                raise
            bar.away()
        else:
            away, last = 0, found if found.body else last
            if last is not None:
                bar.show(last.json, found.now)
                if last.json["status"] in ENDED:
                    return last
        session.pause(EVERY_S)


class Bar:
    """The progress of one collection; nothing is drawn where there is no terminal."""

    def __init__(self, name: str, console: Console) -> None:
        columns = (
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(30, complete_style="cyan", finished_style="green"),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[counts]}", style="dim"),
            TextColumn("{task.fields[state]}"),
        )
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal, refresh_per_second=4)
        self._task = self._progress.add_task(plain(name), total=None, counts="", state="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def show(self, state: dict[str, Any], now: datetime | None) -> None:
        """Draw a collection as it stands."""
        settled = state["collected"] + state["failed"]
        counts = f"{settled:,} of {state['total']:,}"
        style = STYLES.get(state["status"], "")
        words = f"[{style}]{outlook(state, now)}[/]" if style else outlook(state, now)
        self._progress.update(self._task, total=state["total"], completed=settled, counts=counts, state=words)

    def away(self) -> None:
        """Draw that the API does not answer for now."""
        self._progress.update(self._task, state="[yellow]the API does not answer; trying again[/]")


def outlook(state: dict[str, Any], now: datetime | None) -> str:
    """What a collection does, or how long it takes still, in words."""
    status, reason, expected_at = state["status"], state["reason"], state["expected_at"]
    if status == "waiting":
        return f"waiting: {REASONS.get(reason, plain(str(reason)))}"
    if status in ENDED or expected_at is None or now is None:
        return str(status)
    return f"{spelled(moment(expected_at) - now)} left"
