"""At a program's start: do the brokers let it in? A refusal ends it, an outage does not.

It must not judge a program that has been let in once: from then on a refusal is waited out like an outage.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from raingauge.clock import Clock
from raingauge.errors import SettingsError
from raingauge.messaging.kafka.causes import faults_of
from raingauge.messaging.kafka.cluster import Cluster

CHECK_EVERY_S: Final = 3.0


@asynccontextmanager
async def admitted(cluster: Cluster, clock: Clock) -> AsyncIterator[None]:
    """Run the block once the brokers were tried, whether they answer or not.

    Raises (at once, or later into the block if no broker answers at first):
        SettingsError: the brokers refuse this program, and waiting does not help.
    """
    async with asyncio.TaskGroup() as tasks:
        trying = None if await is_admitted(cluster) else tasks.create_task(_until_admitted(cluster, clock))
        try:
            yield
        finally:
            if trying is not None:
                trying.cancel()


async def _until_admitted(cluster: Cluster, clock: Clock) -> None:
    admitted = False
    while not admitted:
        await clock.sleep(CHECK_EVERY_S)
        admitted = await is_admitted(cluster)


async def is_admitted(cluster: Cluster) -> bool:
    """Whether a broker lets this program in; False if none can be reached.

    Raises:
        SettingsError: none does, and for one of them waiting does not help.
    """
    faults = await faults_of(cluster)
    lasting = [fault.cause for fault in faults if fault and fault.lasting]
    if lasting and None not in faults:
        raise SettingsError(f"broker.url: {'; '.join(dict.fromkeys(lasting))}")
    return None in faults
