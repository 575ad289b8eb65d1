"""The statements about tokens: add, find, list, revoke, note their use; and the cities that each has open.

A token is stored as its digest alone. What its scope allows is not decided here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, cast

from sqlalchemy import ColumnElement, Connection, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from raingauge.access.tokens import Scope, digest
from raingauge.database.causes import is_duplicate
from raingauge.errors import Overtaken, Permanent
from raingauge.model import CollectionState
from raingauge.storage.models import Collection, Token

OF_SETTINGS: Final = "settings"
"""The scope of a row that stands for a token of the settings, to be locked, or for all of them, to be remembered."""
SETTINGS_HAD_TOKENS: Final = ":settings"
"""The name of the row that remembers tokens of the settings; no token can have it."""
USED_EVERY: Final = timedelta(minutes=1)
"""The last use is stored at most this often."""


class NameTaken(Permanent):
    """A token has this name, or had it before it was revoked."""


@dataclass(frozen=True, slots=True)
class StoredToken:
    """What is stored of a token, without its digest."""

    name: str
    scope: Scope
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


_COLUMNS: Final = tuple(getattr(Token, name) for name in StoredToken.__dataclass_fields__)
_STATE: Final = tuple(getattr(Collection, name) for name in CollectionState.__dataclass_fields__)
_IS_TOKEN: Final[ColumnElement[bool]] = Token.scope != OF_SETTINGS


def add(
    connection: Connection, now: datetime, name: str, sha256: str, scope: Scope, expires_at: datetime | None
) -> None:
    """Store a token.

    Raises:
        NameTaken: a row with this name exists.
    """
    values = {"name": name, "sha256": sha256, "scope": scope, "created_at": now, "expires_at": expires_at}
    try:
        connection.execute(insert(Token).values(values))
    except IntegrityError as error:
        if is_duplicate(error):
            raise NameTaken(name) from error
        raise


def revoke(connection: Connection, now: datetime, name: str) -> StoredToken | None:
    """Revoke a token for good, if it is not yet; return what it was before, or None if there is none."""
    before = connection.execute(select(*_COLUMNS).where(Token.name == name, _IS_TOKEN).with_for_update()).one_or_none()
    if before is None:
        return None
    connection.execute(update(Token).where(Token.name == name, Token.revoked_at.is_(None)).values(revoked_at=now))
    return StoredToken(*before)


def list_all(connection: Connection) -> list[StoredToken]:
    """All tokens, revoked ones too, by name."""
    return [StoredToken(*row) for row in connection.execute(select(*_COLUMNS).where(_IS_TOKEN).order_by(Token.name))]


def find(connection: Connection, digests: Sequence[str]) -> Mapping[str, StoredToken]:
    """The tokens with these digests, revoked and expired ones too."""
    found = connection.execute(select(Token.sha256, *_COLUMNS).where(Token.sha256.in_(digests), _IS_TOKEN))
    return {row[0]: StoredToken(*row[1:]) for row in found}


def any_exists(connection: Connection) -> bool:
    """Whether there ever was a token, here or in the settings: taking the last one away must not open the API."""
    found = select(Token.name).where(or_(_IS_TOKEN, Token.name == SETTINGS_HAD_TOKENS))
    return connection.execute(found.limit(1)).first() is not None


def any_valid(connection: Connection, now: datetime) -> bool:
    """Whether a token of the database can be used now."""
    lasts = or_(Token.expires_at.is_(None), Token.expires_at > now)
    found = select(Token.name).where(_IS_TOKEN, Token.revoked_at.is_(None), lasts)
    return connection.execute(found.limit(1)).first() is not None


def remember_settings(connection: Connection, now: datetime) -> None:
    """Store that the settings have tokens. Raises Overtaken as `lock`."""
    lock(connection, now, [SETTINGS_HAD_TOKENS])


def note_use(connection: Connection, now: datetime, names: Sequence[str]) -> None:
    """Store that these tokens are in use, unless that was stored in the last minute."""
    long_ago = or_(Token.last_used_at.is_(None), Token.last_used_at < now - USED_EVERY)
    connection.execute(update(Token).where(Token.name.in_(names), long_ago).values(last_used_at=now))


def lock(connection: Connection, now: datetime, names: Sequence[str]) -> None:
    """Lock the rows of these tokens until the transaction ends, in order; a token of the settings gets a row for it.

    Raises:
        Overtaken: another transaction made such a row at the same time.
    """
    wanted = sorted(set(names))
    locked = connection.scalars(
        select(Token.name).where(Token.name.in_(wanted)).order_by(Token.name).with_for_update()
    ).all()
    if missing := [name for name in wanted if name not in locked]:
        rows = [
            {"name": name, "sha256": digest(f"{OF_SETTINGS} {name}"), "scope": OF_SETTINGS, "created_at": now}
            for name in missing
        ]
        try:
            connection.execute(insert(Token), rows)
        except IntegrityError as error:
            if is_duplicate(error):
                raise Overtaken from error
            raise


def open_cities(connection: Connection, names: Sequence[str]) -> dict[str, int]:
    """Unsettled cities of the open collections that each of these tokens has requested; by an index."""
    left = func.sum(Collection.total - Collection.collected - Collection.failed)
    found = connection.execute(
        select(Collection.requested_by, left)
        .where(Collection.requested_by.in_(names), Collection.finished_at.is_(None))
        .group_by(Collection.requested_by)
    )
    return {cast("str", name): int(cities) for name, cities in found}


def open_collections(connection: Connection, name: str, limit: int) -> list[CollectionState]:
    """Up to `limit` open collections that this token has requested; by an index."""
    requested = select(*_STATE).where(Collection.requested_by == name, Collection.finished_at.is_(None))
    return [CollectionState(*row) for row in connection.execute(requested.limit(limit))]
