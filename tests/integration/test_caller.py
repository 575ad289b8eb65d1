"""The caller against fakes of ledger, provider and clock: what it settles, reports and waits for."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import select, text

from consumer.caller import LONGEST_WAIT_S, Caller, Outcome
from consumer.gate import Event, Plan
from consumer.ledger import Ledger, NotNow, Reservation
from consumer.metrics import OUTCOMES, CallMetrics
from consumer.provider.port import Reason, Refusal, Reply, Weather
from raingauge.blocking import inline
from raingauge.database import Database
from raingauge.database.transactions import Transactions
from raingauge.errors import DatabaseUnavailable, NotSent, ProviderUnavailable, Unreadable
from raingauge.model import BatchKey, CollectionRequest, Observation
from raingauge.storage import enqueueing, queue, quota
from raingauge.storage.models import QueuedCity, QuotaCharge, Reading
from raingauge.storage.settling import Settled
from tests.simulation.virtual import EPOCH, VirtualClock, VirtualLoop, run_virtually
from tests.support.accepting import accept

GROUP, SINGLE = Plan("group", probe=False), Plan("single", probe=False)
ACCOUNT = "account"
SPLIT = Refusal(Reason.CITIES, "not found")
OVER = Refusal(Reason.QUOTA, "too many", 30.0)

Answer = Reply | Exception


def weather(*cities: int, unknown: Sequence[int] = (), unreadable: Sequence[int] = ()) -> Weather:
    seen = {city: Observation(city, None, None, None, None, EPOCH, 20.0, None) for city in cities}
    return Weather(seen, frozenset(unknown), frozenset(unreadable))


SILENCE = ProviderUnavailable()


@pytest.mark.parametrize(
    ("replies", "event", "closes", "seen", "unknown", "failed", "split", "unsent"),
    [
        ([weather(1, unknown=[2], unreadable=[3])], Event.ANSWERED, True, {1}, {2}, {3}, set(), False),
        ([weather(1, 2, 3), ProviderUnavailable()], Event.ANSWERED, False, {1, 2, 3}, set(), {4, 5}, set(), False),
        ([SILENCE, SILENCE], Event.SILENT, False, set(), set(), {1, 2, 3, 4, 5}, set(), False),
        ([weather(1, 2, 3), NotSent()], Event.ANSWERED, False, {1, 2, 3}, set(), {4, 5}, set(), True),
        ([SPLIT, weather(4, 5)], Event.ANSWERED, True, {4, 5}, set(), set(), {1, 2, 3}, False),
        ([OVER, weather(4, 5)], Event.QUOTA, True, {4, 5}, set(), set(), set(), False),
        ([weather(1, 2, 3), OVER], Event.QUOTA, True, {1, 2, 3}, set(), set(), set(), False),
        ([Refusal(Reason.KEY, "", closes=False), SPLIT], Event.KEY, False, set(), set(), set(), {4, 5}, False),
        ([Refusal(Reason.CITIES, "", closes=False)], Event.ANSWERED, False, set(), set(), set(), {1, 2, 3}, False),
        ([Refusal(Reason.ENDPOINT, "")], Event.ENDPOINT, True, set(), set(), set(), set(), False),
    ],
)  # fmt: skip
def test_the_outcome_of_several_calls(  # noqa: PLR0917
    replies: list[Reply | ProviderUnavailable], event: Event, closes: bool, seen: set[int],
    unknown: set[int], failed: set[int], split: set[int], unsent: bool,
) -> None:  # fmt: skip
    outcome = Outcome()
    for cities, reply in zip([(1, 2, 3), (4, 5)], replies, strict=False):
        outcome.add(cities, reply)
    assert (outcome.event, outcome.closes, outcome.unsent) == (event, closes, unsent)
    assert (set(outcome.observations), outcome.unknown, outcome.failed, outcome.split) == (seen, unknown, failed, split)


class FakeLedger(Ledger):
    """Answers from a script; nothing is wanted after it."""

    def __init__(self, script: Sequence[Reservation | NotNow | Exception], calls_at_once: int) -> None:
        self.script = [*script]
        self.lanes: list[int] = []
        self.reports: list[tuple[Event, float | None]] = []
        self.changes: Mapping[str, Any] = {}
        self._calls_at_once = calls_at_once

    @property
    def calls_at_once(self) -> int:
        return self._calls_at_once

    async def reserve(self, calls: int) -> Reservation | NotNow:
        self.lanes.append(calls)
        answer = self.script.pop(0) if self.script else NotNow(1e9, None)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def report(self, plan: Plan, event: Event, retry_after_s: float | None = None) -> Mapping[str, Any]:
        self.reports.append((event, retry_after_s))
        return self.changes


class FakeProvider:
    """Answers by the first city of a call."""

    def __init__(self, answers: Mapping[int, Answer]) -> None:
        self.answers = answers
        self.requests: list[tuple[str, tuple[int, ...], float]] = []

    def group(self, city_ids: Sequence[int], send_by: float) -> Reply:
        return self._answer("group", tuple(city_ids), send_by)

    def single(self, city_id: int, send_by: float) -> Reply:
        return self._answer("single", (city_id,), send_by)

    def _answer(self, endpoint: str, cities: tuple[int, ...], send_by: float) -> Reply:
        self.requests.append((endpoint, cities, send_by))
        answer = self.answers.get(cities[0], weather(*cities))
        if isinstance(answer, Exception):
            raise answer
        return answer


class Scene:
    """A caller at work on the collection c, whose cities are 1 to 5 and each fetched by a call that lasts a second."""

    def __init__(
        self,
        database: Database,
        *script: Reservation | NotNow | Exception,
        answer: Answer | None = None,
        lanes: int = 4,
        calls_at_once: int = 1,
    ) -> None:
        self.loop = VirtualLoop()
        self.clock = VirtualClock(self.loop)
        self.database = Database(database.engine, self.clock.of_database)
        self.ledger = FakeLedger(script, calls_at_once)
        self.provider = FakeProvider({} if answer is None else {1: answer})
        self.settled: list[Settled] = []
        self.under_way = self.most_under_way = 0
        self.registry = CollectorRegistry()
        transactions, metrics = Transactions(self.database, inline, self.clock), CallMetrics(self.registry)
        self.caller = Caller(self.ledger, self.provider, transactions, self._request, self.clock, lanes, metrics)
        self.caller.on_settled = self.settled.append
        self.database.write(self._enqueue)

    def _enqueue(self, connection: Any) -> None:
        accept(connection, EPOCH, CollectionRequest("c", range(1, 6), 0, named=True))
        enqueueing.enqueue(connection, EPOCH, ACCOUNT, 0, [BatchKey("c", 0)])
        quota.insert_charge(connection, ACCOUNT, "me", 5, EPOCH, EPOCH + timedelta(seconds=25))
        queue.claim(connection, range(1, 6), 1, EPOCH + timedelta(seconds=25))

    async def _request(self, work: Callable[[], Any]) -> Any:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await self.clock.sleep(1)
        self.under_way -= 1
        return work()

    def run(self, seconds: float = 30, meanwhile: Callable[[], Coroutine[Any, Any, None]] | None = None) -> "Scene":
        async def program() -> None:
            running = asyncio.create_task(self.caller.run())
            if meanwhile is not None:
                await meanwhile()
            await self.clock.sleep(seconds)
            self.caller.stop()
            await running

        run_virtually(program(), self.loop)
        return self

    @property
    def readings(self) -> dict[int, str]:
        found = self.database.read(lambda c: c.execute(select(Reading.city_id, Reading.status)).all())
        return {row.city_id: row.status for row in found}

    @property
    def queued(self) -> dict[int, tuple[int | None, int]]:
        """The claim and the failures of each wanted city."""
        rows = self.database.read(lambda c: c.execute(select(QueuedCity.__table__)).all())
        return {row.city_id: (row.charge_id, row.attempts) for row in rows}

    @property
    def counted(self) -> dict[str, float]:
        """What is not 0: calls by outcome, and cities."""
        calls = {each: self._sample("provider_call_duration_seconds_count", {"outcome": each}) for each in OUTCOMES}
        cities = {"requested": "provider_cities_requested_total", "collected": "cities_collected_total"}
        counted = calls | {each: self._sample(name) for each, name in cities.items()}
        return {name: number for name, number in counted.items() if number}

    def _sample(self, name: str, labels: dict[str, str] | None = None) -> float:
        return self.registry.get_sample_value(f"raingauge_{name}", labels or {}) or 0

    @property
    def is_closed(self) -> bool:
        return self.database.read(lambda c: c.scalars(select(QuotaCharge.closed_at)).one()) is not None


def charge(*calls: tuple[int, ...], plan: Plan = GROUP, gate_was_untroubled: bool = True) -> Reservation:
    return Reservation(EPOCH, 1, calls or ((1, 2, 3, 4, 5),), plan, gate_was_untroubled)


def events(caplog: pytest.LogCaptureFixture, name: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.getMessage() == name]


def test_what_was_fetched_is_stored_closed_and_announced(sqlite: Database) -> None:
    scene = Scene(sqlite, charge()).run()
    assert scene.readings == dict.fromkeys(range(1, 6), "collected")
    assert scene.is_closed
    assert [(set(settled.batches), len(settled.collections)) for settled in scene.settled] == [({BatchKey("c", 0)}, 1)]
    assert scene.ledger.reports == []  # an ordinary answer changes nothing about the gate
    assert scene.provider.requests == [("group", (1, 2, 3, 4, 5), 5.0)]
    assert scene.counted == {"answered": 1, "requested": 5, "collected": 5}


@pytest.mark.parametrize(
    ("answer", "reports", "failures", "closes", "outcome"),
    [
        (OVER, [(Event.QUOTA, 30.0)], 0, True, "quota"),
        (ProviderUnavailable("timeout"), [(Event.SILENT, None)], 1, False, "silent"),
        (Unreadable("no list"), [(Event.SILENT, None)], 1, False, "unreadable"),
        (ValueError("a bug"), [(Event.SILENT, None)], 1, False, "silent"),
        (NotSent("late"), [], 0, False, "unsent"),
    ],
    ids=["refused", "silent", "unreadable", "a bug", "not sent"],
)
def test_a_call_without_weather_leaves_its_cities_wanted(
    sqlite: Database, answer: Answer, reports: list[Any], failures: int, closes: bool, outcome: str
) -> None:
    scene = Scene(sqlite, charge(), answer=answer).run()
    assert scene.readings == {}
    assert scene.queued == dict.fromkeys(range(1, 6), (None, failures))
    assert (scene.ledger.reports, scene.is_closed) == (reports, closes)
    assert scene.counted == {outcome: 1, "requested": 5}


@pytest.mark.parametrize(("answer", "failures"), [(ProviderUnavailable("timeout"), 1), (NotSent("late"), 0)])
def test_a_probe_counts_against_its_city_only_if_it_was_sent(sqlite: Database, answer: Answer, failures: int) -> None:
    probe = charge((1,), plan=Plan("single", probe=True), gate_was_untroubled=False)
    assert Scene(sqlite, probe, answer=answer).run().queued[1] == (None, failures)


def test_an_answer_that_is_readable_in_part_is_counted(sqlite: Database) -> None:
    scene = Scene(sqlite, charge(), answer=weather(1, 2, 3, 4, unreadable=[5])).run()
    assert scene.counted == {"unreadable": 1, "requested": 5, "collected": 4}


@pytest.mark.parametrize(
    ("answer", "state", "level", "report"),
    [(OVER, "quota", "WARNING", (Event.QUOTA, 30.0)), (None, "open", "INFO", (Event.ANSWERED, None))],
)
def test_an_answer_that_concerns_the_gate_is_reported_and_its_change_logged(
    sqlite: Database, caplog: pytest.LogCaptureFixture, answer: Answer | None, state: str, level: str, report: Any
) -> None:
    caplog.set_level(logging.INFO)
    scene = Scene(sqlite, charge((1,), (2,), plan=SINGLE, gate_was_untroubled=False), answer=answer)
    scene.ledger.changes = {"state": state}
    scene.run()
    assert scene.ledger.reports == [report]
    assert {endpoint for endpoint, _, _ in scene.provider.requests} == {"single"}
    assert [record.levelname for record in events(caplog, "gate.changed")] == [level]


def break_city(database: Database, city_id: int, status: str) -> None:
    """Have the database refuse readings of a city, as a value that no column takes would."""
    on = f"BEFORE INSERT ON readings WHEN NEW.city_id = {city_id} AND NEW.status LIKE '{status}'"
    trigger = text(f"CREATE TRIGGER broken {on} BEGIN SELECT RAISE(ABORT, 'broken'); END")
    database.write(lambda connection: connection.execute(trigger))


def test_one_city_that_cannot_be_stored_fails_alone(sqlite: Database) -> None:
    break_city(sqlite, 2, "collected")
    scene = Scene(sqlite, charge(), answer=weather(1, 2, 3, 4, unknown=[5])).run()
    assert scene.readings == {1: "collected", 2: "failed", 3: "collected", 4: "collected"}
    assert scene.queued == {5: (None, 0)}
    assert scene.is_closed


def test_a_city_that_cannot_even_fail_waits_for_its_next_call(sqlite: Database) -> None:
    break_city(sqlite, 2, "%")
    scene = Scene(sqlite, charge()).run()
    assert set(scene.readings) == {1, 3, 4, 5}
    assert scene.queued == {2: (None, 0)}


def test_when_nothing_can_be_stored_the_claims_stay_until_they_expire(sqlite: Database) -> None:
    refusing = text("CREATE TRIGGER broken BEFORE UPDATE ON quota_charges BEGIN SELECT RAISE(ABORT, 'broken'); END")
    sqlite.write(lambda connection: connection.execute(refusing))
    assert Scene(sqlite, charge(), answer=SPLIT).run().queued == dict.fromkeys(range(1, 6), (1, 0))


def test_cities_that_another_call_fetched_are_settled_without_a_call(sqlite: Database) -> None:
    scene = Scene(sqlite, charge(), NotNow(1.5, None), Reservation(EPOCH, fresh=(1,))).run()
    assert (len(scene.settled), len(scene.provider.requests)) == (2, 1)


def test_a_database_outage_while_reserving_is_waited_out(sqlite: Database) -> None:
    scene = Scene(sqlite, DatabaseUnavailable("away"), DatabaseUnavailable("away"), charge())
    reasons: list[str | None] = []

    async def look() -> None:
        await scene.clock.sleep(0.1)
        reasons.append(scene.caller.waiting_for)

    scene.run(meanwhile=look)
    assert [*reasons, scene.caller.waiting_for] == ["database", None]
    assert len(scene.readings) == 5


def test_stop_finishes_what_is_under_way(sqlite: Database) -> None:
    scene = Scene(sqlite, charge()).run(seconds=0.5)
    assert (len(scene.readings), scene.loop.time()) == (5, 1)


@pytest.mark.parametrize(("lanes", "at_once", "reserved"), [(1, 4, 1), (2, 4, 2), (3, 2, 2)])
def test_lanes_bound_the_calls_under_way(sqlite: Database, lanes: int, at_once: int, reserved: int) -> None:
    five = [charge(cities) for cities in ((1, 2), (3, 4), (1, 2), (3, 4), (1, 2))]
    scene = Scene(sqlite, *five, lanes=lanes, calls_at_once=at_once).run()
    assert (scene.most_under_way, max(scene.ledger.lanes), len(scene.provider.requests)) == (lanes, reserved, 5)


def test_waiting_is_logged_once_per_reason_and_pacing_never(sqlite: Database, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    Scene(sqlite, *(NotNow(1, reason) for reason in ("pace", "quota", "quota", "key", "probe", "quota"))).run()
    assert [record.__dict__["reason"] for record in events(caplog, "caller.waiting")] == ["quota", "key", "quota"]


def test_that_calls_go_on_is_logged_and_how_soon_a_wait_is_looked_at_again(
    sqlite: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pace = NotNow(1, "pace")
    Scene(sqlite, NotNow(184_767, "month"), pace, charge(), pace, charge()).run(90)
    (waiting,), (resumed,) = events(caplog, "caller.waiting"), events(caplog, "caller.resumed")
    assert (vars(waiting)["reason"], vars(waiting)["looks_again_s"]) == ("month", 60.0)
    assert vars(resumed)["reason"] == "month"


def test_news_end_a_wait_and_no_wait_is_longer_than_a_minute(sqlite: Database) -> None:
    scene = Scene(sqlite, *[NotNow(1e6, "month")] * 9)

    async def wake_later() -> None:
        await scene.clock.sleep(5)
        scene.caller.wake()
        await scene.clock.sleep(1)
        assert (len(scene.ledger.lanes), scene.caller.quiet_s) == (2, 1)
        await scene.clock.sleep(LONGEST_WAIT_S)
        assert len(scene.ledger.lanes) == 3

    scene.run(meanwhile=wake_later)


def test_a_failover_is_told_once(sqlite: Database) -> None:
    scene = Scene(sqlite, *[NotNow(1.0, "failover")] * 3, NotNow(1.0, None), NotNow(1.0, "failover"))
    told: list[float] = []
    scene.caller.on_failover = lambda: told.append(scene.clock.monotonic())
    scene.run()
    assert told == [0.0, 4.0]
