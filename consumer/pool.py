"""The wanted cities that a consumer holds, served in turn over the collections. Pure: no I/O, no clock of its own.

A city that several batches want stands once: one call settles it for all of them. It is ready (in the turn), out (in a
call), or resting (not before some moment on the caller's monotonic clock).
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from consumer.queues import Newcomers, Queues
from raingauge.pacing import FIRST_FEW
from raingauge.storage.batches import BatchRef
from raingauge.storage.wanted import OpenBatch, Want


class Turn(NamedTuple):
    """A ready city whose turn it is; an observation fetched at or after `since` would do for one who wants it."""

    city_id: int
    since: datetime
    collection_id: str
    """Whose turn it was."""


@dataclass(slots=True)
class _City:
    """Who wants a city, and how it is to be asked for."""

    wants: dict[BatchRef, datetime] = field(default_factory=dict)
    out: bool = False
    rests_until: float | None = None
    alone: bool = False
    """It must not ride in a group call."""

    @property
    def ready(self) -> bool:
        return not self.out and self.rests_until is None and bool(self.wants)

    @property
    def collections(self) -> set[str]:
        """Who wants it. While it is ready, it stands in the queue of each of these, and in no other."""
        return {ref.collection_id for ref in self.wants}


class Pool:
    """The wanted cities. Not thread-safe: it lives on the event loop."""

    def __init__(self) -> None:
        self._cities: dict[int, _City] = {}
        self._batches: dict[BatchRef, set[int]] = {}
        self._newcomers = Newcomers()
        self._together = Queues()
        self._alone = Queues()
        self._rests: list[tuple[float, int]] = []

    def __len__(self) -> int:
        """Cities wanted, those in calls included."""
        return len(self._cities)

    def __contains__(self, ref: BatchRef) -> bool:
        """Whether a batch has unsettled cities here."""
        return ref in self._batches

    @property
    def shared(self) -> bool:
        """Whether there are ready cities of several collections to choose from."""
        return len(self._together) > 1 or len(self._alone) > 1

    @property
    def ready(self) -> int:
        """How many cities may be asked for now. Counts them one by one."""
        return sum(city.ready for city in self._cities.values())

    @property
    def next_wake(self) -> float | None:
        """When the first resting city may be asked for again; now and then too early a moment."""
        return self._rests[0][0] if self._rests else None

    def add(self, batch: OpenBatch) -> bool:
        """Want the cities of a batch, and tell whether its collection is new here. Adding it again adds nothing."""
        new = batch.ref.collection_id not in self._together
        if batch.city_ids and batch.ref not in self._batches:
            self._newcomers.came(batch.ref.collection_id)
            self._batches[batch.ref] = set()
        for city_id in batch.city_ids:
            if (city := self._cities.get(city_id)) is None:
                city = self._cities[city_id] = _City()
            city.wants[batch.ref] = batch.since
            self._batches[batch.ref].add(city_id)
            self._queue(city_id, city)
        return new

    def wake(self, now: float) -> None:
        """Make the cities ready whose rest is over."""
        while self._rests and self._rests[0][0] <= now:
            _, city_id = heapq.heappop(self._rests)
            city = self._cities.get(city_id)
            if city is not None and city.rests_until is not None and city.rests_until <= now:
                city.rests_until = None
                self._queue(city_id, city)

    def take(self, most: int, *, alone: bool = True) -> tuple[list[Turn], bool]:
        """Up to `most` ready cities, and whether they may ride in one group call. They are out until they come back.

        Those that may not go first, unless `alone` is False.
        """
        turns = self._take(self._alone, most) if alone else []
        return (turns, False) if turns else (self._take(self._together, most), True)

    def take_new(self, most: int) -> list[Turn]:
        """As `take`: up to `most` cities more, the first few of each collection that came lately."""
        turns: list[Turn] = []
        for collection_id in self._newcomers:
            few = self._together.first(collection_id, min(FIRST_FEW, most - len(turns)))
            turns += [self._out(collection_id, city_id) for city_id in few]
        return turns

    def borrow(self, city_ids: Iterable[int]) -> list[int]:
        """These go for others: they are out as well, so that who comes to want one waits for its call.

        Answers those that come back with it: what is out already comes back with the call that took it.
        """
        borrowed = []
        for city_id in city_ids:
            city = self._cities.setdefault(city_id, _City())
            if not city.out:
                self._leave_line(city_id, city)
                city.out = True
                borrowed.append(city_id)
        return borrowed

    def give_back(self, turns: Iterable[Turn]) -> None:
        """These were not asked for after all: they stand where they stood."""
        for turn in reversed(list(turns)):
            city = self._cities[turn.city_id]
            city.out = False
            if city.ready and turn.collection_id in city.collections:
                self._line(city).push_front(turn.collection_id, turn.city_id)
            self._return(turn.city_id, city)

    def put_back(self, city_ids: Iterable[int], until: float, *, alone: bool = False) -> None:
        """These were asked for in vain: once back, they rest until then; `alone`: and ride in no group call again."""
        for city_id in city_ids:
            if (city := self._cities.get(city_id)) is None:
                continue
            self._leave_line(city_id, city)
            city.rests_until = until
            city.alone = city.alone or alone
            heapq.heappush(self._rests, (until, city_id))

    def wants(self, city_ids: Iterable[int]) -> list[Want]:
        """Every batch that wants one of these."""
        wanted = ((city_id, self._cities[city_id]) for city_id in city_ids if city_id in self._cities)
        return [Want(ref, city_id, since) for city_id, city in wanted for ref, since in city.wants.items()]

    def some_wants(self, city_id: int, collection_id: str, most: int) -> tuple[Want, ...]:
        """Up to `most` batches that want a city, those of a collection first."""
        wants = self._cities[city_id].wants
        ordered = heapq.nsmallest(most, wants, key=lambda ref: ref.collection_id != collection_id)
        return tuple(Want(ref, city_id, wants[ref]) for ref in ordered)

    def settle(self, wants: Iterable[Want]) -> list[BatchRef]:
        """These are stored; answer which batches are settled by it. Cities that are out stay out."""
        settled = []
        for want in wants:
            city = self._cities.get(want.city_id)
            if city is None or city.wants.pop(want.ref, None) is None:
                continue
            self._newcomers.settled(want.ref.collection_id)
            left = self._batches[want.ref]
            left.discard(want.city_id)
            if not left:
                del self._batches[want.ref]
                self._newcomers.left(want.ref.collection_id)
                settled.append(want.ref)
            if not city.out and want.ref.collection_id not in city.collections:
                self._line(city).remove(want.ref.collection_id, want.city_id)
            self._forget_if_unwanted(want.city_id, city)
        return settled

    def come_back(self, city_ids: Iterable[int]) -> None:
        """The call with these is over; who still wants one of them gets it in the next turn."""
        for city_id in city_ids:
            if (city := self._cities.get(city_id)) is not None:
                self._return(city_id, city)

    def in_calls(self, ref: BatchRef) -> bool:
        """Whether all that is left of a batch is in calls."""
        return all(self._cities[city_id].out for city_id in self._batches.get(ref, ()))

    def drop(self, ref: BatchRef) -> bool:
        """Want a batch no more; cities in a call stay wanted until it is over. Whether there are any."""
        left = self._batches.get(ref, set())
        out = {city_id for city_id in left if self._cities[city_id].out}
        self.settle([Want(ref, city_id, self._cities[city_id].wants[ref]) for city_id in left - out])
        return bool(out)

    def drop_collections(self, collection_ids: frozenset[str]) -> list[BatchRef]:
        """Want these collections no more; answer their batches of which no city is in a call."""
        theirs = [ref for ref in self._batches if ref.collection_id in collection_ids]
        return [ref for ref in theirs if not self.drop(ref)]

    def _take(self, line: Queues, most: int) -> list[Turn]:
        turns: list[Turn] = []
        while len(turns) < most and (entry := line.turn()) is not None:
            turns.append(self._out(*entry))
        return turns

    def _out(self, collection_id: str, city_id: int) -> Turn:
        city = self._cities[city_id]
        self._leave_line(city_id, city)
        city.out = True
        return Turn(city_id, min(city.wants.values()), collection_id)

    def _return(self, city_id: int, city: _City) -> None:
        city.out = False
        self._queue(city_id, city)
        self._forget_if_unwanted(city_id, city)

    def _queue(self, city_id: int, city: _City) -> None:
        """Have a ready city stand in the queue of every collection that wants it."""
        if city.ready:
            for ref in city.wants:
                self._line(city).push(ref.collection_id, city_id)

    def _leave_line(self, city_id: int, city: _City) -> None:
        for ref in city.wants:
            self._line(city).remove(ref.collection_id, city_id)

    def _forget_if_unwanted(self, city_id: int, city: _City) -> None:
        if not city.wants and not city.out:
            self._cities.pop(city_id, None)

    def _line(self, city: _City) -> Queues:
        return self._alone if city.alone else self._together
