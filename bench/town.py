"""Whole systems in virtual time: the real producer, relay, consumers and ledger on SQLite, nothing going wrong.

Hours pass in seconds. It is the world of the simulation (`tests.simulation`) without its faults and its audit, with
what a person would run: twelve partitions, a relay that is woken by a POST, the default instalments and window. It
measures nothing by itself: a story does, which is given a town.
"""

import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import uuid4

from sqlalchemy import Engine, func, select

from bench.size import Size
from producer.collections import Collections
from producer.relays.batches import Relay
from producer.views import View
from raingauge.database import open_database
from raingauge.model import CollectionRequest, CollectionState
from raingauge.quota.pacing import Pacing, Terms
from raingauge.settings import Settings
from raingauge.storage.collections import find
from raingauge.storage.models import Collection
from raingauge.storage.outbox import outstanding_limit
from tests.simulation.handoff import Sender
from tests.simulation.virtual import EPOCH, VirtualLoop, run_virtually
from tests.simulation.world import ACCOUNT, TOPIC, Parts, World
from tests.support.databases import sqlite_template

T = TypeVar("T")
BATCHES: Final = Settings.model_fields["collect"].default.outstanding_batches
PROCESSES: Final = 2


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a town is like. The default: a free key, one consumer, group calls."""

    pacing: Pacing = "smooth"
    endpoint: str = "group"
    consumers: int = 1
    cities_per_window: int = 60
    window_s: float = 60.0
    lanes: int = Settings.model_fields["consumer"].default.lanes
    latency_s: float = 0.1
    statement_s: float = 0.0
    """How long a statement is on its way to the database and back."""
    seed: int = 1

    @property
    def terms(self) -> Terms:
        """Without a month's budget."""
        return Terms(self.cities_per_window, self.window_s, self.pacing, 10**12, "none", 10.0)

    @property
    def crew(self) -> str:
        """For example `3 consumers`."""
        return f"{self.consumers} consumer{'s' if self.consumers > 1 else ''}"

    def __str__(self) -> str:
        return f"{self.pacing}, {self.endpoint}, {self.crew}"


class Town(World):
    """A system in which nothing goes wrong."""

    window = Settings.model_fields["consumer"].default.window
    partitions = Settings.model_fields["broker"].default.partitions

    def __init__(self, conditions: Conditions, engine: Engine, loop: VirtualLoop) -> None:
        super().__init__(conditions.seed, engine, loop, Parts())
        plan = self.plan
        plan.faulty, plan.terms = False, conditions.terms
        plan.unknown = plan.hopeless = frozenset()
        plan.group_mode = "works" if conditions.endpoint == "group" else "removed"
        plan.latency = lambda: conditions.latency_s  # type: ignore[method-assign]
        plan.statement_s = lambda: conditions.statement_s  # type: ignore[method-assign]
        self.lanes = conditions.lanes
        producer = self._process("producer")
        producer.statement_s = 0.0  # it is not what is measured
        outstanding = outstanding_limit(BATCHES, plan.terms.cities_per_window, plan.terms.window_s)
        self.posting = Collections(producer.transactions, plan.terms, ACCOUNT, outstanding)
        self.start_relay()
        for _ in range(conditions.consumers):
            self.start_consumer()

    def start_relay(self) -> None:
        """With the default settings."""
        process = self._process("relay")
        terms = self.plan.terms
        self.relay = Relay(
            process.transactions,
            Sender(self.topic, process),
            Settings.model_fields["relay"].default,
            topic=TOPIC,
            account=ACCOUNT,
            terms=terms,
            holder=process.name,
        )
        process.start(self.relay.run())
        self.relays.append(process)

    @property
    def now(self) -> float:
        """Virtual seconds since the start."""
        return self.clock.monotonic()

    async def collect(self, name: str, city_ids: Sequence[int], max_age_s: int = 0) -> View:
        """Ask for a collection; how it is expected to go."""
        view, _ = await self.posting.accept(CollectionRequest(name, tuple(city_ids), max_age_s, named=True))
        self.relay.wake()
        return view

    async def view(self, name: str) -> View:
        """A collection as a client sees it."""
        found = await self.posting.view(name, self.posting.deadline())
        if found is None:
            raise LookupError(name)
        return found

    def state(self, name: str) -> CollectionState:
        """A collection as it stands; takes no time."""
        state = self.observer.read(lambda connection: find(connection, name))
        if state is None:
            raise LookupError(name)
        return state

    def unsettled(self) -> int:
        """Cities without a reading."""
        left = func.sum(Collection.total - Collection.collected - Collection.failed)
        return int(self.observer.read(lambda c: c.scalar(select(left).where(Collection.finished_at.is_(None)))) or 0)

    async def until(self, condition: Callable[[], bool], within_s: float, every_s: float = 1.0) -> None:
        """Let time pass until a condition holds.

        Raises:
            TimeoutError: it does not.
        """
        deadline = self.now + within_s
        while not condition():
            self.fail_if_a_process_failed()
            if self.now > deadline:
                raise TimeoutError(f"not within {within_s:g} virtual seconds; {self.unsettled()} cities unsettled")
            await self.clock.sleep(every_s)

    async def until_done(self, within_s: float) -> None:
        """Let time pass until all is settled."""
        await self.until(lambda: self.unsettled() == 0, within_s)

    def most_in_window(self) -> int:
        """What the witness saw at worst."""
        return self.witness.most_in_any_window(self.plan.terms.window_s)


def seconds(moment: datetime | None) -> float:
    """A moment as virtual seconds."""
    if moment is None:
        raise ValueError("no moment: nobody knows, or it is not over")
    return (moment - EPOCH).total_seconds()


Story = Callable[[Town, Size], Awaitable[T]]
Job = tuple[Conditions, Story[T]]


def tell_all(jobs: Sequence[Job[T]], size: Size) -> list[T]:
    """What each story found, in order; two at a time, each in a process of its own."""
    with sqlite_template() as template, ProcessPoolExecutor(PROCESSES) as pool:
        futures = [pool.submit(_tell, template, conditions, story, size) for conditions, story in jobs]
        return [future.result(1800) for future in futures]


def _tell(template: Path, conditions: Conditions, story: Story[T], size: Size) -> T:
    logging.disable(logging.CRITICAL)
    random.seed(conditions.seed)
    path = template.with_name(f"town-{uuid4().hex}.db")
    path.write_bytes(template.read_bytes())
    loop = VirtualLoop()

    async def program() -> T:
        return await story(Town(conditions, database.engine, loop), size)

    try:
        with closing(open_database(f"sqlite:///{path}")) as database:
            result: T = run_virtually(program(), loop)
            return result
    finally:
        for leftover in path.parent.glob(f"{path.name}*"):
            leftover.unlink()


def each(conditions: Conditions, **choices: Sequence[Any]) -> list[Conditions]:
    """All combinations: `each(Conditions(), pacing=["smooth", "burst"], consumers=[1, 3])` gives four."""
    found = [conditions]
    for name, values in choices.items():
        found = [replace(one, **{name: value}) for one in found for value in values]
    return found
