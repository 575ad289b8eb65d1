"""How the stand-in's answers go over the wire: whole, byte by byte, or not at all. It decides nothing."""

from collections.abc import AsyncIterator, MutableMapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from raingauge.clock import Clock
from simulator.answers import BAD_GATEWAY, Answer

_TRANSPORT: Final = "simulator.transport"


def remember_transport(scope: MutableMapping[str, Any], send: Send) -> None:
    """Keep the connection where `can_drop` finds it, if the server lets it be seen.

    ASGI knows no way to close a connection without an answer. uvicorn's `send` is a method of an object that has the
    transport; servers and test clients that hide theirs get a 502 instead.
    """
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if callable(getattr(transport, "abort", None)):
        scope[_TRANSPORT] = transport


def can_drop(request: Request) -> bool:
    """Whether the connection of this request can be closed without an answer."""
    return _TRANSPORT in request.scope


def whole(answer: Answer) -> Response:
    """The answer at once."""
    return Response(answer.body, answer.status, _headers(answer))


def dripping(answer: Answer, pause_s: float, clock: Clock) -> Response:
    """The answer with its full Content-Length, its body one byte at a time. It ends when the client goes away."""

    async def drops() -> AsyncIterator[bytes]:
        for index in range(len(answer.body)):
            yield answer.body[index : index + 1]
            await clock.sleep(pause_s)

    return StreamingResponse(drops(), answer.status, {**_headers(answer), "content-length": str(len(answer.body))})


class Dropped(Response):
    """No answer: the connection is closed. Only for requests that `can_drop`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        scope[_TRANSPORT].abort()
        while (await receive())["type"] != "http.disconnect":
            pass


def undroppable() -> Response:
    """What stands for a closed connection where it cannot be closed: the page of a proxy."""
    return whole(BAD_GATEWAY)


def _headers(answer: Answer) -> dict[str, str]:
    headers = {"content-type": answer.content_type}
    if answer.retry_after_s is not None:
        headers["retry-after"] = str(answer.retry_after_s)
    return headers
