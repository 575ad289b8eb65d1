"""The faults that can be set while the simulator runs, and which of them are active. Pure: moments come in.

The classes are the JSON forms of POST /control/faults, for example {"fault": "errors", "share": 0.3, "for_s": 10}.
"""

import math
from random import Random
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, RootModel


class Fault(BaseModel):
    """Any fault: active for `for_s` seconds, or until it is cleared."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    for_s: Annotated[float, Field(gt=0)] | None = None


class StrikingFault(Fault):
    """A fault that strikes a share of the calls, by default all."""

    share: float = Field(default=1.0, ge=0, le=1)


class Errors(StrikingFault):
    """500 with the provider's JSON."""

    fault: Literal["errors"]


class CityErrors(Fault):
    """500 whenever one of these cities is asked."""

    fault: Literal["city_errors"]
    city_ids: frozenset[int] = Field(min_length=1)


class Html(StrikingFault):
    """502 with a proxy's page."""

    fault: Literal["html"]


class BrokenJson(StrikingFault):
    """The body ends in its middle."""

    fault: Literal["broken_json"]


class Outage(StrikingFault):
    """The connection is closed at once, without an answer."""

    fault: Literal["outage"]


class Lose(StrikingFault):
    """The connection is closed when the answer is due, without it."""

    fault: Literal["lose"]


class Slow(StrikingFault):
    """Answers take so much longer."""

    fault: Literal["slow"]
    latency_s: float = Field(gt=0)


class Drip(StrikingFault):
    """The body comes one byte at a time, with a pause after each."""

    fault: Literal["drip"]
    pause_s: float = Field(default=0.1, gt=0)


class TooMany(Fault):
    """429 to all calls, with a Retry-After header where one is given."""

    fault: Literal["too_many"]
    retry_after_s: int | None = Field(default=None, ge=0)


class RefuseKey(Fault):
    """401 to all calls."""

    fault: Literal["refuse_key"]


class RemoveGroup(Fault):
    """The group endpoint answers as if it were removed. Takes the place of `restore_group`."""

    fault: Literal["remove_group"]


class RestoreGroup(Fault):
    """The group endpoint works, though the settings may say it is removed. Takes the place of `remove_group`."""

    fault: Literal["restore_group"]


AnyFault = (
    Errors
    | CityErrors
    | Html
    | BrokenJson
    | Outage
    | Lose
    | Slow
    | Drip
    | TooMany
    | RefuseKey
    | RemoveGroup
    | RestoreGroup
)


class FaultForm(RootModel[Annotated[AnyFault, Field(discriminator="fault")]]):
    """One fault, told by its name."""


F = TypeVar("F", bound=Fault)
S = TypeVar("S", bound=StrikingFault)


class Faults:
    """The faults that are set: one of each kind, the latest counts. All moments are seconds on one clock."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._set: dict[type[Fault], tuple[Fault, float]] = {}

    def set(self, fault: Fault, now: float) -> None:
        """Make a fault active from now on."""
        if isinstance(fault, RemoveGroup | RestoreGroup):
            self._set.pop(RemoveGroup, None)
            self._set.pop(RestoreGroup, None)
        self._set[type(fault)] = (fault, math.inf if fault.for_s is None else now + fault.for_s)

    def active(self, kind: type[F], now: float) -> F | None:
        """The fault of this kind, if one is active."""
        fault, until = self._set.get(kind, (None, now))
        return fault if isinstance(fault, kind) and now < until else None

    def strikes(self, kind: type[S], now: float) -> S | None:
        """The active fault of this kind, if it strikes this call; ask once for each call."""
        fault = self.active(kind, now)
        return fault if fault and self.chance(fault.share) else None

    def chance(self, share: float) -> bool:
        """True for this share of the times it is asked."""
        return self._random.random() < share

    def listing(self, now: float) -> list[tuple[Fault, float | None]]:
        """The active faults, each with the seconds it has left, or None when it stays until it is cleared."""
        return [(f, None if until == math.inf else until - now) for f, until in self._set.values() if now < until]

    def clear(self) -> None:
        """End all faults."""
        self._set.clear()
