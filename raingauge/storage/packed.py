"""Several columns as one, a JSON list: drivers describe and convert each column of an answer by itself, at length."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Dialect, Double, Text, TypeDecorator, type_coerce
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from raingauge.storage.models import UtcDateTime


class json_list(FunctionElement[str]):  # noqa: N801  # it is written like a function
    """For a statement: the text of a JSON list of these columns."""

    inherit_cache = True
    type = Text()


@compiles(json_list)
def _json_array(element: json_list, compiler: SQLCompiler, **kw: Any) -> str:
    return f"JSON_ARRAY({compiler.process(element.clauses, **kw)})"


@compiles(json_list, "sqlite")
def _json_array_of_sqlite(element: json_list, compiler: SQLCompiler, **kw: Any) -> str:
    return f"json_array({', '.join(_exact(column, compiler.process(column, **kw)) for column in element.clauses)})"


def _exact(column: ColumnElement[Any], text: str) -> str:
    """SQLite writes floats into JSON with fifteen digits, which are too few."""
    if not isinstance(column.type, Double):
        return text
    return f"CASE WHEN {text} IS NOT NULL THEN printf('%!.17g', {text}) END"


@compiles(json_list, "postgresql")
def _json_build_array(element: json_list, compiler: SQLCompiler, **kw: Any) -> str:
    return f"CAST(json_build_array({compiler.process(element.clauses, **kw)}) AS TEXT)"


class Packed(TypeDecorator[Sequence[Any]]):
    """Such a list when it is read: `times` and `numbers` say which of its values are moments, and which floats."""

    impl = Text
    cache_ok = True

    def __init__(self, times: tuple[int, ...], numbers: tuple[int, ...]) -> None:
        super().__init__()
        self.times = times
        self.numbers = numbers

    def process_result_value(self, value: str | None, dialect: Dialect) -> Sequence[Any] | None:  # noqa: ARG002
        if value is None:
            return None
        row: list[Any] = json.loads(value)
        for place in self.times:
            row[place] = maybe_time(row[place])
        for place in self.numbers:
            row[place] = None if row[place] is None else float(row[place])
        return row


def packed(*columns: Any) -> ColumnElement[Sequence[Any]]:
    """For a statement: these columns as one, which is read as a list of their values."""
    times = tuple(place for place, column in enumerate(columns) if isinstance(column.type, UtcDateTime))
    numbers = tuple(place for place, column in enumerate(columns) if isinstance(column.type, Double))
    return type_coerce(json_list(*columns), Packed(times, numbers))


def time_of(text: str) -> datetime:
    """A moment as databases write it in JSON: UTC without its zone."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def maybe_time(text: str | None) -> datetime | None:
    """The same, or None."""
    return None if text is None else time_of(text)
