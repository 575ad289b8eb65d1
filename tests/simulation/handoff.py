"""The hand-off's stand-in: a topic and a group, with delays, duplicates, reordering, losses and rebalances."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from raingauge.errors import HandoffUnavailable
from raingauge.messaging.port import Delivery, Headers
from tests.simulation.plan import Plan
from tests.simulation.process import Process
from tests.simulation.virtual import VirtualClock

POISON = b"poison"
"""The key of messages that nobody can decode."""


@dataclass(slots=True)
class _Stored:
    """A message in the topic that is not acknowledged."""

    delivery: Delivery
    held_by: "Member | None" = None


class Topic:
    """What the broker keeps. `published` and `acknowledged` are told of every message, for the audit."""

    def __init__(self, plan: Plan, clock: VirtualClock, name: str, partitions: int) -> None:
        self.plan = plan
        self.clock = clock
        self.name = name
        self._partitions = partitions
        self.dead: list[Delivery] = []
        self.on_publish: Callable[[Process, bytes], None] = lambda _process, _key: None
        self.on_acknowledge: Callable[[Delivery], None] = lambda _delivery: None
        self._stored: dict[tuple[int, int], _Stored] = {}
        self._ends: Counter[int] = Counter()
        self._members: list[Member] = []
        self._owners: dict[int, Member] = {}
        self._epoch = 0
        self._balancing = asyncio.Lock()

    @property
    def unacknowledged(self) -> int:
        return len(self._stored)

    @property
    def messages(self) -> list[Delivery]:
        """Those that are not acknowledged."""
        return [stored.delivery for stored in self._stored.values()]

    def store(self, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        partition = self.plan.chance.randrange(self._partitions)
        offset = self._ends[partition]
        self._ends[partition] += 1
        self._stored[partition, offset] = _Stored(Delivery(self.name, partition, offset, key, value, headers))
        self._wake()

    def lose(self) -> None:
        """A partition's batches are gone: retention, or the topic was deleted. Poison stays, to be counted."""
        partition = self.plan.chance.randrange(self._partitions)
        self._stored = {
            at: stored for at, stored in self._stored.items() if at[0] != partition or stored.delivery.key == POISON
        }

    async def join(self, member: "Member") -> None:
        self._members.append(member)
        await self.rebalance()

    async def leave(self, member: "Member") -> None:
        if member in self._members:
            self._members.remove(member)
        await self.rebalance()

    async def rebalance(self, *, thrown_out: "Member | None" = None) -> None:
        """Everything is revoked and shared out again. One thrown out is not asked: it learns of it later."""
        async with self._balancing:
            asked = [member for member in self._members if member is not thrown_out]
            self._epoch += 1
            self._owners = {p: asked[p % len(asked)] for p in range(self._partitions)} if asked else {}
            for stored in self._stored.values():
                stored.held_by = None
            for member in asked:
                member.epoch = self._epoch
            self._wake()
        if thrown_out is not None:
            await self.clock.sleep(self.plan.chance.uniform(0, 5))
            if thrown_out.process.alive:
                await self.rebalance()

    def hand_out(self, member: "Member") -> list[Delivery]:
        """Unacknowledged messages of its partitions, in any order, as far as its window goes."""
        if member.epoch != self._epoch or self.plan.handoff_away():
            return []
        mine = [s for (p, _), s in self._stored.items() if self._owners.get(p) is member and s.held_by is None]
        self.plan.chance.shuffle(mine)
        room = member.window - sum(s.held_by is member for s in self._stored.values())
        taken = mine[: max(0, room)]
        for stored in taken:
            stored.held_by = member
        return [replace(stored.delivery, epoch=self._epoch) for stored in taken]

    def acknowledge(self, member: "Member", delivery: Delivery) -> None:
        stored = self._stored.get((delivery.partition, delivery.offset))
        if stored is None or delivery.epoch != self._epoch or not member.process.alive:
            return
        self.on_acknowledge(delivery)
        if self.plan.happens(0.05):
            # The commit is lost on its way; a later one covers it, unless the partition is taken away before.
            asyncio.get_running_loop().call_later(self.plan.chance.uniform(0, 5), self._commit, delivery)
        else:
            self._commit(delivery)

    def _commit(self, delivery: Delivery) -> None:
        if delivery.epoch == self._epoch:
            self._stored.pop((delivery.partition, delivery.offset), None)
            self._wake()

    def _wake(self) -> None:
        for member in self._members:
            member.news.set()


class Member:
    """A consumer's subscription."""

    def __init__(self, topic: Topic, process: Process, window: int) -> None:
        self.process = process
        self.window = window
        self.news = asyncio.Event()
        self.epoch = -1
        self._topic = topic

    async def receive(self) -> Sequence[Delivery]:
        while True:
            await self._topic.clock.sleep(self._topic.plan.chance.random() * 0.05)
            if deliveries := self._topic.hand_out(self):
                return deliveries
            self.news.clear()
            try:
                async with asyncio.timeout(1.0):
                    await self.news.wait()
            except TimeoutError:
                continue

    async def lag(self) -> Mapping[int, int]:
        return {}

    def acknowledge(self, delivery: Delivery) -> None:
        self._topic.acknowledge(self, delivery)

    def hold(self, delivery: Delivery) -> None:
        raise AssertionError("the simulated hand-off carries no newer messages")

    @property
    def held(self) -> Sequence[Delivery]:
        return ()


class Sender:
    """A process's publishing side."""

    def __init__(self, topic: Topic, process: Process) -> None:
        self._topic = topic
        self._process = process

    async def publish(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        plan, clock = self._topic.plan, self._topic.clock
        self._process.check()
        if topic == self._topic.name:
            self._topic.on_publish(self._process, key or b"")
        await clock.sleep(plan.chance.random() * 0.05)
        while plan.handoff_away():
            await clock.sleep(0.5)
        self._process.check()
        if plan.happens(0.03):
            raise HandoffUnavailable("simulated: not stored")
        if topic != self._topic.name:
            self._topic.dead.append(Delivery(topic, 0, len(self._topic.dead), key, value, headers))
        else:
            self._topic.store(key, value, headers)
            if plan.happens(0.03):
                self._topic.store(key, value, headers)
        if plan.happens(0.03):
            raise HandoffUnavailable("simulated: stored, but nobody knows")
