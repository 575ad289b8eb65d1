"""Replays the file of a proof and prints what it says, and what it does not. It reads nothing but the file."""

import gzip
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Final, cast

from cli.errors import Misused, Unproven
from cli.output import Cell, facts, plain, say
from raingauge.model import LedgerEntry
from raingauge.quota.bundle import Damaged, Header, read_entries, read_header
from raingauge.quota.verification import Judged, Month, Verdict, Verification, longest_claim_s

EVIDENCE: Final = """\
What this shows: by this ledger no window can have seen more cities than stated. A charge was committed before its calls
were sent. Each call counts in every window that it may have arrived in: from then until its answer or, without one,
until the longest delay later. So the figures are upper bounds of what arrived, not counts of arrivals.
What it cannot show: that the ledger is complete and genuine (the checksum reveals damage, not forgery: compare calls
with the provider's log); calls by other programs on the same account; calls held back on the way for longer than the
longest delay; steps of the database's clock, from which all times come."""
HEADINGS: Final = ("id", "reserved_at", "arrived_by", "cities", "calls", "answered_at", "outcome")
GZIP: Final = b"\x1f\x8b"


def verify_file(file: str, *, calls: bool) -> None:
    """Print what the charges of a file say, and with `calls` each of them.

    Raises:
        Misused: the file cannot be read.
        Unproven: it is damaged, or a limit was exceeded.
    """
    try:
        header, claim_s = _checked(file)
        verification = Verification(header, claim_s)
        for entry in _entries(file):
            verification.add(entry)
        verdict = verification.verdict()
        if calls:
            _print_calls(file, claim_s)
        else:
            facts(_rows(header, claim_s, verdict))
            for line in ("", *EVIDENCE.splitlines()):
                say(line)
    except Damaged as error:
        raise Unproven(f"{file} proves nothing: {error}") from error
    if verdict.violations:
        raise Unproven(f"a limit was exceeded: {'; '.join(verdict.violations)}")


def _checked(file: str) -> tuple[Header, float]:
    """The header of a file that is whole, and how late a call may have arrived after its reservation, in seconds."""
    header = read_header(_lines(file))
    claim_s = header.claim_s
    for entry in _entries(file):
        claim_s = max(claim_s, longest_claim_s(header, entry))
    return header, claim_s


def _entries(file: str) -> Iterator[LedgerEntry]:
    return read_entries(_lines(file))


def _lines(file: str) -> Iterator[bytes]:
    """The lines of a file, decompressed where it is compressed."""
    try:
        with ExitStack() as opened:
            source: BinaryIO = opened.enter_context(Path(file).open("rb"))
            compressed = source.read(2) == GZIP
            source.seek(0)
            yield from cast("BinaryIO", gzip.GzipFile(fileobj=source)) if compressed else source
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Damaged(f"it cannot be decompressed: {error}") from error
    except OSError as error:
        raise Misused(f"{file}: {error.strerror}; name a file that `raingauge proof export` wrote") from error


def _rows(header: Header, claim_s: float, verdict: Verdict) -> Iterator[tuple[str, Cell]]:
    yield "account", plain(header.account)
    yield "from (UTC)", _time(header.since)
    yield "to (UTC)", _time(header.until)
    if header.kept_since is not None and header.since < header.kept_since:
        yield "kept since", f"{_time(header.kept_since)}; what ended earlier is not in the ledger, or was pruned"
    yield "exported", f"{_time(header.exported_at)} by {plain(header.software)}"
    calls = "an unknown number of" if verdict.calls is None else f"{verdict.calls:,}"
    yield "file", f"whole: {verdict.charges:,} charges for {verdict.cities:,} cities in {calls} calls"
    yield "outcomes", ", ".join(f"{number:,} {plain(name)}" for name, number in verdict.outcomes.most_common())
    yield "longest delay", f"{claim_s:g} s"
    for judged in verdict.windows:
        yield "limit", _limit(judged)
        yield "worst window", _worst(judged)
    for month in verdict.months:
        yield f"month {month.month}", _month(month)
    yield "verdict", "a limit was EXCEEDED" if verdict.violations else "the limits were kept"


def _limit(judged: Judged) -> str:
    terms = judged.terms
    since = "" if terms.since is None else f", noted {_time(terms.since)}"
    return f"{terms.cities_per_window:,} cities in any {terms.window_s:g} s{since}"


def _worst(judged: Judged) -> str:
    worst = judged.worst
    if worst.begin is None:
        return "no call in the period"
    end = worst.begin + timedelta(seconds=judged.terms.window_s)
    return f"{worst.cities:,} cities, from {_time(worst.begin)} to {_time(end)}"


def _month(month: Month) -> str:
    part = "" if month.whole else ", as far as the period goes"
    return f"{month.cities:,} of {month.budget:,} cities{part}"


def _print_calls(file: str, claim_s: float) -> None:
    sys.stdout.write("\t".join(HEADINGS) + "\n")
    for entry in _entries(file):
        charge = entry.charge
        latest = charge.reserved_at + timedelta(seconds=claim_s)
        arrived_by = latest if charge.closed_at is None else min(latest, charge.closed_at)
        known = (entry.id, _time(charge.reserved_at), _time(arrived_by), charge.cost, entry.calls)
        outcome = (None if charge.closed_at is None else _time(charge.closed_at), entry.outcome)
        sys.stdout.write("\t".join("" if cell is None else plain(str(cell)) for cell in (*known, *outcome)) + "\n")


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S.%f}"
