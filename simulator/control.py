"""The control path: sets faults, changes settings and reports what was seen. No key is needed, and none is shown."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, ClassVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from raingauge.clock import Clock
from raingauge.contracts import utc_text
from simulator.calls import UNDERWAY, Call, Endpoint
from simulator.faults import FaultForm
from simulator.stand_in import StandIn
from simulator.windows import Peak


class _Form(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SettingsForm(_Form):
    """What PUT /control/settings takes; what is left out stays as it is."""

    quota: int | None = Field(default=None, ge=0)
    window_s: Annotated[float, Field(gt=0)] | None = None
    latency_s: Annotated[float, Field(ge=0)] | None = None


class WindowForm(_Form):
    """The query of GET /control/witness."""

    window_s: Annotated[float, Field(gt=0)] | None = None


class PageForm(_Form):
    """The query of GET /control/calls."""

    after: int = Field(default=0, ge=0)
    limit: int = Field(default=1000, ge=1, le=10_000)


class Control:
    """The routes below /control/. Times in reports are seconds since `create_app`, and ISO 8601 in UTC."""

    def __init__(self, stand_in: StandIn, clock: Clock) -> None:
        self._stand_in = stand_in
        self._clock = clock
        self._started_at = clock.monotonic()
        self._started = clock.now()
        self._changing = asyncio.Lock()

    def routes(self) -> list[Route]:
        """All routes, with their full paths."""
        return [
            Route("/control/faults", self.list_faults, methods=["GET"]),
            Route("/control/faults", self.set_fault, methods=["POST"]),
            Route("/control/faults", self.clear_faults, methods=["DELETE"]),
            Route("/control/settings", self.show_settings, methods=["GET"]),
            Route("/control/settings", self.change_settings, methods=["PUT"]),
            Route("/control/witness", self.report, methods=["GET"]),
            Route("/control/witness", self.reset, methods=["DELETE"]),
            Route("/control/calls", self.list_calls, methods=["GET"]),
        ]

    async def list_faults(self, _request: Request) -> Response:
        """{"faults": [the form it was set with, and "left_s": seconds or null]}."""
        listing = self._stand_in.faults.listing(self._clock.monotonic())
        return JSONResponse({"faults": [fault.model_dump(mode="json") | {"left_s": left} for fault, left in listing]})

    async def set_fault(self, request: Request) -> Response:
        """Take one of the forms in `simulator.faults`; answers as `list_faults`."""
        form = FaultForm.model_validate_json(await request.body(), strict=True)
        self._stand_in.faults.set(form.root, self._clock.monotonic())
        return await self.list_faults(request)

    async def clear_faults(self, request: Request) -> Response:
        """End all faults; answers as `list_faults`."""
        self._stand_in.faults.clear()
        return await self.list_faults(request)

    async def show_settings(self, _request: Request) -> Response:
        """The settings that can be changed, and the group mode. Never the key."""
        settings = self._stand_in.settings
        return JSONResponse(
            {
                "quota": settings.quota,
                "window_s": settings.window_s,
                "latency_s": settings.latency_s,
                "error_share": settings.error_share,
                "group": settings.group.value,
            }
        )

    async def change_settings(self, request: Request) -> Response:
        """Take a `SettingsForm`; answers as `show_settings`."""
        changes = SettingsForm.model_validate_json(await request.body(), strict=True).model_dump(exclude_none=True)
        async with self._changing:
            self._stand_in.change(replace(self._stand_in.settings, **changes))
            self._stand_in.witness.peak = await self._peak(self._stand_in.settings.window_s)
        return await self.show_settings(request)

    async def report(self, request: Request) -> Response:
        """What was seen since the start or the last reset.

        `most_in_window` looks at every call for the window of the settings, and at the kept ones for another.
        """
        witness = self._stand_in.witness
        width_s = WindowForm.model_validate(dict(request.query_params)).window_s or witness.peak.width_s
        peak = await self._peak(width_s)
        tally = witness.tally
        return JSONResponse(
            {
                "started_at": utc_text(self._started),
                "calls": tally.calls,
                "units": tally.units,
                "group_calls": tally.calls_to[Endpoint.GROUP],
                "group_units": tally.units_to[Endpoint.GROUP],
                "single_calls": tally.calls_to[Endpoint.SINGLE],
                "single_units": tally.units_to[Endpoint.SINGLE],
                "statuses": {str(status): number for status, number in sorted(tally.statuses.items())},
                "underway": tally.calls - tally.statuses.total(),
                "window_s": peak.width_s,
                "most_in_window": peak.units,
                "first_at_s": self._since_start(tally.first_at),
                "first_at": self._iso(tally.first_at),
                "last_at_s": self._since_start(tally.last_at),
                "last_at": self._iso(tally.last_at),
            }
        )

    async def reset(self, request: Request) -> Response:
        """Forget all calls; the quota is enforced as before. Answers as `report`."""
        async with self._changing:
            self._stand_in.witness.reset()
        return await self.report(request)

    async def list_calls(self, request: Request) -> Response:
        """{"first": oldest number kept, "calls": [...], "next": what to give as `after` for more, or null}."""
        form = PageForm.model_validate(dict(request.query_params))
        log = self._stand_in.witness.log
        calls = list(log.read(form.after, form.limit))
        more = bool(calls) and calls[-1].number < log.next - 1
        listed = [self._listed(call) for call in calls]
        return JSONResponse({"first": log.first, "calls": listed, "next": calls[-1].number if more else None})

    def _listed(self, call: Call) -> dict[str, object]:
        return {
            "number": call.number,
            "at_s": self._since_start(call.at),
            "at": self._iso(call.at),
            "endpoint": call.endpoint.name.lower(),
            "ids": [None if number < 0 else number for number in call.ids],
            "status": None if call.status == UNDERWAY else call.status,
            "units": call.units,
        }

    async def _peak(self, width_s: float) -> Peak:
        """The most units in any window of this width; others get their turn while it is counted."""
        witness, peak, begin = self._stand_in.witness, Peak(width_s), 0
        if width_s == witness.peak.width_s:
            return witness.peak
        while begin < witness.log.next:
            begin = witness.replay(peak, begin)
            await self._clock.sleep(0)
        return peak

    def _since_start(self, at: float | None) -> float | None:
        return None if at is None else round(at - self._started_at, 6)

    def _iso(self, at: float | None) -> str | None:
        return None if at is None else utc_text(self._started + timedelta(seconds=at - self._started_at))


async def refuse_form(_request: Request, error: Exception) -> Response:
    """422 with what is wrong with a form, in one line."""
    wrongs = cast("ValidationError", error).errors(include_url=False)
    return JSONResponse(
        {"error": "; ".join(f"{'.'.join(map(str, e['loc'])) or 'input'}: {e['msg']}" for e in wrongs)}, 422
    )
