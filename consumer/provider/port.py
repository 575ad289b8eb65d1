"""Port of the weather provider: the two calls and their possible replies. The adapter is `openweather`.

One method call is one request: the adapter must not retry or follow redirects, because the quota charges each request.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from raingauge.model import Observation


@dataclass(frozen=True, slots=True)
class Weather:
    """A complete answer: each requested city is in exactly one of the three collections."""

    observations: Mapping[int, Observation]
    unknown: frozenset[int] = field(default=frozenset())
    """Ids that the provider does not know."""
    unreadable: frozenset[int] = field(default=frozenset())
    """Ids that the provider returned without a usable time or temperature."""
    closes = True


class Reason(Enum):
    """Why the provider refused a call."""

    QUOTA = "quota"
    """429: over the plan's limit."""
    KEY = "key"
    """401: the key is missing, wrong or not active yet, or the plan lacks the endpoint; the answer is the same."""
    ENDPOINT = "endpoint"
    """The endpoint does not exist, or its path is blocked."""
    CITIES = "cities"
    """400 or 404 to a group: at least one id is not known; request the cities one by one."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The provider refused the call."""

    reason: Reason
    message: str
    """For people; never contains the key."""
    retry_after_s: float | None = None
    """Seconds from the Retry-After header, if there was one."""
    closes: bool = True
    """Whether the answer is complete and in the provider's own JSON, so that the charge may close (docs: quota)."""


Reply = Weather | Refusal


class Provider(Protocol):
    """Calls the provider. Blocking and thread-safe.

    `send_by` is a time on `Clock.monotonic()`: a request that has not been written by then is not sent.

    Both methods raise:
        ProviderUnavailable: no answer of the provider's own arrived (5xx, timeout, broken connection or body, a
            proxy's page). The provider may still have counted the call.
        NotSent: a ProviderUnavailable whose request was never written, for a reason on this side.
    """

    def group(self, city_ids: Sequence[int], send_by: float) -> Reply:
        """Request up to 20 distinct cities in one call."""

    def single(self, city_id: int, send_by: float) -> Reply:
        """Request one city."""
