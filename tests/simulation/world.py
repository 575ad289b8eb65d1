"""One run: builds the system for a seed, lets it live through its faults until all is done, audits it."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from consumer.app import Worker
from consumer.caller import Caller
from consumer.gate import EndpointSetting
from consumer.intake import Intake
from consumer.ledger import Ledger, NotNow, Reservation
from consumer.notifier import Notifier
from producer.collections import Collections
from producer.relays.batches import Relay
from producer.relays.events import EventRelay
from producer.relays.streams import StreamRelay
from producer.retention import Retention
from raingauge.database import Database
from raingauge.errors import RaingaugeError
from raingauge.model import CollectionRequest
from raingauge.settings import RelaySettings, RetentionSettings, StreamSettings
from raingauge.storage import collections as stored
from raingauge.storage import retention
from raingauge.storage.collections import BeingDeleted, OtherRequest
from tests.simulation.audit import Audit
from tests.simulation.handoff import POISON, Member, Sender, Topic
from tests.simulation.plan import CALM_AT, CITIES, Plan
from tests.simulation.process import Machine, Process
from tests.simulation.provider import Line, Witness
from tests.simulation.virtual import VirtualClock, VirtualLoop, run_virtually
from tests.support.databases import sqlite_again

ACCOUNT = "simulated"
TOPIC = "cities"
EVENTS = "events"
STREAMS = StreamSettings(enabled=True)
RELAY = RelaySettings(every_s=4.0, republish_after_s=40.0)
KEEP_ALL = RetentionSettings()
STEP_ROWS = 25
"""So that some deletions go on in the background."""
ENDS_WITHIN_S = 120.0
"""A client that wants to delete a collection waits so long for its end."""
CLIENTS_PATIENCE_S = 3600.0
"""Clients that have not done everything by then ask in vain."""
PATIENCE_S = 4 * 3600.0
"""A run that is not done by then, after its clients, stands still."""


class LockingLedger(Ledger):
    """The ledger, with the gate's lock held while its statements are on their way: SQLite alone has no such time."""

    gate: asyncio.Lock

    async def reserve(self, calls: int) -> Reservation | NotNow:
        async with self.gate:
            return await super().reserve(calls)


@dataclass
class Parts:
    """What code the world runs; a test plants bugs here."""

    ledger: type[LockingLedger] = LockingLedger
    intake: type[Intake] = Intake
    caller: type[Caller] = Caller
    relay: type[Relay] = Relay
    on_consumer_death: Callable[[Database, str], None] = field(default=lambda _database, _name: None)


class World:
    """The system of one seed."""

    outstanding = 3
    """Batches of one collection that the relay keeps in the hand-off."""
    window = 6
    """Deliveries that a consumer holds at most."""
    lanes = 3
    """Group calls that a consumer has under way at most."""
    partitions = 4
    deleted_share = 0.4
    """Of the collections that have ended."""

    def __init__(self, seed: int, engine: Engine, loop: VirtualLoop, parts: Parts) -> None:
        self.loop = loop
        self.clock = VirtualClock(loop)
        self.plan = Plan(seed, self.clock)
        self.parts = parts
        self.machine = Machine(engine)
        self.witness = Witness()
        self.topic = Topic(self.plan, self.clock, TOPIC, self.partitions)
        self.events = Topic(self.plan, self.clock, EVENTS, 1)
        self.observer = Database(engine, self.clock.of_database)
        self.streams = Topic(self.plan, self.clock, STREAMS.readings_topic, 1)
        self.audit = Audit(self.observer, self.topic, self.streams, self.witness, self.plan)
        self.consumers: list[tuple[Process, Member]] = []
        self.relays: list[Process] = []
        self._wake_relay: Callable[[], None] = lambda: None
        self._names = 0
        self._listeners: dict[str, Member] = {}

    def run(self) -> None:
        """The whole run, in virtual time."""
        with self.machine.watched():
            run_virtually(self.live(), self.loop)

    async def live(self) -> None:
        """What happens in it.

        Raises:
            AssertionError: the audit found something, or it never came to an end.
        """
        for _ in range(self.plan.relays):
            self.start_relay()
        for _ in range(self.plan.consumers):
            self.start_consumer()
        await self._live_through_faults()
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not self.audit.all_done():
                    self.fail_if_a_process_failed()
                    assert not self.audit.violations, self.audit.violations[0]
                    self.audit.look_for_standstill(ACCOUNT, self.clock.monotonic())
                    await self.clock.sleep(5)
        except TimeoutError:
            self.audit.look()  # it may say why
            raise AssertionError(f"not done after {PATIENCE_S} s: {self.audit.open_work()}") from None
        self.fail_if_a_process_failed()
        self.audit.check()

    async def _live_through_faults(self) -> None:
        doings = [self.post(number) for number in range(self.plan.collections)]
        doings.append(self.make_trouble())
        if self.plan.fails_over:
            doings.append(self.fail_over())
        try:
            async with asyncio.timeout(CLIENTS_PATIENCE_S):
                await asyncio.gather(*doings)
        except TimeoutError:
            raise AssertionError(f"the clients are not done after {CLIENTS_PATIENCE_S} s") from None

    # -- processes -----------------------------------------------------------------------------------------------

    def start_relay(self) -> None:
        process = self._process("relay")
        relay = self.parts.relay(
            process.transactions,
            Sender(self.topic, process),
            RELAY,
            topic=TOPIC,
            account=ACCOUNT,
            terms=self.plan.terms,
            holder=process.name,
        )
        event_relay = EventRelay(process.transactions, Sender(self.events, process), RELAY, EVENTS)
        sender = Sender(self.streams, process)
        stream_relay = StreamRelay(process.transactions, sender, self.clock, STREAMS, RELAY.every_s)
        parts = [stream_relay.run()] if self.plan.streams else []
        removal = Retention(process.transactions, KEEP_ALL, streams=self.plan.streams, holder=process.name)
        process.start(_all_of(relay.run(), event_relay.run(), *parts, removal.run()))
        self.relays.append(process)
        self._wake_relay = relay.wake

    def start_consumer(self, setting: EndpointSetting = "auto") -> None:
        process = self._process("consumer")
        transactions, clock = process.transactions, self.clock
        ledger = self.parts.ledger(transactions, clock, ACCOUNT, self.plan.terms, setting, process.name)
        ledger.gate, ledger.find_identity = self.machine.gate, self.machine.identity
        line = Line(self.plan, clock, process, self.witness)
        member = Member(self.topic, process, self.window)
        sender = Sender(self.topic, process)
        streams = self.plan.streams
        intake = self.parts.intake(member, sender, transactions, clock, ACCOUNT, TOPIC, streams=streams)
        caller = self.parts.caller(ledger, line, transactions, line.run, clock, self.lanes, streams=streams)
        worker = Worker(intake, caller, ledger, clock)
        listener = self._listeners[process.name] = Member(self.events, process, self.window)

        def notify(line: str) -> None:
            process.check()
            self.audit.notified.append(line)

        async def work() -> None:
            await self.topic.join(member)
            await self.events.join(listener)
            await _all_of(worker.run(), Notifier(listener, transactions, notify).run())

        process.start(work())
        process.stop = worker.stop  # type: ignore[attr-defined]
        self.consumers.append((process, member))

    def _process(self, kind: str) -> Process:
        self._names += 1
        return Process(f"{kind}-{self._names}", self.plan, self.clock, self.machine)

    def fail_if_a_process_failed(self) -> None:
        for process in [*self.relays, *(process for process, _ in self.consumers)]:
            if process.task is not None and process.task.done() and not process.task.cancelled():
                error = process.task.exception()
                if error is not None:
                    raise AssertionError(f"{process.name} failed") from error

    # -- clients -------------------------------------------------------------------------------------------------

    async def post(self, number: int) -> None:
        """Ask for a collection, again and again until it is accepted; sometimes twice at once."""
        chance = self.plan.chance
        await self.clock.sleep(chance.uniform(0, CALM_AT / 2))
        cities = chance.sample(list(CITIES), chance.randint(1, len(CITIES)))
        request = CollectionRequest(f"c{number}", tuple(cities), chance.choice([0, 5, 600]), named=True)
        await asyncio.gather(*(self._post(request) for _ in range(chance.choice([1, 1, 2]))))
        if chance.random() < 0.3:
            await self.clock.sleep(chance.uniform(0, chance.choice([3.0, CALM_AT / 2])))
            await self._until_answered(lambda collections: collections.cancel(request.id))
        if chance.random() < self.deleted_share and await self._delete(request.id) and chance.random() < 0.7:
            other = tuple(chance.sample(list(CITIES), chance.randint(1, len(CITIES))))
            await self._post(replace(request, city_ids=other))

    async def _delete(self, name: str) -> bool:
        """Delete a collection when it has ended; whether it did in time."""
        until_s = self.clock.monotonic() + ENDS_WITHIN_S
        while self.clock.monotonic() < until_s:
            state = self.observer.read(lambda connection: stored.find(connection, name))
            if state is None:
                assert self.audit.failed_over, name
                return False
            if state.finished_at is not None:
                self.audit.delete(state)
                await self._until_answered(lambda one: Retention(one.transactions, KEEP_ALL).delete(name))
                return True
            await self.clock.sleep(1)
        return False

    async def _post(self, request: CollectionRequest) -> None:
        self.audit.posted.add(request.id)
        try:
            await self._until_answered(lambda collections: collections.accept(request))
        except OtherRequest:
            assert self.audit.failed_over, request.id  # which brought back what the client had deleted
            return
        self.audit.accept(request.id, frozenset(request.city_ids))
        self._wake_relay()

    async def _until_answered(self, ask: Callable[[Collections], Awaitable[object]]) -> None:
        while True:
            producer = self._process("producer")
            try:
                await ask(Collections(producer.transactions, self.plan.terms, ACCOUNT, self.outstanding))
            except RaingaugeError as error:
                if isinstance(error, OtherRequest) and not isinstance(error, BeingDeleted):
                    raise
                await self.clock.sleep(1)
            else:
                return

    # -- trouble -------------------------------------------------------------------------------------------------

    async def make_trouble(self) -> None:
        """Kill, stop, pause and rebalance until the time of calm; then see that one of each is alive."""
        troubles = [self.kill_consumer, self.kill_at_statement, self.stop_consumer, self.kill_relay]
        troubles += [self.kill_consumer, self.rebalance, self.throw_out, self.lose, self.poison]
        while not self.plan.calm:
            await self.clock.sleep(self.plan.chance.expovariate(1 / 8))
            if not self.plan.calm:
                await self.plan.chance.choice(troubles)()
            self.audit.look()
        for process, _ in self.consumers:
            process.statements_left = None
        if not any(process.alive for process in self.relays):
            self.start_relay()
        if not any(process.alive for process, _ in self.consumers):
            self.start_consumer()

    def _some_consumer(self) -> tuple[Process, Member] | None:
        alive = [entry for entry in self.consumers if entry[0].alive]
        return self.plan.chance.choice(alive) if alive else None

    async def kill_consumer(self) -> None:
        if entry := self._some_consumer():
            entry[0].kill()
            await self._replace(*entry)

    async def kill_at_statement(self) -> None:
        if entry := self._some_consumer():
            entry[0].statements_left = self.plan.chance.randint(0, 40)
            await self.clock.sleep(3)
            if not entry[0].alive:
                await self._replace(*entry)
            entry[0].statements_left = None

    async def stop_consumer(self) -> None:
        """SIGTERM: it finishes its calls."""
        if entry := self._some_consumer():
            entry[0].stop()  # type: ignore[attr-defined]
            assert entry[0].task is not None
            await asyncio.wait({entry[0].task}, timeout=30)
            entry[0].kill()
            await self._replace(*entry)

    async def _replace(self, process: Process, member: Member) -> None:
        """The group notices after a while; another consumer starts."""
        self.parts.on_consumer_death(self.observer, process.name)
        await self.clock.sleep(self.plan.chance.uniform(0, 10))
        await self.topic.leave(member)
        await self.events.leave(self._listeners[process.name])
        self.start_consumer()

    async def kill_relay(self) -> None:
        alive = [process for process in self.relays if process.alive]
        if alive:
            self.plan.chance.choice(alive).kill()
            await self.clock.sleep(self.plan.chance.uniform(0, 3))
            self.start_relay()

    async def rebalance(self) -> None:
        await self.topic.rebalance()

    async def throw_out(self) -> None:
        """The group takes one for dead that is alive."""
        if entry := self._some_consumer():
            await self.topic.rebalance(thrown_out=entry[1])

    async def lose(self) -> None:
        self.topic.lose()
        self.events.lose()

    async def fail_over(self) -> None:
        """The database is a replica from now on, which has nothing of the last transactions."""
        await self.clock.sleep(self.plan.failover_at)
        with contextlib.closing(self.machine.replica()) as replica:
            last = self.machine.commits + self.plan.transactions_lost
            while self.machine.commits < last:
                await self.clock.sleep(0.01)
            self.machine.promote(replica)
        self.audit.fail_over()

    async def poison(self) -> None:
        value = self.plan.chance.choice([b"{", b"\xff\x00", None, b'{"version":1}', b"[]", b"x" * 1000])
        self.topic.store(POISON, value)
        self.audit.poison.append(value)


async def _all_of(*programs: Coroutine[Any, Any, None]) -> None:
    """Run the parts of a process until one of them ends."""
    tasks = [asyncio.create_task(program) for program in programs]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def simulate(seed: int, template: Path, parts: Parts | None = None) -> World:
    """Run one seed on a copy of a SQLite file with the schema.

    Raises:
        AssertionError: the audit found something; the message names the seed.
    """
    random.seed(seed)
    try:
        with sqlite_again(template) as engine, pytest.MonkeyPatch.context() as patch:
            patch.setattr(retention, "STEP_ROWS", STEP_ROWS)
            world = World(seed, engine, VirtualLoop(), parts or Parts())
            world.run()
    except BaseException as error:
        error.add_note(f"seed {seed}: python -m tests.simulation --first {seed} --seeds 1")
        raise
    return world
