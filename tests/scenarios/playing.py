"""Plays a scenario on the whole embedded system: any database, the in-process hand-off, virtual time.

Only the provider is a fake, and nothing waits: the loop's clock jumps to the next thing that happens.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx2
from jsonschema import Draft202012Validator
from sqlalchemy import Engine

from consumer.app import Worker
from consumer.caller import Caller
from consumer.intake import Intake
from consumer.ledger import Ledger
from consumer.notifier import Notifier
from consumer.provider.port import Reply, Weather
from producer.access.admission import open_to_all
from producer.api.application import Background, api_parts, create_api
from producer.cities import default_cities
from producer.collections import Collections
from producer.relays.batches import Relay
from producer.relays.events import EventRelay
from producer.retention import Retention
from producer.schedules.running import Runs, Scheduler
from raingauge.blocking import inline
from raingauge.database import Database
from raingauge.database.transactions import Transactions
from raingauge.messaging.inprocess import InProcessBroker
from raingauge.model import Observation
from raingauge.observability.instrumentation import Instrumentation
from raingauge.settings import Settings
from raingauge.storage.outbox import outstanding_limit
from tests.scenarios.matching import mismatches
from tests.simulation.virtual import EPOCH, VirtualClock, VirtualLoop, run_virtually

T = TypeVar("T")

SCHEMA: Final = Path(__file__).parent / "schema/scenario.schema.json"
SETTINGS: Final[dict[str, dict[str, Any]]] = {"quota": {"pacing": "burst", "month_pacing": "none"}}
POLL_S: Final = 1.0
PATIENCE_S: Final = 600.0
"""How long `until` is tried for."""
WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})


def faults(text: str) -> list[str]:
    """What is wrong with a file, one line each."""
    try:
        scenario = json.loads(text)
    except json.JSONDecodeError as error:
        return [f"it is not JSON: {error}"]
    validator = Draft202012Validator(json.loads(SCHEMA.read_text("utf-8")))
    found = sorted(validator.iter_errors(scenario), key=lambda error: error.json_path)
    if found:
        return [f"{error.json_path}: {error.message}" for error in found]
    cases = enumerate(scenario["test_cases"])
    return [
        f"$.test_cases[{n}]: neither it nor the file has a url"
        for n, case in cases
        if not {**scenario, **case}.get("url")
    ]


class Provider:
    """Knows the weather of all cities but a few: °C are half the id modulo 40, humidity is 50 %."""

    def __init__(self, clock: VirtualClock, unknown: frozenset[int]) -> None:
        self.latency_s = 0.1
        self._clock = clock
        self._unknown = unknown

    async def run(self, call: Callable[[], T], /) -> T:
        """The seam for calls."""
        await self._clock.sleep(self.latency_s)
        return call()

    def group(self, city_ids: Sequence[int], send_by: float) -> Reply:
        """As the port says."""
        known = [city for city in city_ids if city not in self._unknown]
        return Weather({city: self._observation(city) for city in known}, self._unknown & set(city_ids))

    def single(self, city_id: int, send_by: float) -> Reply:
        """As the port says."""
        return self.group([city_id], send_by)

    def _observation(self, city_id: int) -> Observation:
        return Observation(city_id, f"City {city_id}", "UY", -33.0, -56.0, EPOCH, city_id % 40 / 2, 50)


class Raingauge:
    """The system."""

    worker: Worker

    def __init__(
        self,
        settings: Settings,
        provider: Provider,
        engine: Engine,
        clock: VirtualClock,
        broker: InProcessBroker | None = None,
    ) -> None:
        self.clock = clock
        self._settings = settings
        self._provider = provider
        self._transactions = Transactions(Database(engine, self.clock.of_database), inline, self.clock)
        self._broker = broker or InProcessBroker(settings.broker.topic, settings.consumer.window)
        self._events = InProcessBroker(settings.broker.events_topic, 100)
        self.event_relay = EventRelay(self._transactions, self._events, settings.relay, settings.broker.events_topic)
        quota, terms = settings.quota, settings.terms
        outstanding = outstanding_limit(settings.collect.outstanding_batches, quota.cities_per_window, quota.window_s)
        self.relay = Relay(
            self._transactions, self._broker, settings.relay,
            topic=settings.broker.topic, account=quota.account, terms=terms, holder="relay",
        )  # fmt: skip
        collections = Collections(self._transactions, terms, quota.account, outstanding)
        runs = Runs(self._transactions, default_cities(), outstanding)
        self.scheduler = Scheduler(self._transactions, runs, self.relay.wake)
        retention = Retention(self._transactions, settings.retention)
        background = Background(self.relay, retention, self.event_relay.wake, self.scheduler.wake)
        admission = open_to_all(self._transactions)
        api = create_api(api_parts(settings, collections, background, admission, Instrumentation()))
        transport = httpx2.ASGITransport(api, raise_app_exceptions=False)
        self.http = httpx2.AsyncClient(transport=transport, base_url="http://localhost")

    async def notify(self) -> None:
        """Be the notifier, for whom nobody waits."""
        async with self._events.subscription() as subscription:
            await Notifier(subscription, self._transactions, lambda _line: None).run()

    async def consume(self, name: str = "consumer") -> None:
        """Be a consumer, until its worker is stopped."""
        transactions, clock, quota = self._transactions, self.clock, self._settings.quota
        ledger = Ledger(transactions, clock, quota.account, self._settings.terms, "auto", name)
        async with self._broker.subscription() as subscription:
            intake = Intake(subscription, self._broker, transactions, clock, quota.account, self._settings.broker.topic)
            caller = Caller(ledger, self._provider, transactions, self._provider.run, clock, lanes=4)
            self.worker = Worker(intake, caller, ledger, clock)
            await self.worker.run()


def play(scenario: Mapping[str, Any], engine: Engine) -> list[str]:
    """What is not as expected in each case; nothing: the empty text."""
    given: Mapping[str, Mapping[str, Any]] = scenario.get("settings", {})
    sections = {name: {**SETTINGS.get(name, {}), **given.get(name, {})} for name in SETTINGS.keys() | given.keys()}
    loop = VirtualLoop()
    clock = VirtualClock(loop)
    provider = Provider(clock, frozenset(scenario.get("unknown_cities", ())))
    system = Raingauge(Settings.model_validate(sections), provider, engine, clock)

    async def run() -> list[str]:
        async with asyncio.TaskGroup() as tasks:  # which ends when one of them fails
            runs = (system.relay.run(), system.event_relay.run(), system.scheduler.run())
            working = [tasks.create_task(part) for part in (*runs, system.consume(), system.notify())]
            await system.clock.sleep(POLL_S)
            outcomes = [await _outcome({"url": scenario.get("url"), **case}, system) for case in scenario["test_cases"]]
            for task in working:
                task.cancel()
        return outcomes

    outcomes: list[str] = run_virtually(run(), loop)
    return outcomes


async def _outcome(case: Mapping[str, Any], system: Raingauge) -> str:
    deadline = system.clock.monotonic() + PATIENCE_S
    answer = await _answer(case, system.http)
    while wrong := [*mismatches(case.get("until", {}), answer)]:
        if system.clock.monotonic() > deadline:
            wrong.insert(0, f"`until` did not come true within {PATIENCE_S:g} s:")
            break
        await system.clock.sleep(POLL_S)
        answer = await _answer(case, system.http)
    wrong = wrong or [*mismatches(case["expected_output"], answer)]
    return "\n".join([*wrong, f"the answer: {json.dumps(answer, ensure_ascii=False):.2000}"]) if wrong else ""


async def _answer(case: Mapping[str, Any], http: httpx2.AsyncClient) -> dict[str, Any]:
    """Send the request of a case; the answer as scenarios describe it."""
    method, given = case.get("http_method", "GET"), case.get("input")
    content = {"json": given} if method in WITH_BODY and given is not None else {"params": given or None}
    answer = await http.request(method, case["url"], **content)
    is_json = answer.headers.get("content-type", "").endswith("json") and answer.content
    body = answer.json() if is_json else answer.text
    return {"status_code": answer.status_code, "headers": dict(answer.headers), "body": body}
