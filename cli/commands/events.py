"""`raingauge events`: what happened."""

from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from cli.client import Api
from cli.output import document, note, table
from cli.times import short

PAGE: Final = 1000


def list_events(api: Api, after: int | None, limit: int, *, json: bool) -> None:
    """Print events, the oldest first: those after a number, or the newest. `json`: a page of the API."""
    if json:
        return document(api.get("/events", {"after": after or 0, "limit": limit}).body)
    if after is None:  # the API pages from the oldest on
        return _print(deque(api.pages("/events", "events", {"limit": PAGE}), maxlen=limit))
    page = api.get("/events", {"after": after, "limit": limit}).json
    _print(page["events"])
    if page["next"] is not None:
        note(f"there are more: --after {page['events'][-1]['number']}")
    return None


def _print(found: Iterable[dict[str, Any]]) -> None:
    rows = [
        [str(each["number"]), short(each["created_at"]), each["type"], each["user_id"], each["description"]]
        for each in found
    ]
    if rows:
        table(("number", "time (UTC)", "type", "of", "what happened"), rows, ("number",), ("of", "what happened"))
    else:
        note("there are no events")
