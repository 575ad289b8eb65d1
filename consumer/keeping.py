"""Storing what calls bring, several at a time: what comes while a transaction runs, and as long after, shares the next.

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
from raingauge.clock import happens_within
from raingauge.storage.wanted import Want

log = logging.getLogger("raingauge.keeping")

MOST: Final = 10
"""Calls in one transaction."""
LONGEST_REST_S: Final = 0.05
"""However long a transaction took: the next is not put off for longer."""


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
        self._clock = means.clock
        self._waiting: list[_Waiting] = []
        self._storing = asyncio.Lock()
        self._rests_until = self._clock.monotonic()
        self._full = asyncio.Event()

    async def keep(self, brought: Brought) -> Sequence[Want]:
        """Store what a call brought; answer the wants that are stored: all, unless something unexpected happens."""
        mine = _Waiting(brought)
        self._waiting.append(mine)
        if len(self._waiting) >= MOST:
            self._full.set()
        async with self._storing:
            while not mine.tried:
                await self._gather()
                began = self._clock.monotonic()
                await self._store(self._waiting[:MOST])
                self._waiting = [one for one in self._waiting if not one.tried]
                ended = self._clock.monotonic()
                self._rests_until = ended + min(LONGEST_REST_S, ended - began)
        return mine.kept

    async def _gather(self) -> None:
        """Wait for others as long as the last transaction took: half of the time, where many come, is theirs."""
        left = self._rests_until - self._clock.monotonic()
        if left > 0 and len(self._waiting) < MOST:
            self._full.clear()
            await happens_within(self._full, left)

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
