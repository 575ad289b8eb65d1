"""Writes the ledger of a period into a file that `raingauge proof verify` replays. It must change nothing."""

import gzip
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO, Final, cast

from sqlalchemy import Connection

from cli.errors import Misused
from cli.output import note, whole_file
from raingauge.database import Database, DatabaseClock
from raingauge.database.command import command_database
from raingauge.errors import SettingsError
from raingauge.model import LedgerEntry, TermsSince
from raingauge.quota.bundle import Header, written
from raingauge.settings import Settings
from raingauge.storage import quota

PORTION: Final = timedelta(hours=1)
"""Of the charges, read in one transaction: some thousands."""
LONGEST_CLAIM: Final = timedelta(seconds=75)
"""D + T + M with the longest timeout that a consumer may have."""
Period = tuple[datetime | None, datetime | None]


def moment_of(text: str | None, option: str) -> datetime | None:
    """A time of the command line, in UTC.

    Raises:
        Misused: it is none.
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Misused(f"{option}: {text} is no time: give ISO 8601, such as 2026-11-01 or 2026-11-01T12:00Z") from None
    return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).astimezone(UTC)


async def write_proof(settings: Settings, file: str, period: Period, account: str | None) -> None:
    """Write the file; it appears when it is complete.

    Raises:
        SettingsError: the account has no gate or no charges, the period is empty, or the file cannot be written.
        Fatal: the database cannot be used.
    """
    name = account or settings.quota.account
    with command_database(settings) as database:
        header = database.read(partial(_header, settings=settings, account=name, period=period, now=database.now))
        try:
            number = _write(Path(file), header, database)
        except Misused as error:
            raise SettingsError(str(error)) from error
    note(f"wrote {file}: {number:,} charges; `raingauge proof verify {file}` replays them")


def _header(connection: Connection, settings: Settings, account: str, period: Period, now: DatabaseClock) -> Header:
    gate, kept = quota.find_gate(connection, account), quota.kept_since(connection, account)
    if gate is None or kept is None:
        what = "has no gate: no consumer has worked for it yet" if gate is None else "has no charges"
        raise SettingsError(f"account {account} {what}; --account or quota.account names another")
    oldest, ended = kept
    # Reservations are ordered by the gate: none that is committed later than this one is reserved earlier.
    since, until = period[0] or oldest, min(period[1] or gate.last_now, gate.last_now)
    if since >= until:
        raise SettingsError(
            f"--from is not before --to, or not before the latest reservation, {gate.last_now:%F %T} UTC"
        )
    month = settings.quota.cities_per_month
    terms = quota.noted_terms(connection, account) or [TermsSince(None, gate.cities_per_window, gate.window_s, month)]
    if (terms[-1].cities_per_window, terms[-1].window_s) != (gate.cities_per_window, gate.window_s):
        raise SettingsError("the gate's limits were changed since a consumer of this version started: start it again")
    return Header(
        account=account,
        since=since,
        until=until,
        kept_since=ended,
        exported_at=now(connection),
        software=f"raingauge {version('raingauge')}",
        claim_s=settings.terms.claim_s,
        terms=tuple(terms),
    )


def _write(path: Path, header: Header, database: Database) -> int:
    """The number of charges that were written."""
    number = -2  # the first and the last line are none
    with ExitStack() as opened:
        file: BinaryIO = opened.enter_context(whole_file(path))
        if path.suffix == ".gz":
            file = cast("BinaryIO", opened.enter_context(gzip.GzipFile("", "wb", fileobj=file, mtime=0)))
        for line in written(header, _entries(header, database)):
            file.write(line)
            number += 1
    return number


def _entries(header: Header, database: Database) -> Iterator[LedgerEntry]:
    """All charges that share a window with the period, in their order."""
    window = timedelta(seconds=max(each.window_s for each in header.terms))
    after = header.since - window - LONGEST_CLAIM
    last = header.until + window
    while after < last:
        end = min(after + PORTION, last)
        yield from database.read(partial(quota.entries, account=header.account, after=after, until=end))
        after = end
