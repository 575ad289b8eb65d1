"""The life of a process: start with settings and logs, serve HTTP, stop in order, exit with a status.

For the programs' entry points and composition roots. It must know nothing of what a program does.
"""

import asyncio
import contextlib
import errno
import gc
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from raingauge.connections import bounded_protocol, connection_limit, raise_file_limit
from raingauge.errors import Fatal, SettingsError
from raingauge.observability.log import configure_logging
from raingauge.settings import Settings, config_file, load_settings, provider_key

log = logging.getLogger("raingauge")

GC_THRESHOLD: Final = 10_000
"""Allocations between two garbage collections of the youngest generation; Python's default is 700."""
DRAIN_S: Final = 5
"""How long open requests may take once the server stops."""
BACKLOG: Final = 2048
KEEP_ALIVE_S: Final = 20


def run_program(program: Callable[[Settings], Coroutine[Any, Any, None]]) -> int:
    """Run a program with the settings and return its exit status.

    Returns:
        0 for success; 2 for an error that a person has to fix, printed as one line; 1 for an unexpected error, logged
        with its traceback and with the key masked.
    """
    status = 0
    try:
        raise_file_limit()
        _tune_garbage_collection()
        configure_logging(provider_key())
        settings = load_settings()
        configure_logging(provider_key(), settings.log.format)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(program(settings))
    except* Fatal as errors:
        for error in _leaves(errors):
            print(error, file=sys.stderr)  # noqa: T201
        status = 2
    except* Exception:
        log.exception("program.failed")
        status = 1
    return status


async def until_signalled(program: Coroutine[Any, Any, None]) -> None:
    """Run a program until it ends or SIGTERM or SIGINT cancels it; its `finally` blocks stop what it started."""
    file = config_file()
    log.info("program.started", extra={"settings": file.resolve() if file.is_file() else f"no {file} in {Path.cwd()}"})
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    running = asyncio.create_task(program)
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        running.cancel()
    try:
        await running
    except asyncio.CancelledError:
        log.info("program.stopped")


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp | FastAPI, host: str, port: int, *, section: str = "http", keep_alive_s: int = KEEP_ALIVE_S
) -> AsyncIterator[str]:
    """Serve an application while the block runs; yields its URL, for example http://127.0.0.1:8000.

    `section` is the section of the settings that the address comes from: errors name it.

    Raises:
        SettingsError: the process cannot listen on this address.
    """
    with listening(host, port, section) as listener:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=DRAIN_S,
            timeout_keep_alive=keep_alive_s,
            http=bounded_protocol(),
            limit_concurrency=connection_limit(),
        )
        server = _Server(config)
        gc.freeze()  # the application stays for good: a collection that traverses it would delay requests
        task = asyncio.create_task(server.serve(sockets=[listener]))
        shown = f"[{host}]" if ":" in host else host
        try:
            yield f"http://{shown}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


def listening(host: str, port: int, section: str) -> socket.socket:
    """Open a listening socket; port 0 picks a free port.

    Raises:
        SettingsError: the process cannot listen on this address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sets TCP_NODELAY on TCP only
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        setting = "port" if error.errno in {errno.EADDRINUSE, errno.EACCES} else "host"
        raise SettingsError(f"{section}.{setting}: cannot listen on {host}:{port}: {error.strerror}") from error
    listener.setblocking(False)
    return listener


class _Server(uvicorn.Server):
    """A server that installs no signal handlers: the composition root stops its parts in order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _tune_garbage_collection() -> None:
    """Exclude imported modules from garbage collection, and collect less often."""
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


def _leaves(errors: BaseExceptionGroup[Fatal]) -> Iterator[Fatal]:
    """The single errors of a group, however deep task groups nested them."""
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Use uvloop if it is installed: the extras `producer` and `consumer` include it."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return None
    return uvloop.new_event_loop
