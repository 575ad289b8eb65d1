"""What becomes of the answers: the gate is told, cities without an answer rest or are given up, the rest is stored.

It makes no calls and takes nothing from the pool's turns.
"""

import logging
import random
from collections.abc import Collection as Many
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Final

from consumer.admission import Grant
from consumer.calls import Result
from consumer.gate import Event
from consumer.keeping import Keeping
from consumer.lending import Spurned
from consumer.means import Means, Tally
from consumer.patience import Patience
from consumer.pool import Pool
from consumer.store import Brought, Harvest
from raingauge.storage.batches import BatchRef

log = logging.getLogger("raingauge.settler")

UNEXPECTED_REST_S: Final = 5.0
SPURN_S: Final = 60.0
"""What was borrowed in vain is left to its owner for so long."""
GIVEN_UP: Final = "the provider failed for this city, again and again"


class Settler:
    """Settles what calls bring."""

    def __init__(self, pool: Pool, means: Means, patience: Patience, tally: Tally) -> None:
        self._pool = pool
        self._means = means
        self._clock = means.clock
        self._patience = patience
        self._tally = tally
        self._keeping = Keeping(means)
        self.spurned = Spurned()
        """What is not to be borrowed."""

    async def settle(
        self, grant: Grant, result: Result, fetched_at: datetime
    ) -> tuple[Sequence[BatchRef], Sequence[BatchRef]]:
        """Store what came; answer the batches that are settled by it, and those that met an error nobody expected."""
        if not (grant.clean and result.event is Event.ANSWERED):
            await self._report(grant, result)
        self._patience.succeeded(result.observations, result.unknown)
        lent = {want.city_id for want in grant.lent}
        given_up = self._blame(result.blamed - lent)
        harvest = Harvest(fetched_at, result.observations, frozenset(result.unknown), given_up)
        self._pool.put_back(sorted(result.split), self._clock.monotonic(), alone=True)
        # Who came since the answer, while the database was away perhaps, may want a newer one.
        everybody = dict.fromkeys([*self._pool.wants(harvest.city_ids), *grant.lent])
        wants = [want for want in everybody if harvest.settles(want)]
        kept = await self._keeping.keep(Brought(grant, harvest, wants, result.closes))
        self._tally.cities_collected += len(result.observations)
        settled = self._pool.settle(kept)
        left = {want.city_id for want in wants} - {want.city_id for want in kept}
        self._pool.put_back(sorted(left), self._clock.monotonic() + UNEXPECTED_REST_S)
        # What goes wrong with cities that others lent, their owners meet themselves, count and bury.
        self.spurned.add(lent & (result.blamed | result.split | left), self._clock.monotonic() + SPURN_S)
        own = [want for want in wants if want not in grant.lent]
        return settled, sorted({want.ref for want in own} - {want.ref for want in kept})

    async def _report(self, grant: Grant, result: Result) -> None:
        """Tell the gate, and say in the log what changed."""
        retry_after_s = None if result.refusal is None else result.refusal.retry_after_s
        if result.refusal is not None:
            self._tally.refusals += 1
        work = partial(self._means.ledger.report, grant, result.event, retry_after_s)
        changes = await self._means.persist(work)
        told = {name: str(changes[name]) for name in ("state", "blocked_until", "endpoint") if name in changes}
        if told:
            why = result.event.value if result.refusal is None else result.refusal.message
            if result.event is Event.ANSWERED and "state" not in told:
                log.info("gate.changed", extra=told | {"why": why})  # which endpoint works
            else:
                log.warning("gate.changed", extra=told | {"why": why})

    def _blame(self, city_ids: Many[int]) -> dict[int, str]:
        """Have cities without an answer rest; answer those that are given up."""
        given_up = {}
        for city_id in sorted(city_ids):
            verdict = self._patience.failed(city_id, random.random())
            if verdict.give_up:
                given_up[city_id] = GIVEN_UP
                self._patience.forget(city_id)
            else:
                self._pool.put_back([city_id], self._clock.monotonic() + verdict.rest_s, alone=verdict.alone)
        return given_up
