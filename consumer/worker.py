"""One consumer at work: intake and caller beside each other, a heartbeat, and the order in which they stop."""

import asyncio
import contextlib
import logging
from typing import Final

from consumer.caller import Caller
from consumer.intake import Intake
from consumer.ledger import Ledger
from raingauge.clock import Clock, happens_within
from raingauge.errors import DatabaseUnavailable, Fatal
from raingauge.storage.quota import BEAT_S

log = logging.getLogger("raingauge.worker")

STALLED_AFTER_S: Final = 180.0
"""Longer than the caller's longest sleep and a call's timeout together: something holds all lanes."""
PRUNE_EVERY_BEATS: Final = 120
LEAVE_S: Final = 1.0
"""How long a consumer that stops tries to record it; otherwise its silence shows."""


class Worker:
    """Connects intake, caller and ledger, and runs them."""

    def __init__(self, intake: Intake, caller: Caller, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._stop = asyncio.Event()
        self.intake = intake
        self.caller = caller
        intake.on_enqueued = caller.wake
        caller.on_settled = intake.acknowledge

    def stop(self) -> None:
        """Take nothing more; finish the calls under way."""
        self._stop.set()
        self.intake.stop()
        self.caller.stop()

    async def run(self) -> None:
        """Work until stopped, and until what is under way is settled. What is not settled is delivered again.

        Raises:
            GateMismatch: the account's gate has other terms.
        """
        await self._ledger.open()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._beat())
            tasks.create_task(self.intake.run())
            tasks.create_task(self.caller.run())

    async def check(self) -> None:
        """Return when it can process all that is delivered.

        Raises:
            DatabaseUnavailable: the database does not answer.
            Fatal: a partition waits behind a message that this version cannot process.
        """
        obstacles = self.intake.obstacles
        await self._ledger.beat(len(obstacles))
        if obstacles:
            raise Fatal("; ".join(obstacles))

    async def leave(self) -> None:
        """Record that this consumer has stopped, if the database answers."""
        with contextlib.suppress(DatabaseUnavailable, TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await self._ledger.leave()

    async def _beat(self) -> None:
        """Record every few seconds that this consumer is alive, and forget old charges now and then."""
        beats = 0
        while True:
            try:
                await self._ledger.beat(len(self.intake.obstacles))
                if beats % PRUNE_EVERY_BEATS == 0:
                    await self._ledger.prune()
            except DatabaseUnavailable as error:
                log.warning("database.unavailable", extra={"error": str(error)})
            if self.caller.quiet_s > STALLED_AFTER_S:
                log.error("caller.stalled", extra={"seconds": round(self.caller.quiet_s)})
            beats += 1
            if await happens_within(self._stop, BEAT_S):
                return
