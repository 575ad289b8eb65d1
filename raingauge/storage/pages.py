"""Readings as JSON text, in parts: a page of ten thousand is never a list of objects. It only reads.

Database servers write the text themselves: a driver that takes rows apart and a program that puts them together again
would cost ten times as much. SQLite has no server; and its own JSON functions would round floats.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from json import JSONEncoder
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    Integer,
    Select,
    String,
    Text,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    select,
    text,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by

from raingauge.storage.models import WEATHER_COLUMNS, City, Reading

Fields = tuple[tuple[str, str], ...]
"""What is shown of a collected city besides `city_id`: the name in JSON, and the column."""

Words = ColumnElement[Any]
MOST: Final = 1000
"""Rows of a part."""
GROUP_BYTES: Final = 64 * 2**20
"""MySQL cuts what it joins off at 1,024 bytes unless told otherwise, MariaDB at 1 MiB."""
EXPONENT_FROM: Final = 1e15
"""The servers write whole numbers below it without a point, and those above with an exponent."""
_ENCODE: Final = JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_NULL: Final = literal_column("'null'", Text)


@dataclass(frozen=True, slots=True)
class Part:
    """Which readings: at most `most` of a collection, with city ids above `after` and up to `upto`."""

    collection_id: str
    fields: Fields
    after: int
    upto: int
    most: int


@dataclass(frozen=True, slots=True)
class Written:
    """Readings as JSON: objects with commas between them, in the order of city ids."""

    data: bytes
    errors: bytes
    number: int
    last: int
    """The last city id of them."""
    more: bool
    """Whether there are more up to `upto`."""


_WANTED: Final = (
    Reading.collection_id == bindparam("collection_id", type_=String),
    Reading.city_id > bindparam("after", type_=Integer),
    Reading.city_id <= bindparam("upto", type_=Integer),
)
_MOST: Final = bindparam("most", type_=Integer)
_NEXT: Final = select(Reading.city_id).where(*_WANTED).order_by(Reading.city_id).limit(2).offset(_MOST)


def part(connection: Connection, wanted: Part, *, total: int | None = None) -> Written:
    """These readings, written; `total`: cities of the collection, where it is known that there are no more."""
    dialect = connection.dialect.name
    given = {"collection_id": wanted.collection_id, "after": wanted.after, "upto": wanted.upto, "most": wanted.most}
    if dialect == "sqlite":
        data, errors, number, last = _encoded(connection, wanted.fields, given)
    else:
        _allow_length(connection)
        limited = total is None or total > wanted.most
        statement = _written(dialect, wanted.fields, limited=limited)
        data, errors, number, last = connection.execute(statement, given).one()
    more = number == wanted.most != total and boundary(connection, wanted, 0, after=last)[0] is not None
    return Written(_bytes(data), _bytes(errors), number, last or wanted.after, more)


def boundary(
    connection: Connection, wanted: Part, skipped: int, *, after: int | None = None
) -> tuple[int | None, int | None]:
    """The city ids of the two readings after so many that are skipped; None where there is none."""
    given = {"collection_id": wanted.collection_id, "upto": wanted.upto, "most": skipped}
    found = connection.scalars(_NEXT, given | {"after": wanted.after if after is None else after}).all()
    return found[0] if found else None, found[1] if len(found) > 1 else None


def _bytes(written: Any) -> bytes:
    return b"" if written is None else bytes(written) if not isinstance(written, str) else written.encode()


def _column(name: str) -> ColumnElement[Any]:
    found: ColumnElement[Any] = getattr(Reading if name in WEATHER_COLUMNS else City, name)
    return found


def _joined(*columns: Any) -> Select[Any]:
    return select(*columns).select_from(Reading).outerjoin(City, City.id == Reading.city_id).where(*_WANTED)


def _first(*columns: Any) -> Select[Any]:
    return _joined(Reading.city_id, *columns).order_by(Reading.city_id).limit(_MOST)


# -- SQLite ------------------------------------------------------------------------------------------------------------


def _encoded(connection: Connection, fields: Fields, given: Mapping[str, Any]) -> tuple[str, str, int, int | None]:
    names = ("city_id", *(name for name, _ in fields))
    rows = connection.execute(_plain(fields), given).all()
    collected = [dict(zip(names, (row[0], *row[3:]), strict=True)) for row in rows if row[1] == "collected"]
    failed = [{"city_id": row[0], "reason": row[2]} for row in rows if row[1] == "failed"]
    return _ENCODE(collected)[1:-1], _ENCODE(failed)[1:-1], len(rows), rows[-1][0] if rows else None


@lru_cache(maxsize=64)
def _plain(fields: Fields) -> Select[Any]:
    return _first(Reading.status, Reading.reason, *(_plain_value(_column(column)) for _, column in fields))


def _plain_value(column: ColumnElement[Any]) -> ColumnElement[Any]:
    if isinstance(column.type, Double):
        endless = literal_column("9e999", Double)
        return func.nullif(func.nullif(column, endless), -endless, type_=Double)
    if isinstance(column.type, String | Integer):
        return column
    written = type_coerce(column, String)
    return func.substr(written, 1, 10, type_=String) + "T" + func.substr(written, 12, 12, type_=String) + "Z"


# -- servers -----------------------------------------------------------------------------------------------------------


def _allow_length(connection: Connection) -> None:
    """Once for every connection."""
    if connection.dialect.name != "postgresql" and "raingauge_group_bytes" not in connection.info:
        connection.execute(text(f"SET SESSION group_concat_max_len = {GROUP_BYTES}"))
        connection.info["raingauge_group_bytes"] = GROUP_BYTES


@lru_cache(maxsize=128)
def _written(dialect: str, fields: Fields, *, limited: bool) -> Select[Any]:
    write = _Postgres() if dialect == "postgresql" else _MySql()
    members = [member for name, column in fields for member in (_fixed(f',"{name}":'), write.value(_column(column)))]
    begin = (_fixed('{"city_id":'), cast(Reading.city_id, String(11)))
    datum = write.chain(*begin, *members, _fixed("}"))
    failure = write.chain(*begin, _fixed(',"reason":'), write.value(Reading.reason), _fixed("}"))
    texts = (
        case((Reading.status == literal_column("'collected'"), datum)).label("datum"),
        case((Reading.status == literal_column("'failed'"), failure)).label("failure"),
    )
    if limited:
        rows = _first(*texts).subquery()
        return select(*_collected(write, rows.c.datum, rows.c.failure, rows.c.city_id))
    return _joined(*_collected(write, *texts, Reading.city_id))


def _collected(write: "_MySql | _Postgres", datum: Words, failure: Words, order: Any) -> tuple[Words, ...]:
    return write.together(datum, order), write.together(failure, order), func.count(order), func.max(order)


def _fixed(words: str) -> Words:
    return literal_column(f"'{words}'", Text)


class _MySql:
    """How MySQL and MariaDB write JSON."""

    def chain(self, *words: Words) -> Words:
        return func.concat(*words, type_=Text)

    def together(self, words: Words, order: Words) -> Words:
        one = getattr(words, "element", words)  # without its name
        return func.group_concat(one.op("ORDER BY")(order), type_=Text)

    def value(self, column: Any) -> Words:
        if isinstance(column.type, Double):
            whole = (column == func.floor(column)) & (func.abs(column) < EXPONENT_FROM)
            written: Words = self.chain(column, case((whole, _fixed(".0")), else_=_fixed("")))
        elif isinstance(column.type, String):
            written = func.json_quote(column, type_=Text)
        elif isinstance(column.type, Integer):
            written = self.chain(column)
        else:
            written = self.chain(_fixed('"'), func.replace(func.left(column, 23), " ", "T", type_=Text), _fixed('Z"'))
        return func.coalesce(written, _NULL, type_=Text)


class _Postgres:
    """How PostgreSQL writes JSON."""

    def chain(self, *words: Words) -> Words:
        whole = words[0]
        for more in words[1:]:
            whole = whole.op("||")(more)
        return whole

    def together(self, words: Words, order: Words) -> Words:
        one = getattr(words, "element", words)
        return func.string_agg(one, aggregate_order_by(literal_column("','", Text), order), type_=Text)

    def value(self, column: Any) -> Words:
        if isinstance(column.type, Double):
            finite = column.between(literal_column("-1.7976931348623157e308"), literal_column("1.7976931348623157e308"))
            whole = (column == func.floor(column)) & (func.abs(column) < EXPONENT_FROM)
            point = case((whole, _fixed(".0")), else_=_fixed(""))
            written: Words = case((finite, self.chain(cast(column, Text), point)))
        elif isinstance(column.type, String):
            written = cast(func.to_json(column), Text)
        elif isinstance(column.type, Integer):
            written = cast(column, Text)
        else:
            iso = literal_column("""'YYYY-MM-DD"T"HH24:MI:SS.MS'""", Text)
            written = self.chain(_fixed('"'), func.to_char(column, iso, type_=Text), _fixed('Z"'))
        return func.coalesce(written, _NULL, type_=Text)
