"""Times and durations for people. Pure: the present is the API's `Date`, never this machine's clock."""

from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime


def moment(text: str) -> datetime:
    """A time of the API, ISO 8601 in UTC."""
    return datetime.fromisoformat(text)


def of_header(text: str) -> datetime | None:
    """The time in a `Date` header (RFC 9110, 6.6.1); None when it is none."""
    try:
        return parsedate_to_datetime(text)
    except ValueError:
        return None


def spelled(duration: timedelta) -> str:
    """A duration in its two largest units: `3 s`, `2 min 10 s`, `5 h 34 min`, `3 d 4 h`. Never less than `0 s`."""
    seconds = max(0, round(duration.total_seconds()))
    for size, unit, smaller, name in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            rest = seconds % size // smaller
            return f"{seconds // size} {unit}" + (f" {rest} {name}" if rest else "")
    return f"{seconds} s"


def until(text: str | None, now: datetime | None) -> str:
    """The time left until a moment of the API: `in 2 min 10 s`; the moment itself when the present is unknown."""
    if text is None:
        return ""
    return short(text) if now is None else f"in {spelled(moment(text) - now)}"


def short(text: str | None) -> str:
    """A time of the API to the second, in UTC: `2026-11-20 16:00:02`."""
    return "" if text is None else f"{moment(text):%Y-%m-%d %H:%M:%S}"


def minute(text: str) -> str:
    """A time of the API to the minute, in UTC: `2026-11-20 16:00`, as observations have it."""
    return f"{moment(text):%Y-%m-%d %H:%M}"


def ago(text: str, now: datetime | None) -> str:
    """How long ago a moment of the API was: `3 min ago`; the moment itself when the present is unknown."""
    return short(text) if now is None else f"{' '.join(spelled(now - moment(text)).split()[:2])} ago"
