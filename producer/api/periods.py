"""The query parameters `from` and `to`: moments in ISO 8601, with their zone. It knows no endpoint."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import Query
from pydantic import AwareDatetime, BeforeValidator
from pydantic_core import PydanticCustomError

from producer.api.problems import Invalid
from raingauge.storage.history import EARLIEST, LAST

NOT_GIVEN: Final = datetime.min.replace(microsecond=1, tzinfo=UTC)
"""Sentinel for a `from` that is left out: a moment that nobody asks for."""
LATEST: Final = datetime.max.replace(tzinfo=UTC)
FROM: Final = ("query", "from")
TO: Final = ("query", "to")
ISO: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:?\d\d)")


def _iso(value: object) -> object:
    """Only what is meant as a moment: pydantic would take a plain number, too."""
    if isinstance(value, str) and ISO.fullmatch(value):
        return value
    raise PydanticCustomError("moment", "a time is written as 2026-11-20T16:00:00Z (ISO 8601; a + as %2B)")


Moment = Annotated[AwareDatetime, BeforeValidator(_iso)]


def from_parameter(description: str) -> Any:
    """`from`, which may be left out: then it is `NOT_GIVEN`."""
    # A factory only keeps the default out of the schema: it may be left out, but not be null.
    example = "2026-11-20T15:00:00Z"
    return Query(alias="from", default_factory=lambda: NOT_GIVEN, description=description, examples=[example])


def to_parameter(description: str) -> Any:
    """`to`, which may be left out: then it is `LATEST`."""
    example = "2026-11-20T16:00:00Z"
    return Query(alias="to", default_factory=lambda: LATEST, description=description, examples=[example])


Since = Annotated[Moment, from_parameter("Only readings fetched at or after this moment, ISO 8601 with its zone.")]
Until = Annotated[Moment, to_parameter("Only readings fetched before this moment, ISO 8601 with its zone.")]


def period(since: datetime, until: datetime) -> tuple[datetime | None, datetime | None]:
    """The bounds in UTC; None where one was left out.

    Raises:
        Invalid: the first is not before the second.
    """
    first = None if since == NOT_GIVEN else _bounded(since)
    last = None if until == LATEST else _bounded(until)
    if first and last and since >= until:
        raise Invalid("it must be before `to`", *FROM)
    return first, last


def _bounded(moment: datetime) -> datetime:
    """Nothing is fetched outside these bounds, and some zones' times beyond them have no UTC."""
    return min(max(moment, EARLIEST), LAST).astimezone(UTC)
