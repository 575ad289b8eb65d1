"""The files that a POST, a GET and a batch pass: those of the product in which a function is called on the way.

Real parts of embedded mode in this process, on SQLite, beside the instant provider. A POST and a GET are followed while
nothing else runs; a batch from the relay to its acknowledgement. Each is done before, so that what is loaded or built
once does not count.
"""

import asyncio
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

from sqlalchemy import select

from bench.processes import CLOCK, stub
from consumer.app import make_worker, opened, working
from consumer.intake import Intake
from producer.app import Publishers, producing
from raingauge.database import Database
from raingauge.messaging.inprocess import InProcessBroker
from raingauge.settings import OpenWeatherSettings, QuotaSettings, Settings
from raingauge.storage.models import Collection
from tests.api_support import Front
from tests.support.databases import sqlite_copy, sqlite_template

FOLLOWED: Final = ("producer", "consumer", "raingauge")
DEADLINE_S: Final = 30.0


def files_passed(root: Path) -> Mapping[str, list[str]]:
    """The files below `root` that a POST, a GET and a batch pass, sorted."""
    with sqlite_template() as template, sqlite_copy(template) as database, stub() as provider:
        settings = Settings(openweather=OpenWeatherSettings(base_url=provider.url), quota=QuotaSettings(pacing="burst"))
        return asyncio.run(_walk(database, settings, root))


async def _walk(database: Database, settings: Settings, root: Path) -> Mapping[str, list[str]]:
    passed: dict[str, list[str]] = {}
    front = Front(database, settings=settings)
    front.clock.moment = CLOCK.now()
    await front.collect("warm-up", cities=[1])
    await front.body("warm-up")
    with _following(root) as files:
        await front.collect("first", cities=list(range(101, 121)))
    passed["POST"] = sorted(files)
    broker = InProcessBroker(settings.broker.topic, settings.consumer.window)
    async with AsyncExitStack() as parts:
        subscription = await parts.enter_async_context(broker.subscription())
        with _following(root) as files:  # threads that are started here can be followed
            provider, threads = parts.enter_context(opened(settings, "key", CLOCK))
            worker = make_worker(settings, database, provider, threads, subscription, broker, CLOCK)
            publishers = Publishers(broker, InProcessBroker("events", 100))
            await parts.enter_async_context(producing(settings, database, publishers))
            await parts.enter_async_context(working(worker, 5.0))
            await _done(database, worker.intake, "first")
            await front.collect("then", cities=list(range(201, 221)))
            files.clear()
            await _done(database, worker.intake, "then")
            passed["batch"] = sorted(files)
    with _following(root) as files:
        await front.body("then")
    passed["GET"] = sorted(files)
    return passed


async def _done(database: Database, intake: Intake, name: str) -> None:
    """Return when a collection is finished, and all its batches are acknowledged."""
    finished = select(Collection.finished_at).where(Collection.id == name)
    async with asyncio.timeout(DEADLINE_S):
        while intake.unacknowledged or database.read(lambda connection: connection.scalar(finished)) is None:
            await CLOCK.sleep(0.02)


@contextmanager
def _following(root: Path) -> Iterator[set[str]]:
    """The files of the product in which a function is called meanwhile, in this thread or in one that is started."""
    files: set[str] = set()
    followed = tuple(f"{root / name}/" for name in FOLLOWED)

    def called(frame: FrameType, event: str, _: object) -> None:
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(followed):
            files.add(path.removeprefix(f"{root}/"))

    threading.setprofile(called)
    sys.setprofile(called)
    try:
        yield files
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
