"""The simulator's settings, each with its default and its range. It must not read files or the environment."""

from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class GroupMode(StrEnum):
    """How the group endpoint answers."""

    WORKS = "works"
    """Unknown ids are left out of the list; 404 if all are unknown."""
    REMOVED = "removed"
    """401 for every call, as OpenWeather has answered since August 2025."""
    STRICT = "strict"
    """404 for the whole call if one id is unknown."""


class Behaviour(BaseModel):
    """The settings that can be changed while the simulator runs. The defaults are those of a free key."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )

    quota: int = Field(60, ge=0, description="cities in any rolling window; 0: unlimited")
    window_s: float = Field(60.0, gt=0, description="width of that window")
    group: GroupMode = Field(GroupMode.WORKS, description="group endpoint: works, removed or strict")
    latency_s: float = Field(0.1, ge=0, description="time before every response")
    error_share: float = Field(0.0, ge=0, le=1, description="share of calls that get a 500")


def _split(ids: Any) -> Any:
    return [part for part in ids.split(",") if part] if isinstance(ids, str) else ids


class SimulatorSettings(Behaviour):
    """All settings."""

    key: str = Field("simulator", min_length=1, repr=False, description="the only valid API key")
    unknown: Annotated[frozenset[int], BeforeValidator(_split)] = Field(
        frozenset(), description="ids of unknown cities, separated by commas; all others are known"
    )
    seed: int = Field(0, description="decides which calls a share hits")
