"""The simulator as an application: the provider's two endpoints, /control and /health. It waits and sends.

Serve it without an access log: the provider's API takes the key in the URL.
"""

from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import FastAPI, Response
from fastapi import Query as InQuery
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from raingauge.clock import Clock
from simulator import control
from simulator.settings import SimulatorSettings
from simulator.stand_in import BAD_GATEWAY, Answer, Query, StandIn
from simulator.witness import DROPPED, Endpoint

TRANSPORT: Final = "simulator.transport"


def create_app(settings: SimulatorSettings, clock: Clock) -> FastAPI:
    """Build the application, with a witness and a quota of its own. It opens nothing."""
    stand_in = StandIn(settings)
    app = SimulatorApp(title="Weather provider, simulated", redirect_slashes=False)

    async def answer(endpoint: Endpoint, query: Query) -> Response:
        reply = stand_in.arrive(endpoint, query, clock.monotonic(), clock.now())
        witness = stand_in.witness
        if reply.wait_s:
            await clock.sleep(reply.wait_s)
        witness.answered(reply.call, DROPPED if reply.drop else reply.answer.status)
        if reply.drop:
            return Dropped()
        return dripping(reply.answer, reply.drip_s, clock) if reply.drip_s else whole(reply.answer)

    @app.get("/data/2.5/group", tags=["provider"])
    async def group(query: Annotated[Query, InQuery()]) -> Response:
        """Current weather of up to 20 cities; `id`: their ids, separated by commas."""
        return await answer(Endpoint.GROUP, query)

    @app.get("/data/2.5/weather", tags=["provider"])
    async def weather(query: Annotated[Query, InQuery()]) -> Response:
        """Current weather of one city."""
        return await answer(Endpoint.SINGLE, query)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """The process is alive."""
        return {"status": "ok"}

    app.include_router(control.router(stand_in, clock))
    return app


class SimulatorApp(FastAPI):
    """An application whose responses can close the connection, if the server lets them.

    ASGI has no message for that. Uvicorn's `send` is a method of an object that has the transport.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[TRANSPORT] = getattr(getattr(send, "__self__", None), "transport", None)
        await super().__call__(scope, receive, send)


class Dropped(Response):
    """Closes the connection without a response. Where it cannot be closed, as in tests, sends a proxy's page."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope[TRANSPORT] is None:
            await whole(BAD_GATEWAY)(scope, receive, send)
            return
        scope[TRANSPORT].abort()
        while (await receive())["type"] != "http.disconnect":
            pass


def whole(answer: Answer) -> Response:
    """The answer at once."""
    return Response(answer.body, answer.status, _headers(answer))


def dripping(answer: Answer, pause_s: float, clock: Clock) -> Response:
    """The answer with its Content-Length, its body one byte at a time until the client disconnects."""

    async def drops() -> AsyncIterator[bytes]:
        for index in range(len(answer.body)):
            yield answer.body[index : index + 1]
            await clock.sleep(pause_s)

    return StreamingResponse(drops(), answer.status, {**_headers(answer), "content-length": str(len(answer.body))})


def _headers(answer: Answer) -> dict[str, str]:
    retry_after = {} if answer.retry_after_s is None else {"retry-after": str(answer.retry_after_s)}
    return {"content-type": answer.content_type} | retry_after
