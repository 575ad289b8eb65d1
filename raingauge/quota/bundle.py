"""The file of a proof: the ledger of a period as JSON lines, and a checksum, to be handed over and replayed elsewhere.

Pure: lines in, lines out. The first line is the header, each following one a charge in the order of reservation, the
last one the number of charges and the SHA-256 of all bytes before it. It must not judge: see `verification`.
The form is documented in docs/quota.md.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from raingauge.model import Charge, LedgerEntry, TermsSince

FORMAT: Final = "raingauge-proof"
VERSION: Final = 1


class Damaged(Exception):
    """The file is not what was exported, or no file of a proof at all. The message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the file is about."""

    account: str
    since: datetime
    until: datetime
    kept_since: datetime | None
    """Charges that ended earlier may have been pruned. None: there are no charges."""
    exported_at: datetime
    software: str
    claim_s: float
    """D + T + M: a call arrives so long after its reservation at the latest."""
    terms: tuple[TermsSince, ...]
    """In the order of time; the first one holds for everything before, too."""


def written(header: Header, entries: Iterable[LedgerEntry]) -> Iterator[bytes]:
    """The lines of the file."""
    digest = hashlib.sha256()
    number = 0
    first = _line({"format": FORMAT, "version": VERSION, **asdict(header)})
    digest.update(first)
    yield first
    for entry in entries:
        line = _line(_fields(entry))
        digest.update(line)
        number += 1
        yield line
    yield _line({"charges": number, "sha256": digest.hexdigest()})


def read_header(lines: Iterable[bytes]) -> Header:
    """The first line.

    Raises:
        Damaged: it is not the header of a file that this version can read.
    """
    found = _document(next(iter(lines), b""), 1)
    if found.pop("format", None) != FORMAT:
        raise Damaged("this is no file that `raingauge proof export` wrote: its first line is not a header")
    if (version := found.pop("version", None)) != VERSION:
        raise Damaged(f"its format has version {version}, this program reads version {VERSION}: use the newest one")
    try:
        terms = tuple(TermsSince(**each | {"since": _moment_or_none(each["since"])}) for each in found.pop("terms"))
        moments = {name: _moment(found[name]) for name in ("since", "until", "exported_at")}
        kept_since = _moment_or_none(found["kept_since"])
        claim_s = {"claim_s": float(found["claim_s"])}
        header = Header(**found | moments | claim_s | {"kept_since": kept_since}, terms=terms)
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"line 1 is not a header: {error}") from error
    if not terms:
        raise Damaged("line 1 names no terms")
    return header


def read_entries(lines: Iterable[bytes]) -> Iterator[LedgerEntry]:
    """The charges of a file, the lines of which are all given. At its end it was as it was written.

    Raises:
        Damaged: lines are missing, were changed, or are in another order.
    """
    digest, rest = hashlib.sha256(), iter(lines)
    digest.update(next(rest, b""))
    held, number = next(rest, b""), 0
    last: tuple[datetime, int] | None = None
    for following in rest:
        number += 1
        entry = _entry(held, number + 1)
        place = entry.charge.reserved_at, entry.id
        if last is not None and place <= last:
            raise Damaged(f"line {number + 1}: charges are not in the order of their reservation")
        yield entry
        digest.update(held)
        last, held = place, following
    _check_end(_document(held, number + 2), number, digest.hexdigest())


def _check_end(end: dict[str, Any], number: int, checksum: str) -> None:
    if end.keys() != {"charges", "sha256"}:
        raise Damaged("its last line is missing: the file was cut off")
    if end["charges"] != number:
        raise Damaged(f"{number} charges are in it, and {end['charges']} were written: lines are missing or added")
    if end["sha256"] != checksum:
        raise Damaged("its checksum differs: lines were changed")


def _fields(entry: LedgerEntry) -> dict[str, Any]:
    charge = entry.charge
    return {
        "id": entry.id,
        "reserved_at": charge.reserved_at,
        "ends_at": charge.ends_at,
        "closed_at": charge.closed_at,
        "cities": charge.cost,
        "calls": entry.calls,
        "outcome": entry.outcome,
    }


def _entry(line: bytes, place: int) -> LedgerEntry:
    found = _document(line, place)
    try:
        closed_at = _moment_or_none(found["closed_at"])
        charge = Charge(_moment(found["reserved_at"]), _moment(found["ends_at"]), closed_at, int(found["cities"]))
        return LedgerEntry(int(found["id"]), charge, found["calls"], found["outcome"])
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"line {place} is not a charge: {error}") from error


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document, default=_text, separators=(",", ":")).encode() + b"\n"


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _document(line: bytes, place: int) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise Damaged(f"line {place} is not JSON: the file was cut off, or changed") from error
    if not isinstance(found, dict):
        raise Damaged(f"line {place} is not a JSON object")
    return found


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no zone")
    return moment


def _moment_or_none(text: str | None) -> datetime | None:
    return None if text is None else _moment(text)
