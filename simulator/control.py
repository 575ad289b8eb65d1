"""The routes below /control: they set faults, change settings and report what arrived. They need and show no key.

Times in reports are seconds since the start, and ISO 8601 in UTC.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from raingauge.clock import Clock
from raingauge.contracts import utc_text
from simulator.faults import Fault
from simulator.settings import Behaviour
from simulator.stand_in import StandIn
from simulator.witness import Endpoint


class WitnessQuery(BaseModel, extra="forbid", allow_inf_nan=False):
    """The query of GET /control/witness."""

    window_s: float | None = Field(None, gt=0, description="Another window than the quota's, over the kept calls.")


class CallsQuery(BaseModel, extra="forbid"):
    """The query of GET /control/calls."""

    after: int = Field(0, ge=0)
    limit: int = Field(1000, ge=1, le=10_000)


def router(stand_in: StandIn, clock: Clock) -> APIRouter:
    """Build the routes."""
    api = APIRouter(prefix="/control", tags=["control"])
    api.include_router(_changes(stand_in, clock))
    start = _Start(clock.now(), clock.monotonic())
    api.include_router(_witness(stand_in, start))
    api.include_router(_calls(stand_in, start))
    return api


def _changes(stand_in: StandIn, clock: Clock) -> APIRouter:
    api = APIRouter()

    @api.get("/faults")
    async def list_faults() -> dict[str, Any]:
        """The active faults as they were set; `left_s`: seconds until each ends, or null."""
        active = stand_in.faults.active(clock.monotonic())
        return {"faults": [f.model_dump(mode="json", exclude_unset=True) | {"left_s": left_s} for f, left_s in active]}

    @api.post("/faults")
    async def set_fault(fault: Fault) -> dict[str, Any]:
        """Activate a fault, in place of an earlier one of its kind; answers with all that are active."""
        stand_in.faults.set(fault, clock.monotonic())
        return await list_faults()

    @api.delete("/faults")
    async def clear_faults() -> dict[str, Any]:
        """End all faults."""
        stand_in.faults.clear()
        return await list_faults()

    @api.get("/settings", response_model=Behaviour)
    async def show_settings() -> Behaviour:
        """The settings that can be changed."""
        return stand_in.settings

    @api.put("/settings", response_model=Behaviour)
    async def change_settings(changes: Behaviour) -> Behaviour:
        """Change the settings that are given; the others stay as they are."""
        stand_in.change(stand_in.settings.model_copy(update=changes.model_dump(exclude_unset=True)))
        return stand_in.settings

    return api


@dataclass(frozen=True)
class _Start:
    """The start of the simulator on both clocks."""

    moment: datetime
    at: float
    """Monotonic, in seconds."""

    def times(self, name: str, at: float | None) -> dict[str, Any]:
        """A moment as seconds since the start and as a time."""
        since_s = None if at is None else round(at - self.at, 6)
        iso = None if since_s is None else utc_text(self.moment + timedelta(seconds=since_s))
        return {f"{name}_s": since_s, name: iso}


def _witness(stand_in: StandIn, start: _Start) -> APIRouter:
    api = APIRouter()

    @api.get("/witness")
    async def show_witness(query: Annotated[WitnessQuery, Query()]) -> dict[str, Any]:
        """What arrived since the start or the last reset, and the most units in any window.

        `underway`: calls without a response yet. Status 0: the connection was closed without a response.
        """
        witness = stand_in.witness
        peak = witness.peak if query.window_s is None else witness.peak_of(query.window_s)
        calls, units = witness.calls, witness.units
        return {
            "started_at": utc_text(start.moment),
            "calls": calls.total(),
            "units": units.total(),
            **{f"{endpoint}_calls": calls[endpoint] for endpoint in Endpoint},
            **{f"{endpoint}_units": units[endpoint] for endpoint in Endpoint},
            "statuses": {str(status): number for status, number in sorted(witness.statuses.items())},
            "underway": calls.total() - witness.statuses.total(),
            "window_s": peak.width_s,
            "most_in_window": peak.units,
            **start.times("first_at", witness.first_at),
            **start.times("last_at", witness.last_at),
        }

    @api.delete("/witness")
    async def reset_witness() -> dict[str, Any]:
        """Forget all calls; the quota is enforced as before."""
        stand_in.forget_calls()
        return await show_witness(WitnessQuery())

    return api


def _calls(stand_in: StandIn, start: _Start) -> APIRouter:
    api = APIRouter()

    @api.get("/calls")
    async def list_calls(query: Annotated[CallsQuery, Query()]) -> dict[str, Any]:
        """The latest calls. `first`: the oldest number kept; `next`: what to give as `after` for more, or null."""
        witness = stand_in.witness
        calls: list[dict[str, Any]] = [
            {
                "number": call.number,
                "endpoint": call.endpoint,
                "ids": [None if number < 0 else number for number in call.ids],
                "status": call.status,
                "units": call.units,
                **start.times("at", call.at),
            }
            for call in witness.page(query.after, query.limit)
        ]
        more = bool(calls) and calls[-1]["number"] < witness.next_number - 1
        return {"first": witness.first_number, "calls": calls, "next": calls[-1]["number"] if more else None}

    return api
