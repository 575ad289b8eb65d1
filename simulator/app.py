"""The simulator as an ASGI app: the provider's two paths, and /control. It waits and sends; `stand_in` decides.

Run it without an access log: the provider's way of passing the key puts it into the URL.
"""

from dataclasses import dataclass

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from raingauge.clock import Clock
from simulator.calls import DROPPED, Endpoint
from simulator.control import Control, refuse_form
from simulator.places import load_places
from simulator.responses import Dropped, can_drop, dripping, remember_transport, undroppable, whole
from simulator.settings import SimulatorSettings
from simulator.stand_in import Manner, Reply, StandIn

_MAX_FORM_BYTES = 1_000_000


def create_app(settings: SimulatorSettings, clock: Clock) -> Starlette:
    """Make the app, with a witness and a quota of its own. Reads `producer/cities.csv`; opens nothing."""
    stand_in = StandIn(settings, load_places(settings.unknown))
    doors = [Door(endpoint, stand_in, clock) for endpoint in Endpoint]
    routes = [Route(f"/data/2.5/{door.endpoint.value}", door.answer, methods=["GET"]) for door in doors]
    app = SimulatorApp(
        routes=[*routes, *Control(stand_in, clock).routes(), Route("/health", _health, methods=["GET"])],
        exception_handlers={ValidationError: refuse_form},
        max_body_size=_MAX_FORM_BYTES,
    )
    app.router.redirect_slashes = False
    return app


class SimulatorApp(Starlette):
    """A Starlette app whose responses can close the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        remember_transport(scope, send)
        await super().__call__(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Door:
    """One of the provider's endpoints."""

    endpoint: Endpoint
    stand_in: StandIn
    clock: Clock

    async def answer(self, request: Request) -> Response:
        """Answer a call; it has arrived at the moment this begins."""
        at = self.clock.monotonic()
        reply = self.stand_in.arrive(self.endpoint, request.query_params, at, self.clock.now())
        if reply.wait_s:
            await self.clock.sleep(reply.wait_s)
        status, response = self._response(request, reply)
        self.stand_in.witness.answered(reply.number, status)
        return response

    def _response(self, request: Request, reply: Reply) -> tuple[int, Response]:
        if reply.manner is Manner.DROP:
            return DROPPED, Dropped() if can_drop(request) else undroppable()
        if reply.manner is Manner.DRIP:
            return reply.answer.status, dripping(reply.answer, reply.pause_s, self.clock)
        return reply.answer.status, whole(reply.answer)


async def _health(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})
