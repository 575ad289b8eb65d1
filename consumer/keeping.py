"""Storing what calls bring, several at a time: what comes while a transaction runs shares the next one.

A call alone is stored at once. It makes no calls and touches no pool.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from consumer.means import Means
from consumer.store import Brought
from raingauge.storage.readings import Want

log = logging.getLogger("raingauge.keeping")

MOST: Final = 10
"""Calls in one transaction."""


@dataclass(slots=True)
class _Waiting:
    """What one call brought, and later which of its wants are stored."""

    brought: Brought
    tried: bool = False
    kept: Sequence[Want] = ()


class Keeping:
    """One transaction at a time; whoever gets to open it takes along what the others brought meanwhile."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._waiting: list[_Waiting] = []
        self._storing = asyncio.Lock()

    async def keep(self, brought: Brought) -> Sequence[Want]:
        """Store what a call brought; answer the wants that are stored: all, unless something unexpected happens."""
        mine = _Waiting(brought)
        self._waiting.append(mine)
        async with self._storing:
            while not mine.tried:
                await self._store(self._waiting[:MOST])
                self._waiting = [one for one in self._waiting if not one.tried]
        return mine.kept

    async def _store(self, together: Sequence[_Waiting]) -> None:
        all_stored = len(together) > 1 and await self._stored([one.brought for one in together])
        for one in together:
            one.kept = one.brought.wants if all_stored else await self._keep_alone(one.brought)
            one.tried = True

    async def _keep_alone(self, brought: Brought) -> Sequence[Want]:
        """Store one call's answers; when that fails, batch by batch, so that one cannot stop the others."""
        if await self._stored([brought]):
            return brought.wants
        kept: list[Want] = []
        for ref in sorted({want.ref for want in brought.wants}):
            own = [want for want in brought.wants if want.ref == ref]
            if await self._stored([replace(brought, wants=own, closes=False)]):
                kept.extend(own)
        return kept

    async def _stored(self, brought: Sequence[Brought]) -> bool:
        """Whether they could be stored, however long the database is away."""
        try:
            await self._means.persist(partial(self._means.store.keep, brought))
        except Exception:
            log.exception("settler.unexpected", extra={"charges": [one.grant.charge_id for one in brought]})
            return False
        return True
