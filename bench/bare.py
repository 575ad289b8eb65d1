"""`python -m bench.bare`: a FastAPI app that returns constants: what the same framework and server reach at most."""

import asyncio

import uvloop
from fastapi import FastAPI

from raingauge.process import serving, until_signalled

CONSTANT = {"id": "1", "status": "done", "progress": 1.0, "total": 167, "collected": 167, "failed": 0}


def create_api() -> FastAPI:
    """Two doors, no work behind them."""
    api = FastAPI()

    @api.get("/get")
    async def get() -> dict[str, object]:
        return CONSTANT

    @api.post("/collect", status_code=202)
    async def collect() -> dict[str, object]:
        return CONSTANT

    return api


async def serve() -> None:
    """Serve on a free port, which is printed, until SIGTERM; by the same code as the producer."""
    async with serving(create_api(), "127.0.0.1", 0) as url:
        print(f"serving url={url}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(until_signalled(serve()))
