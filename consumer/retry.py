"""How long a city rests after a failed call, and when it is given up. Pure.

A failure counts against a city only while the provider answers for others: in an outage no city is at fault.
"""

import random
from typing import Final

from raingauge.backoff import backoff_s

GIVE_UP_AFTER: Final = 8
"""A provider that loses one call in ten fails a good city once in a hundred million times."""
BASE_S: Final = 2.0
CAP_S: Final = 30.0
INTERNAL_ERROR: Final = "internal error"
"""Why a city failed that this program could not store or enqueue."""


def rest_s(attempts: int) -> float | None:
    """Seconds until a city is requested again that failed that often, with jitter; None: it is given up."""
    if attempts >= GIVE_UP_AFTER:
        return None
    return backoff_s(attempts, BASE_S, CAP_S) * random.uniform(0.5, 1.0)
