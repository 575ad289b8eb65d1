"""How database servers write JSON: their own functions for texts, numbers and times. It knows no tables."""

from typing import Any, Final

from sqlalchemy import ColumnElement, Double, Integer, String, Text, case, cast, func, literal_column
from sqlalchemy.dialects.postgresql import aggregate_order_by

Words = ColumnElement[Any]
EXPONENT_FROM: Final = 1e15
"""The servers write whole numbers below it without a point, and those above with an exponent."""
NULL: Final = literal_column("'null'", Text)


def fixed(words: str) -> Words:
    """These words as they are."""
    return literal_column(f"'{words}'", Text)


class MySql:
    """How MySQL and MariaDB write JSON."""

    def chain(self, *words: Words) -> Words:
        """These one behind the other."""
        return func.concat(*words, type_=Text)

    def together(self, words: Words, order: Words) -> Words:
        """Those of all rows, with commas between them."""
        one = getattr(words, "element", words)  # without its name
        return func.group_concat(one.op("ORDER BY")(order), type_=Text)

    def value(self, column: Any) -> Words:
        """A column in JSON."""
        if isinstance(column.type, Double):
            whole = (column == func.floor(column)) & (func.abs(column) < EXPONENT_FROM)
            written: Words = self.chain(column, case((whole, fixed(".0")), else_=fixed("")))
        elif isinstance(column.type, String):
            # In a sixth of JSON_QUOTE's time. Control characters are left for later: in JSON they are nowhere else.
            plain = func.replace(func.replace(column, "\\", "\\\\", type_=Text), '"', '\\"', type_=Text)
            written = self.chain(fixed('"'), plain, fixed('"'))
        elif isinstance(column.type, Integer):
            written = self.chain(column)
        else:
            written = self.chain(fixed('"'), func.replace(func.left(column, 23), " ", "T", type_=Text), fixed('Z"'))
        return func.coalesce(written, NULL, type_=Text)


class Postgres:
    """How PostgreSQL writes JSON."""

    def chain(self, *words: Words) -> Words:
        """These one behind the other."""
        whole = words[0]
        for more in words[1:]:
            whole = whole.op("||")(more)
        return whole

    def together(self, words: Words, order: Words) -> Words:
        """Those of all rows, with commas between them."""
        one = getattr(words, "element", words)
        return func.string_agg(one, aggregate_order_by(literal_column("','", Text), order), type_=Text)

    def value(self, column: Any) -> Words:
        """A column in JSON."""
        if isinstance(column.type, Double):
            finite = column.between(literal_column("-1.7976931348623157e308"), literal_column("1.7976931348623157e308"))
            whole = (column == func.floor(column)) & (func.abs(column) < EXPONENT_FROM)
            point = case((whole, fixed(".0")), else_=fixed(""))
            written: Words = case((finite, self.chain(cast(column, Text), point)))
        elif isinstance(column.type, String):
            written = cast(func.to_json(column), Text)
        elif isinstance(column.type, Integer):
            written = cast(column, Text)
        else:
            iso = literal_column("""'YYYY-MM-DD"T"HH24:MI:SS.MS'""", Text)
            written = self.chain(fixed('"'), func.to_char(column, iso, type_=Text), fixed('Z"'))
        return func.coalesce(written, NULL, type_=Text)
