"""What a person does about tokens from the command line: make, list and revoke them, directly in the database.

The producers notice what changes here within five seconds. A token is printed once, when it is made.
"""

import re
import sys
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from raingauge.access import stored
from raingauge.access.stored import NameTaken, StoredToken
from raingauge.access.tokens import NAME, Scope, digest, looks_like_token, new_token
from raingauge.contracts import utc_text
from raingauge.database.command import command_database
from raingauge.errors import SettingsError
from raingauge.settings import Settings

UNITS: Final = {"h": timedelta(hours=1), "d": timedelta(days=1)}
MAX_LIFETIME: Final = timedelta(days=36_500)
NONE: Final = "-"


async def add(settings: Settings, name: str, scope: Scope, expires: str | None = None) -> None:
    """Store a new token and print it, this once. `expires`: `12h`, `90d`, or a time in ISO 8601 (without a zone: UTC).

    Raises:
        SettingsError: no token can have this name, one has or had it, or `expires` is not a time to come.
        Fatal: the database cannot be used.
    """
    if NAME.fullmatch(name) is None:
        raise SettingsError(
            "the name of a token is 1 to 64 characters of A-Z a-z 0-9 . _ -, and must not look like a token"
        )
    if name in _names_of_settings(settings):
        raise SettingsError(f"a token of access.tokens is named {name}; choose another name")
    token, lifetime = new_token(), None if expires is None else _lifetime(expires)
    with command_database(settings) as database:

        def work(connection: Connection) -> datetime | None:
            now = database.now(connection)
            ends_at = now + lifetime if isinstance(lifetime, timedelta) else lifetime
            if ends_at is not None and ends_at <= now:
                raise SettingsError(f"the token would have expired at {utc_text(ends_at)}; give a time to come")
            stored.add(connection, now, name, digest(token), scope, ends_at)
            return ends_at

        try:
            ends_at = database.write(work)
        except NameTaken:
            raise SettingsError(f"a token has or had the name {name}; choose another one") from None
    print(token)  # noqa: T201
    until = "" if ends_at is None else f" until {utc_text(ends_at)}"
    print(f"{name} ({scope}) is valid{until}. Keep the token: it cannot be shown again", file=sys.stderr)  # noqa: T201


async def generate(_settings: Settings) -> None:
    """Print a token for a file that `access.tokens` names; nothing is stored."""
    print(new_token())  # noqa: T201


async def list_all(settings: Settings) -> None:
    """Print one line for each token, those of the settings last; never the token itself."""
    with command_database(settings) as database:
        found, now = database.read(lambda connection: (stored.list_all(connection), database.now(connection)))
    rows = [("name", "scope", "state", "created", "expires", "last used")]
    for each in found:
        times = (_text(moment) for moment in (each.created_at, each.expires_at, each.last_used_at))
        rows.append((each.name, each.scope, _state(each, now), *times))  # type: ignore[arg-type]
    rows += [(one.name, one.scope, "settings", NONE, _text(one.expires), NONE) for one in settings.access.tokens]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())  # noqa: T201


async def revoke(settings: Settings, name: str) -> None:
    """Revoke a token for good.

    Raises:
        SettingsError: the database has no such token.
        Fatal: the database cannot be used.
    """
    with command_database(settings) as database:
        before = database.write(lambda connection: stored.revoke(connection, database.now(connection), name))
    if before is None and name in _names_of_settings(settings):
        raise SettingsError(f"{name} is a token of access.tokens: remove it there and restart the producers")
    if before is None and looks_like_token(name):
        raise SettingsError("there is no token of this name, which looks like a token; list them to see their names")
    if before is None:
        raise SettingsError(f"there is no token {name}; list them to see their names")
    since = before.revoked_at
    print(f"{name}: {before.scope} -> revoked" if since is None else f"{name}: revoked since {utc_text(since)}")  # noqa: T201


def _names_of_settings(settings: Settings) -> set[str]:
    return {token.name for token in settings.access.tokens}


def _lifetime(text: str) -> timedelta | datetime:
    if match := re.fullmatch(r"([1-9][0-9]{0,5})([hd])", text, re.ASCII):
        return min(int(match[1]) * UNITS[match[2]], MAX_LIFETIME)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"{text!r} is no time; give for example 12h, 90d or 2027-01-31T00:00Z") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _state(token: StoredToken, now: datetime) -> str:
    if token.revoked_at is not None:
        return "revoked"
    return "expired" if token.expires_at is not None and token.expires_at <= now else "valid"


def _text(moment: datetime | None) -> str:
    return NONE if moment is None else utc_text(moment)
