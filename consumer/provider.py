"""The port of the weather provider: what can be asked, and what may come back. Adapter: `openweather`.

One call on the wire for each method call: no retries, no redirects, because every attempt is charged by the quota.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from raingauge.observation import Observation


@dataclass(frozen=True, slots=True)
class Weather:
    """A complete answer: every city asked for is in exactly one of the three."""

    observations: Mapping[int, Observation]
    unknown: frozenset[int] = field(default=frozenset())
    """The provider does not know these ids."""
    unreadable: frozenset[int] = field(default=frozenset())
    """The provider named these, but what it said of them lacks what is needed."""
    closes = True


class Reason(Enum):
    """Why the provider refused a call."""

    QUOTA = "quota"
    """429: over the plan."""
    KEY = "key"
    """401: the key is missing, wrong or not active yet, or the endpoint is not in the plan; nobody says which."""
    ENDPOINT = "endpoint"
    """404 or 410 that is not about the cities: nothing answers at this path."""
    CITIES = "cities"
    """400 or 404 to a group: some id in it is not known; ask them one by one."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The provider answered, but with a refusal."""

    reason: Reason
    message: str
    """For people; the key is not in it."""
    retry_after_s: float | None = None
    """From a Retry-After header, where one came."""
    closes: bool = True
    """Whether the answer is complete and in the provider's own JSON, so that the charge may close (docs: quota)."""


Reply = Weather | Refusal


class Provider(Protocol):
    """Calls the provider. Blocking; may be used from several threads at once.

    `send_by` is a moment on `Clock.monotonic()`: a call that could not be written to the wire by then is not sent.

    Raises (both methods):
        ProviderUnavailable: no answer of the provider's own came (5xx, timeout, broken connection or body, a proxy's
            page), or it was too late to send. The provider may still count the call.
    """

    def group(self, city_ids: Sequence[int], send_by: float) -> Reply:
        """Ask for up to 20 distinct cities in one call."""

    def single(self, city_id: int, send_by: float) -> Reply:
        """Ask for one city."""
