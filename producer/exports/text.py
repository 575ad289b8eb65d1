"""Exports as text: CSV (RFC 4180), JSON, JSON lines and GeoJSON (RFC 7946). They encode readings and read nothing."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import orjson

from producer.exports.columns import KINDS, Values, as_text, column_names, in_units
from raingauge.units import Units


class TextFormat(Protocol):
    """Encodes one export; it is used once."""

    def begin(self) -> bytes:
        """What stands before the readings."""

    def encode(self, rows: Sequence[Values]) -> bytes:
        """The next readings."""

    def end(self) -> bytes:
        """What stands after the readings."""


class Csv:
    """A header and a line for each reading; a field without a value is empty. `fields`: what each line has."""

    def __init__(self, units: Units, fields: Sequence[str] = tuple(KINDS)) -> None:
        self._names = column_names(units, fields)
        self._convert = in_units(units, fields)

    def begin(self) -> bytes:
        """The header."""
        return _lines([self._names])

    def encode(self, rows: Sequence[Values]) -> bytes:
        """A line for each."""
        return _lines([[as_text(value) for value in self._convert(row)] for row in rows])

    def end(self) -> bytes:
        """Nothing."""
        return b""


def _lines(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


class Objects:
    """JSON objects one after the other; a field without a value is null."""

    def __init__(self, units: Units, before: bytes, between: bytes, after: bytes) -> None:
        self._names = column_names(units)
        self._convert = in_units(units)
        self._before, self._between, self._after = before, between, after
        self._is_first = True

    def begin(self) -> bytes:
        """What opens the list."""
        return self._before

    def encode(self, rows: Sequence[Values]) -> bytes:
        """An object for each."""
        text = self._between.join(orjson.dumps(one) for one in self.objects(rows))
        if self._is_first or not rows:
            self._is_first = self._is_first and not rows
            return text
        return self._between + text

    def end(self) -> bytes:
        """What closes the list."""
        return self._after

    def objects(self, rows: Sequence[Values]) -> Iterator[dict[str, Any]]:
        """Each reading by the names of the columns."""
        for row in rows:
            yield dict(zip(self._names, map(as_text, self._convert(row)), strict=True))


class GeoJson(Objects):
    """A point for each reading; its geometry is null where the coordinates are not known (RFC 7946, 3.2)."""

    def __init__(self, units: Units) -> None:
        super().__init__(units, b'{"type":"FeatureCollection","features":[\n', b",\n", b"\n]}\n")

    def objects(self, rows: Sequence[Values]) -> Iterator[dict[str, Any]]:
        """A feature for each; positions are longitude, latitude (RFC 7946, 3.1.1)."""
        for one in super().objects(rows):
            latitude, longitude = one.pop("latitude"), one.pop("longitude")
            is_known = latitude is not None and longitude is not None
            point = {"type": "Point", "coordinates": [longitude, latitude]} if is_known else None
            yield {"type": "Feature", "id": one["city_id"], "geometry": point, "properties": one}


def json_list(units: Units) -> Objects:
    """One list of objects."""
    return Objects(units, b"[\n", b",\n", b"\n]\n")


class JsonLines(Objects):
    """An object in each line: https://jsonlines.org."""

    def __init__(self, units: Units) -> None:
        super().__init__(units, b"", b"", b"")

    def encode(self, rows: Sequence[Values]) -> bytes:
        """A line for each."""
        return b"".join(orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE) for one in self.objects(rows))
