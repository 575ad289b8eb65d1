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
    bindparam,
    case,
    cast,
    func,
    literal_column,
    select,
    text,
    type_coerce,
)

from raingauge.storage.json_text import MySql, Postgres, Words, fixed
from raingauge.storage.models import WEATHER_COLUMNS, City, Reading

Fields = tuple[tuple[str, str], ...]
"""What is shown of a collected city besides `city_id`: the name in JSON, and the column."""

MOST: Final = 1000
"""Rows of a part."""
GROUP_BYTES: Final = 64 * 2**20
"""MySQL cuts what it joins off at 1,024 bytes unless told otherwise, MariaDB at 1 MiB."""
_ENCODE: Final = JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_CONTROLS: Final = bytes(range(32))


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


_BETWEEN: Final = (
    Reading.city_id > bindparam("after", type_=Integer),
    Reading.city_id <= bindparam("upto", type_=Integer),
)
_WANTED: Final = (Reading.collection_id == bindparam("collection_id", type_=String), *_BETWEEN)
_WHOLE: Final = (Reading.collection_id.in_(bindparam("collection_ids", type_=String, expanding=True)), *_BETWEEN)
_MOST: Final = bindparam("most", type_=Integer)
_NEXT: Final = select(Reading.city_id).where(*_WANTED).order_by(Reading.city_id).limit(2).offset(_MOST)


def parts(connection: Connection, wanted: Mapping[Part, int]) -> dict[Part, Written]:
    """Several parts, given how many cities their collections have; of small collections with one statement."""
    found: dict[Part, Written] = {}
    alike: dict[tuple[Fields, int, int], list[Part]] = {}
    for one, total in wanted.items():
        if total <= one.most and connection.dialect.name != "sqlite":
            alike.setdefault((one.fields, one.after, one.upto), []).append(one)
        else:
            found[one] = part(connection, one)
    for (fields, after, upto), some in alike.items():
        given = {"collection_ids": [one.collection_id for one in some], "after": after, "upto": upto}
        _allow_length(connection)
        rows = connection.execute(_written(connection.dialect.name, fields, limited=False), given)
        written = {row[0]: Written(_bytes(row[1]), _bytes(row[2]), row[3], row[4], more=False) for row in rows}
        nothing = Written(b"", b"", 0, after, more=False)
        found |= {one: written.get(one.collection_id, nothing) for one in some}
    return found


def part(connection: Connection, wanted: Part) -> Written:
    """These readings, written."""
    dialect = connection.dialect.name
    given = {"collection_id": wanted.collection_id, "after": wanted.after, "upto": wanted.upto, "most": wanted.most}
    if dialect == "sqlite":
        data, errors, number, last = _encoded(connection, wanted.fields, given)
    else:
        _allow_length(connection)
        data, errors, number, last = connection.execute(_written(dialect, wanted.fields, limited=True), given).one()
    more = number == wanted.most and boundary(connection, wanted, 0, after=last)[0] is not None
    return Written(_bytes(data), _bytes(errors), number, last or wanted.after, more)


def boundary(
    connection: Connection, wanted: Part, skipped: int, *, after: int | None = None
) -> tuple[int | None, int | None]:
    """The city ids of the two readings after so many that are skipped; None where there is none."""
    given = {"collection_id": wanted.collection_id, "upto": wanted.upto, "most": skipped}
    found = connection.scalars(_NEXT, given | {"after": wanted.after if after is None else after}).all()
    return found[0] if found else None, found[1] if len(found) > 1 else None


def _bytes(written: Any) -> bytes:
    found = b"" if written is None else bytes(written) if not isinstance(written, str) else written.encode()
    if len(found.translate(None, _CONTROLS)) == len(found):
        return found
    return b"".join(b"\\u%04x" % byte if byte in _CONTROLS else bytes((byte,)) for byte in found)


def _column(name: str) -> ColumnElement[Any]:
    found: ColumnElement[Any] = getattr(Reading if name in WEATHER_COLUMNS else City, name)
    return found


def _joined(*columns: Any) -> Select[Any]:
    return select(*columns).select_from(Reading).outerjoin(City, City.id == Reading.city_id)


def _first(*columns: Any) -> Select[Any]:
    return _joined(Reading.city_id, *columns).where(*_WANTED).order_by(Reading.city_id).limit(_MOST)


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
    write = Postgres() if dialect == "postgresql" else MySql()
    members = [member for name, column in fields for member in (fixed(f',"{name}":'), write.value(_column(column)))]
    begin = (fixed('{"city_id":'), cast(Reading.city_id, String(11)))
    datum = write.chain(*begin, *members, fixed("}"))
    failure = write.chain(*begin, fixed(',"reason":'), write.value(Reading.reason), fixed("}"))
    texts = (
        case((Reading.status == literal_column("'collected'"), datum)).label("datum"),
        case((Reading.status == literal_column("'failed'"), failure)).label("failure"),
    )
    if limited:
        rows = _first(*texts).subquery()
        return select(*_collected(write, rows.c.datum, rows.c.failure, rows.c.city_id))
    whole = _joined(Reading.collection_id, *_collected(write, *texts, Reading.city_id))
    return whole.where(*_WHOLE).group_by(Reading.collection_id)


def _collected(write: MySql | Postgres, datum: Words, failure: Words, order: Any) -> tuple[Words, ...]:
    return write.together(datum, order), write.together(failure, order), func.count(order), func.max(order)
