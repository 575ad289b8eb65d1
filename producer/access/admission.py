"""Whether requests need tokens at all, and whom a request's token stands for. It knows neither routes nor answers.

As long as no token exists, anonymous requests have all rights. The first token ends that, in the database or in the
settings. Taking the last one away does not bring it back: a revoked token still exists, and the database remembers that
the settings had one.
"""

import logging
from collections.abc import Mapping
from functools import partial
from typing import Final, NoReturn

from sqlalchemy import Connection

from producer.access.clients import current
from producer.access.verification import DEADLINE_S, Verdict, Verification
from raingauge.access import stored
from raingauge.background import repeated
from raingauge.database.transactions import Transactions
from raingauge.errors import DatabaseUnavailable, SettingsError
from raingauge.settings import Settings, TokenSettings

log = logging.getLogger("raingauge.access")

RETRY_S: Final = 1.0
NOBODY: Final = (
    "there were tokens, and none is valid, so only what needs no token is answered: make one by "
    "`raingauge admin token add`"
)
LOOK_EVERY_S: Final = 4.0
"""How long it takes at most until a first token is noticed."""
REFUSED: Final = (
    "http.host: {host} can be reached from other machines, and there is no token. Make one by "
    "`raingauge admin token add NAME --scope admin` or name one in access.tokens, or listen on 127.0.0.1, or set "
    "http.allow_anonymous: true where something else keeps others out"
)


class Admission:
    """Admits requests. `is_open`: anonymous ones have all rights; None: it is not known yet."""

    def __init__(self, transactions: Transactions, verification: Verification, *, refusal: str | None) -> None:
        self.is_open: bool | None = False if verification.has_fixed else None
        self.verification = verification
        self.clock = transactions.clock
        self._transactions = transactions
        self._refusal = refusal

    async def check(self) -> None:
        """Find out whether a token exists.

        Raises:
            SettingsError: there is none, and anonymous access is not allowed.
            DatabaseUnavailable: it is not known, because the database did not answer.
        """
        if self.is_open is False:
            return
        exists = await self._transactions.read(stored.any_exists, DEADLINE_S)
        if exists and self.is_open:
            log.warning("access.closed", extra={"why": "a token was added: from now on each request needs one"})
        if not exists and self._refusal is not None:
            raise SettingsError(self._refusal)
        self.is_open = not exists

    async def wait_until_known(self) -> None:
        """Return when it is known whether a token exists, and remembered. Raises SettingsError as `check`."""
        while True:
            try:
                await self.check()
                return await self._remember()
            except DatabaseUnavailable as error:
                log.warning("database.unavailable", extra={"error": str(error)})
                await self.clock.sleep(RETRY_S)

    async def _remember(self) -> None:
        """Store that the settings have tokens; without them, warn if nobody can get in."""

        def work(connection: Connection) -> None:
            stored.remember_settings(connection, self._transactions.now(connection))

        def is_anyone_admitted(connection: Connection) -> bool:
            return stored.any_valid(connection, self._transactions.now(connection))

        if self.verification.has_fixed:
            await self._transactions.write(work)
        elif not self.is_open and not await self._transactions.read(is_anyone_admitted):
            log.warning("access.nobody", extra={"why": NOBODY})

    async def run(self) -> NoReturn:
        """Notice the first token, and store which tokens are in use, until cancelled."""
        await repeated(self._round, partial(self.clock.sleep, LOOK_EVERY_S))

    async def _round(self) -> bool:
        if self.is_open:
            await self.check()
        await self.verification.store_uses()
        return False

    async def verdict(self, digest: str) -> Verdict:
        """What is known of the token with this digest.

        Raises:
            DatabaseUnavailable: no verdict is cached, and the database did not answer.
        """
        return self.verification.at_hand(digest) or await self.verification.look_up(digest)

    async def still_admits(self) -> bool:
        """Whether the sender of this request, which may have begun long ago, would be admitted now."""
        sender = current.get()
        if sender is None:
            return self.is_open is True
        try:
            return (await self.verdict(sender.digest)).client is not None
        except DatabaseUnavailable:
            return False


def open_to_all(transactions: Transactions) -> Admission:
    """Admission where it is known that no token exists."""
    admitted = Admission(transactions, Verification(transactions), refusal=None)
    admitted.is_open = True
    return admitted


def admission(transactions: Transactions, settings: Settings, fixed: Mapping[str, TokenSettings]) -> Admission:
    """Admission as the settings say; `fixed`: the tokens of the settings by their digests."""
    http = settings.http
    refusal = None if http.is_loopback or http.allow_anonymous else REFUSED.format(host=http.host)
    return Admission(transactions, Verification(transactions, fixed, settings.limits), refusal=refusal)
