"""POST, GET and redelivery in any order, through restarts and the provider's faults, against a model: a dict.

The real HTTP front, producer, relay, worker, caller, ledger and storage run on SQLite and the in-process hand-off, in
virtual time; only the provider is a fake. Hypothesis chooses what happens, and finds a shortest case that goes wrong.
"""

import asyncio
import json
import random
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import httpx2
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import Connection, select

from consumer.provider.port import Reason, Refusal, Reply, Weather
from raingauge.errors import ProviderUnavailable
from raingauge.messaging.inprocess import InProcessBroker
from raingauge.messaging.port import Headers
from raingauge.quota.fairness import UNKNOWN_CITY
from raingauge.settings import Settings
from raingauge.storage.models import Batch, Collection, Reading
from raingauge.storage.settling import GIVEN_UP
from tests.scenarios.playing import Provider
from tests.scenarios.playing import Raingauge as System
from tests.simulation.virtual import VirtualClock, VirtualLoop
from tests.support.databases import sqlite_copy

T = TypeVar("T")
Fault = Literal["silent", "quota", "key", "garbled"]

TOPIC: Final = "cities"
SETTINGS: Final = Settings.model_validate(
    {
        "quota": {"cities_per_window": 30, "window_s": 10, "pacing": "smooth", "month_pacing": "none"},
        "relay": {"every_s": 1.0, "republish_after_s": 60.0},
    }
)
CITIES: Final = range(3_000_001, 3_000_046)
UNKNOWN: Final = frozenset({3_000_007, 3_000_021})
HOPELESS: Final = frozenset({3_000_013})
"""The provider fails whenever it is asked for one of these."""
REASONS: Final = dict.fromkeys(UNKNOWN, UNKNOWN_CITY) | dict.fromkeys(HOPELESS, GIVEN_UP)
PATIENCE_S: Final = 4 * 3600.0
POISON: Final = (b"{", None, b"\xff", b'{"version": 1}', b"[]")
NONSENSE: Final[tuple[dict[str, Any], ...]] = (
    *({}, {"id": 1.5}, {"id": "x y"}, {"id": "n", "more": 1}, {"id": "n", "max_age_s": -1}),
    *({"id": "n", "cities": cities} for cities in ([], [0], ["1"], [True])),
)


def some_cities(first: int, number: int) -> list[int]:
    """So many, beginning with one; whole batches, and more and less than those."""
    begin = CITIES.index(first)
    return [CITIES[(begin + step) % len(CITIES)] for step in range(number)]


class FailingProvider(Provider):
    """Has a fault at times, and never weather of a hopeless city."""

    fault: Fault | None = None

    def group(self, city_ids: Sequence[int], send_by: float) -> Reply:
        """As the port says."""
        match self.fault:
            case "silent":
                raise ProviderUnavailable("timeout")
            case "quota":
                return Refusal(Reason.QUOTA, "temporary blocked", 3.0)
            case "key":
                return Refusal(Reason.KEY, "Invalid API key")
            case "garbled":
                return Weather({}, unreadable=frozenset(city_ids))
        if HOPELESS & set(city_ids):
            raise ProviderUnavailable("HTTP 500")
        return super().group(city_ids, send_by)


class KeepingBroker(InProcessBroker):
    """Remembers all batches that were published, so that they can be delivered again much later."""

    def __init__(self) -> None:
        super().__init__(TOPIC, window=5)
        self.published: list[tuple[bytes | None, bytes | None]] = []

    async def publish(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        """As the port says."""
        if topic == TOPIC and key not in {b"poison", b"again"}:
            self.published.append((key, value))
        await super().publish(topic, key, value, headers)

    @property
    def unsettled(self) -> int:
        """Messages that nobody has acknowledged."""
        return len(self._unsettled)


@dataclass
class Accepted:
    """What the model knows of a collection."""

    cities: frozenset[int]
    max_age_s: int


class Raingauge(RuleBasedStateMachine):
    """The system and its model."""

    ids: Bundle[str] = Bundle("ids")

    def __init__(self, template: Path) -> None:
        super().__init__()
        random.seed(0)
        self.model: dict[str, Accepted] = {}
        self.seen: dict[tuple[str, int], tuple[Any, ...]] = {}
        self.poison: list[bytes | None] = []
        self.parts = ExitStack()
        self.loop = VirtualLoop()
        asyncio.set_event_loop(self.loop)
        self.parts.callback(asyncio.set_event_loop, None)
        self.clock = VirtualClock(self.loop)
        self.database = self.parts.enter_context(sqlite_copy(template, self.clock.of_database))
        self.provider = FailingProvider(self.clock, UNKNOWN)
        self.broker = KeepingBroker()
        self.system = System(SETTINGS, self.provider, self.database.engine, self.clock, self.broker)
        self.errors: list[Mapping[str, Any]] = []
        self.loop.set_exception_handler(lambda _loop, context: self.errors.append(context))
        self.consumers = 0
        self.run(self._start())

    # -- driving it ----------------------------------------------------------------------------------------------

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result; everything else goes on meanwhile."""
        return self.loop.run_until_complete(work)

    async def _start(self) -> None:
        self.relay = asyncio.create_task(self.system.relay.run())
        await self._start_consumer()

    async def _start_consumer(self) -> None:
        self.consumers += 1
        self.working = asyncio.create_task(self.system.consume(f"consumer-{self.consumers}"))
        await self.clock.sleep(0)

    async def _post(self, body: Mapping[str, Any]) -> httpx2.Response:
        return await self.system.http.post("/collect", json=body)

    async def _pages(self, collection: str, limit: int) -> list[dict[str, Any]]:
        """What GET says, page by page."""
        pages, path = [], f"/get?id={collection}&limit={limit}"
        while path:
            answer = await self.system.http.get(path)
            assert answer.status_code == 200, answer.text
            pages.append(answer.json())
            path = pages[-1]["next"]
        return pages

    # -- POST ----------------------------------------------------------------------------------------------------

    @rule(
        target=ids, name=st.integers(1, 12), max_age_s=st.sampled_from([0, 600]), as_text=st.booleans(),
        cities=st.builds(some_cities, st.sampled_from(CITIES), st.sampled_from([1, 3, 20, 21, 45])),
    )  # fmt: skip
    def post_a_new_one(self, name: int, cities: list[int], max_age_s: int, as_text: bool) -> str:
        """It is accepted whole; an id that is taken already is refused, or is the same."""
        body = {"id": str(name) if as_text else name, "cities": cities, "max_age_s": max_age_s}
        answer = self.run(self._post(body))
        collection, asked = str(name), Accepted(frozenset(cities), max_age_s)
        stands = self.model.get(collection)
        assert answer.status_code == (202 if stands is None else 200 if stands == asked else 409)
        self.model.setdefault(collection, asked)
        if answer.status_code != 409:
            assert answer.json()["total"] == len(asked.cities)
            assert answer.headers["location"] == f"/get?id={collection}"
        return collection

    @rule(collection=ids, order=st.randoms(use_true_random=False))
    def post_the_same_again(self, collection: str, order: random.Random) -> None:
        """In any order and with duplicates it is the same request."""
        asked = self.model[collection]
        cities = [*asked.cities, order.choice(sorted(asked.cities))]
        order.shuffle(cities)
        answer = self.run(self._post({"id": collection, "cities": cities, "max_age_s": asked.max_age_s}))
        assert (answer.status_code, answer.json()["total"]) == (200, len(asked.cities))

    @rule(collection=ids, change=st.sampled_from(["another city", "a city less", "another age", "no cities"]))
    def post_another_under_the_same_id(self, collection: str, change: str) -> None:
        """It is refused, and nothing changes."""
        asked = self.model[collection]
        cities, max_age_s = sorted(asked.cities), asked.max_age_s
        body: dict[str, Any] = {"id": collection, "cities": cities, "max_age_s": max_age_s}
        match change:
            case "another city":
                body["cities"] = [*cities, CITIES[-1] + 1]
            case "a city less" if len(cities) > 1:
                body["cities"] = cities[1:]
            case "no cities":
                del body["cities"]
            case _:
                body["max_age_s"] = max_age_s + 1
        assert self.run(self._post(body)).status_code == 409

    @rule(body=st.sampled_from(NONSENSE))
    def post_nonsense(self, body: dict[str, Any]) -> None:
        """It is refused, and stores nothing."""
        assert self.run(self._post(body)).status_code == 422
        assert self.run(self.system.http.get("/get?id=n")).status_code == 404

    # -- GET -----------------------------------------------------------------------------------------------------

    @rule(collection=ids, limit=st.integers(1, 50))
    def get_all_pages(self, collection: str, limit: int) -> None:
        """They are what the model expects, as far as it has come."""
        asked = self.model[collection]
        pages = self.run(self._pages(collection, limit))
        assert {page["total"] for page in pages} == {len(asked.cities)}
        assert all(len(page["data"]) + len(page["errors"]) <= limit for page in pages)
        rows = [city for page in pages for city in sorted(row["city_id"] for row in [*page["data"], *page["errors"]])]
        assert rows == sorted(set(rows)), "a city twice, or out of order"
        assert set(rows) <= asked.cities
        assert pages[0]["collected"] + pages[0]["failed"] <= len(rows), "fewer rows than it counts"
        self._check_rows(pages)

    def _check_rows(self, pages: Iterable[Mapping[str, Any]]) -> None:
        for page in pages:
            for row in page["data"]:
                assert row["city_id"] not in REASONS
                assert row["temperature"] == row["city_id"] % 40 / 2
            for row in page["errors"]:
                assert row["reason"] == REASONS[row["city_id"]]

    # -- what happens --------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.3, 5.0, 20.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.run(self.clock.sleep(seconds))

    @precondition(lambda self: self.broker.published)
    @rule(chance=st.randoms(use_true_random=False), times=st.integers(1, 3))
    def a_message_comes_again(self, chance: random.Random, times: int) -> None:
        """An old one or a new one, several times."""
        _, value = chance.choice(self.broker.published)
        for _ in range(times):
            self.run(self.broker.publish(TOPIC, b"again", value))

    @rule(value=st.sampled_from(POISON))
    def poison_comes(self, value: bytes | None) -> None:
        self.poison.append(value)
        self.run(self.broker.publish(TOPIC, b"poison", value))

    @precondition(lambda self: self.broker.published)
    @rule(chance=st.randoms(use_true_random=False))
    def a_batch_comes_that_nobody_accepted(self, chance: random.Random) -> None:
        _, value = chance.choice(self.broker.published)
        stranger = json.dumps(json.loads(value or b"") | {"collection_id": "stranger"}).encode()
        self.poison.append(stranger)
        self.run(self.broker.publish(TOPIC, b"poison", stranger))

    @rule(killed=st.booleans())
    def the_consumer_ends(self, killed: bool) -> None:
        """Another one starts at once. A killed one's claims and charges stay; a stopped one finishes its calls."""
        if killed:
            self.working.cancel()
        else:
            self.system.worker.stop()
        self.run(asyncio.wait({self.working}))
        self.run(self._start_consumer())

    @rule(fault=st.sampled_from(["silent", "quota", "key", "garbled"]))
    def the_provider_fails(self, fault: Fault) -> None:
        self.provider.fault = fault

    @rule(latency_s=st.sampled_from([0.01, 0.5, 4.0]))
    def the_provider_works(self, latency_s: float) -> None:
        self.provider.fault, self.provider.latency_s = None, latency_s

    # -- what holds always ---------------------------------------------------------------------------------------

    @invariant()
    def nobody_has_failed(self) -> None:
        assert not self.errors
        assert not self.relay.done()
        assert not self.working.done()

    @invariant()
    def the_database_agrees_with_the_model(self) -> None:
        self.database.read(self._check_database)

    def _check_database(self, connection: Connection) -> None:
        rows = connection.execute(select(Reading)).all()
        now = {(row.collection_id, row.city_id): tuple(row) for row in rows}
        assert len(now) == len(rows), "a city twice"
        assert {key: now.get(key) for key in self.seen} == self.seen, "a settled reading changed"
        self.seen = now
        states = {row.id: row for row in connection.execute(select(Collection))}
        assert states.keys() == self.model.keys()
        for collection, asked in self.model.items():
            statuses = {row.city_id: row.status for row in rows if row.collection_id == collection}
            state = states[collection]
            assert statuses.keys() <= asked.cities
            counted = (list(statuses.values()).count("collected"), list(statuses.values()).count("failed"))
            assert (state.collected, state.failed) == counted, f"{collection}: counters ≠ rows"
            assert (state.finished_at is not None) == (len(statuses) == len(asked.cities)), collection

    # -- the end -------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Everything accepted ends settled."""
        try:
            if not self._failed():
                self.provider.fault = None
                self.run(self._drain())
                self._check_the_end()
        finally:
            self._close()

    def _failed(self) -> bool:
        return bool(self.errors) or self.working.done() or self.relay.done()

    async def _drain(self) -> None:
        open_ones = select(Collection.id).where(Collection.finished_at.is_(None))
        begun = self.clock.monotonic()
        while self.broker.unsettled or self.database.read(lambda c: c.scalars(open_ones).all()):
            assert not self._failed()
            assert self.clock.monotonic() < begun + PATIENCE_S, "it stands still"
            await self.clock.sleep(2)
            self.the_database_agrees_with_the_model()

    def _check_the_end(self) -> None:
        self.database.read(self._check_database)
        for collection, asked in self.model.items():
            pages = self.run(self._pages(collection, 7))
            self._check_rows(pages)
            assert {page["status"] for page in pages} == {"done"}
            assert [row["city_id"] for page in pages for row in page["data"]] == sorted(asked.cities - REASONS.keys())
            assert {row["city_id"] for page in pages for row in page["errors"]} == asked.cities & REASONS.keys()
        unsettled = select(Batch).where(Batch.settled_at.is_(None) | (Batch.settled != Batch.size))
        assert not self.database.read(lambda c: c.execute(unsettled).all())
        assert sorted((letter.value for letter in self.broker.dead_letters), key=repr) == sorted(self.poison, key=repr)

    def _close(self) -> None:
        with self.parts:
            left = asyncio.all_tasks(self.loop)
            for task in left:
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self.loop.close()


@pytest.fixture(autouse=True)
def _same_chance() -> Iterator[None]:
    state = random.getstate()
    yield
    random.setstate(state)


@pytest.mark.parametrize("cities", [sorted(HOPELESS), sorted(UNKNOWN)])
def test_a_collection_of_cities_without_weather_ends_although_no_other_city_is_wanted(
    template: Path, cities: list[int]
) -> None:
    system = Raingauge(template)
    system.post_a_new_one(name=1, cities=cities, max_age_s=600, as_text=True)
    system.teardown()


@pytest.mark.parametrize(
    "fault", ["quota", *(pytest.param(f, marks=pytest.mark.long) for f in ("silent", "key", "garbled"))]
)
def test_a_collection_ends_once_a_fault_of_the_provider_does(template: Path, fault: Fault) -> None:
    system = Raingauge(template)
    system.the_provider_fails(fault)
    system.post_a_new_one(name=1, cities=[*CITIES], max_age_s=600, as_text=True)
    system.time_passes(60.0)
    system.teardown()


def test_any_order_of_requests_redeliveries_restarts_and_faults_ends_as_the_model_says(template: Path) -> None:
    run_state_machine_as_test(
        partial(Raingauge, template),  # type: ignore[arg-type]  # any callable that makes one will do
        settings=hypothesis_settings(
            max_examples=hypothesis_settings().max_examples // 5,
            stateful_step_count=25,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
