"""Decides whose token a request carries: one of the settings, or of the database, whose verdicts are cached.

A verdict is valid for `FRESH_S`, so a revoked token may work that long. A verdict in use is renewed in the background
before it expires, so that no busy client waits for the database. In an outage of the database it is valid for `HELD_S`.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from math import inf
from typing import Final

from sqlalchemy import Connection

from producer.access.clients import Client
from producer.access.rates import Bucket
from producer.single_flight import SingleFlight
from raingauge.access import stored
from raingauge.access.stored import StoredToken
from raingauge.contracts import utc_text
from raingauge.database.transactions import Transactions
from raingauge.errors import DatabaseUnavailable
from raingauge.settings import LimitSettings, TokenSettings

log = logging.getLogger("raingauge.access")

AHEAD_S: Final = 2.0
"""A verdict that is used at this age is renewed in the background."""
FRESH_S: Final = 4.0
HELD_S: Final = 900.0
AWAY_S: Final = 3.0
"""The database counts as away for this long after a failure."""
RETRY_S: Final = 1.0
DEADLINE_S: Final = 0.7
MAX_KEPT: Final = 10_000
"""Verdicts of valid tokens, and as many of refused ones; of each the oldest goes first."""
STORE_USE_EVERY_S: Final = 60.0
UNKNOWN: Final = "there is no such token"


@dataclass(slots=True)
class Verdict:
    """What is known of a token."""

    client: Client | None
    reason: str = ""
    """Why it is refused."""
    checked_at_s: float = inf
    """Monotonic; a token of the settings is never checked again."""
    ends_at_s: float = inf
    """When the token expires; monotonic."""


class Verification:
    """Verdicts by digest. `limits` are those of tokens in the database."""

    def __init__(
        self,
        transactions: Transactions,
        fixed: Mapping[str, TokenSettings] | None = None,
        limits: LimitSettings | None = None,
    ) -> None:
        self._transactions = transactions
        self._monotonic = transactions.clock.monotonic
        self._limits = limits or LimitSettings()
        self._buckets: dict[str, Bucket] = {}
        self._fixed = {digest: self._verdict_of_settings(token) for digest, token in (fixed or {}).items()}
        self._valid: dict[str, Verdict] = {}
        self._refused: dict[str, Verdict] = {}
        """Kept apart, so that a client that sends invented tokens evicts no valid one."""
        self._failed_at_s: dict[str, float] = {}
        self._renewals: dict[str, asyncio.Task[None]] = {}
        self._used: set[str] = set()
        self._use_stored_at_s: dict[str, float] = {}
        self._first_reads: SingleFlight[str, Verdict] = SingleFlight(self._read)
        self._renewing_reads: SingleFlight[str, Verdict] = SingleFlight(self._read)
        """Reads for tokens that were valid: they must not wait behind those for invented ones."""

    @property
    def has_fixed(self) -> bool:
        """Whether the settings have tokens."""
        return bool(self._fixed)

    def at_hand(self, digest: str) -> Verdict | None:
        """The verdict, unless the database has to be read for it first."""
        now_s = self._monotonic()
        if (verdict := self._fixed.get(digest)) is None:
            verdict = self._valid.get(digest) or self._refused.get(digest)
            if verdict is None or not self._is_usable(verdict, digest, now_s):
                return None
            if verdict.client is not None:
                self._used.add(verdict.client.name)
        if now_s < verdict.ends_at_s:
            return verdict
        return Verdict(None, _expired(verdict.client))

    async def look_up(self, digest: str) -> Verdict:
        """The verdict by the database, or one of before while it is away.

        Raises:
            DatabaseUnavailable: it is away, and nothing is known of this token.
        """
        try:
            return await self._checked(digest)
        except DatabaseUnavailable:
            if (verdict := self.at_hand(digest)) is not None:
                return verdict
            raise

    async def store_uses(self) -> None:
        """Store which tokens are in use, of each at most once a minute.

        Raises:
            DatabaseUnavailable: the next call tries again.
        """
        now_s, stored_at_s = self._monotonic(), self._use_stored_at_s
        due = {name for name in self._used if now_s - stored_at_s.get(name, -inf) >= STORE_USE_EVERY_S}
        if not due:
            return

        def work(connection: Connection) -> None:
            stored.note_use(connection, self._transactions.now(connection), sorted(due))

        await self._transactions.write(work)
        self._used -= due
        stored_at_s.update(dict.fromkeys(due, now_s))

    def _is_usable(self, verdict: Verdict, digest: str, now_s: float) -> bool:
        """Whether the verdict is not too old; that of a valid token is renewed when it soon will be."""
        age_s = now_s - verdict.checked_at_s
        if age_s <= AHEAD_S or verdict.client is None:
            return age_s <= FRESH_S
        failed_s = now_s - self._failed_at_s.get(digest, -inf)
        if age_s > FRESH_S and not (failed_s <= AWAY_S and age_s <= HELD_S):
            return False
        if digest not in self._renewals and failed_s >= RETRY_S:
            self._renewals[digest] = asyncio.create_task(self._renew(digest))
        return True

    async def _renew(self, digest: str) -> None:
        try:
            await self._checked(digest)
        except DatabaseUnavailable as error:
            log.warning("database.unavailable", extra={"error": str(error)})
        finally:
            del self._renewals[digest]

    async def _checked(self, digest: str) -> Verdict:
        reads = self._renewing_reads if digest in self._valid else self._first_reads
        try:
            verdict = await reads.get(digest, asyncio.get_running_loop().time() + DEADLINE_S)
        except (TimeoutError, DatabaseUnavailable) as error:
            if digest in self._valid:
                self._failed_at_s[digest] = self._monotonic()
            if isinstance(error, DatabaseUnavailable):
                raise
            raise DatabaseUnavailable("no answer in time") from error
        if verdict is None:
            raise AssertionError("every digest has a verdict")
        self._keep(digest, verdict)
        if verdict.client is not None:
            self._used.add(verdict.client.name)
        return verdict

    def _keep(self, digest: str, verdict: Verdict) -> None:
        for verdicts in (self._valid, self._refused):
            verdicts.pop(digest, None)
        self._failed_at_s.pop(digest, None)
        kept = self._refused if verdict.client is None else self._valid
        kept[digest] = verdict
        if len(kept) > MAX_KEPT:
            oldest = next(iter(kept))
            del kept[oldest]
            self._failed_at_s.pop(oldest, None)

    async def _read(self, digests: Sequence[str]) -> Mapping[str, Verdict]:
        return await self._transactions.read(partial(self._found, digests))

    def _found(self, digests: Sequence[str], connection: Connection) -> dict[str, Verdict]:
        now, now_s = self._transactions.now(connection), self._monotonic()
        tokens = stored.find(connection, digests)
        return {digest: self._verdict(tokens.get(digest), now, now_s) for digest in digests}

    def _verdict(self, token: StoredToken | None, now: datetime, now_s: float) -> Verdict:
        if token is None:
            return Verdict(None, UNKNOWN, now_s)
        if token.revoked_at is not None:
            return Verdict(None, f"the token {token.name} was revoked", now_s)
        client = Client(
            token.name, token.scope, token.expires_at, self._limits.cities_open,
            self._bucket(token.name, self._limits.requests_per_s),
        )  # fmt: skip
        left_s = _left_s(token.expires_at, now)
        return Verdict(client, "", now_s, now_s + left_s) if left_s > 0 else Verdict(None, _expired(client), now_s)

    def _verdict_of_settings(self, token: TokenSettings) -> Verdict:
        own = {} if token.limits is None else token.limits.model_dump(exclude_unset=True)
        limits = self._limits.model_copy(update=own)
        bucket = self._bucket(token.name, limits.requests_per_s)
        client = Client(token.name, token.scope, token.expires, limits.cities_open, bucket)
        return Verdict(client, ends_at_s=self._monotonic() + _left_s(token.expires, self._transactions.clock.now()))

    def _bucket(self, name: str, rate: float) -> Bucket | None:
        """The client's own, which outlives its verdicts."""
        return self._buckets.setdefault(name, Bucket(rate)) if rate else None


def _left_s(expires_at: datetime | None, now: datetime) -> float:
    return inf if expires_at is None else (expires_at - now).total_seconds()


def _expired(client: Client | None) -> str:
    if client is None or client.expires_at is None:
        return UNKNOWN
    return f"the token {client.name} expired at {utc_text(client.expires_at)}"
