"""The usual way to do the same work, as a baseline: Celery on Redis, without ledger, progress, fairness or durability.

A task calls the provider's group endpoint for twenty cities and stores, in one transaction, the rows that Raingauge
stores: the latest observation of each city, and the readings; or the readings alone. As a program,
`python -m bench.celery_redis`, this is one worker process; it takes its part in `make bench` alone.
"""

import argparse
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import requests
from celery import Celery
from celery.signals import worker_ready
from sqlalchemy import create_engine, func, insert, select

from bench.processes import CLOCK, until
from raingauge.database import Database, open_database
from raingauge.database.upsert import upsert
from raingauge.model import BATCH_SIZE
from raingauge.storage.models import City, Collection, Reading
from tests.support.processes import program

TASK: Final = "collect"
SLOWEST: Final = 100
"""Cities a second below which a run is given up."""


class NoRedis(Exception):
    """redis-server is not installed: apt-get install redis-server (Debian, Ubuntu); `make bench` does it as root."""


def cities_per_second(
    database_url: str, provider_url: str, workers: int, cities: int, *, readings_alone: bool
) -> float:
    """From the first task's sending until all readings are in the database."""
    with ExitStack() as parts:
        redis_url = parts.enter_context(_redis())
        database = parts.enter_context(closing(open_database(database_url, pool_size=1)))
        arguments = ["--redis", redis_url, "--database", database_url, "--provider", provider_url]
        if readings_alone:
            arguments.append("--readings-alone")
        for number in range(workers):
            parts.enter_context(program("bench.celery_redis", "--name", f"worker-{number}", *arguments, settings={}))
        app = Celery(broker=redis_url)
        _collect(app, database, "warm-up", range(1, 401))
        return _collect(app, database, "all", range(1_000_001, 1_000_001 + cities))


def _collect(app: Celery, database: Database, name: str, city_ids: range) -> float:
    """Have tasks collect these; cities a second."""
    _have_collection(database, name)
    began = CLOCK.monotonic()
    with app.producer_pool.acquire(block=True) as producer:
        for start in range(0, len(city_ids), BATCH_SIZE):
            app.send_task(TASK, [name, list(city_ids[start : start + BATCH_SIZE])], producer=producer)
    stored = select(func.count()).where(Reading.collection_id == name)
    until(
        lambda: database.read(lambda connection: connection.scalar(stored)) == len(city_ids),
        10 + len(city_ids) / SLOWEST,
        f"all readings of Celery's {name}",
        every_s=0.1,
    )
    return len(city_ids) / (CLOCK.monotonic() - began)


def _have_collection(database: Database, name: str) -> None:
    """What the readings refer to."""
    now = database.read(database.now)
    values = {"id": name, "requested_at": now, "max_age_s": 0, "cities_hash": "", "total": 0, "finished_at": now}
    database.write(lambda connection: connection.execute(insert(Collection).values(**values)))


@contextmanager
def _redis() -> Iterator[str]:
    """The URL of a Redis of the bench's own, that keeps nothing."""
    command = shutil.which("redis-server")
    if command is None:
        raise NoRedis(NoRedis.__doc__)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        arguments = [command, "--bind", "127.0.0.1", "--port", str(port), "--dir", folder, "--save", ""]
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
        try:
            until(lambda: _listens(port), 10, "Redis")
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait(10)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def make_worker(redis_url: str, database_url: str, provider_url: str, *, readings_alone: bool) -> Celery:
    """The application whose one task collects a batch."""
    app = Celery(broker=redis_url)
    app.conf.update(task_ignore_result=True)
    engine = create_engine(database_url)
    local = threading.local()

    @app.task(name=TASK)  # type: ignore[untyped-decorator]
    def collect(name: str, city_ids: list[int]) -> None:
        if not hasattr(local, "session"):
            local.session = requests.Session()
        query = f"id={','.join(map(str, city_ids))}&units=metric&appid=key"
        answer = local.session.get(f"{provider_url}/data/2.5/group?{query}", timeout=10)
        answer.raise_for_status()
        now = datetime.now(UTC)  # noqa: TID251
        found = [(entry, _weather(now, entry)) for entry in answer.json()["list"]]
        cities = [_city(entry) | weather for entry, weather in found]
        key = {"collection_id": name, "status": "collected"}
        readings = [key | {"city_id": entry["id"]} | weather for entry, weather in found]
        with engine.begin() as connection:
            if not readings_alone:
                upsert(connection, City, cities, [column for column in cities[0] if column != "id"])
            connection.execute(insert(Reading), readings)

    return app


def _city(entry: Mapping[str, Any]) -> dict[str, Any]:
    place = entry["coord"]
    names = {"id": entry["id"], "name": entry["name"], "country": entry["sys"]["country"]}
    return names | {"latitude": place["lat"], "longitude": place["lon"]}


def _weather(fetched_at: datetime, entry: Mapping[str, Any]) -> dict[str, Any]:
    main, wind, weather = entry["main"], entry["wind"], entry["weather"][0]
    return {
        "fetched_at": fetched_at,
        "observed_at": datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=entry["dt"]),
        "temperature": main["temp"],
        "humidity": main["humidity"],
        "feels_like": main["feels_like"],
        "pressure": main["pressure"],
        "wind_speed": wind["speed"],
        "wind_deg": wind["deg"],
        "clouds": entry["clouds"]["all"],
        "visibility": entry["visibility"],
        "condition_id": weather["id"],
        "description": weather["description"],
        "utc_offset_s": entry["sys"]["timezone"],
    }


def main() -> None:
    """Work until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m bench.celery_redis")
    for name in ("name", "redis", "database", "provider"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--readings-alone", action="store_true")
    given = parser.parse_args()
    app = make_worker(given.redis, given.database, given.provider, readings_alone=given.readings_alone)

    def say(**_: Any) -> None:
        print(f"working url={given.provider}", flush=True)

    worker_ready.connect(say, weak=False)
    app.worker_main(["worker", f"--hostname={given.name}@%h", "--concurrency=1"])


if __name__ == "__main__":
    main()
