"""The wanted cities that a consumer holds, served in turn over the collections. Pure: no I/O, no clock of its own.

A city that several batches want stands once: one call settles it for all of them. It is ready (in the turn), out (in a
call), or resting (not before some moment on the caller's monotonic clock).
"""

import heapq
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from raingauge.storage.batches import BatchRef
from raingauge.storage.readings import OpenBatch, Want


@dataclass(frozen=True, slots=True)
class Turn:
    """A ready city whose turn it is; an observation fetched at or after `since` would do for one who wants it."""

    city_id: int
    since: datetime
    collection_id: str
    """Whose turn it was."""


class _Line:
    """Cities queued by collection, one of each collection in turn. A queue ends with its last city."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, OrderedDict[int, None]] = OrderedDict()

    def __contains__(self, collection_id: str) -> bool:
        return collection_id in self._queues

    def push(self, collection_id: str, city_id: int) -> None:
        """To the end of its collection's queue; where it stands already, it stays."""
        self._queues.setdefault(collection_id, OrderedDict())[city_id] = None

    def push_front(self, collection_id: str, city_id: int) -> None:
        """Have it be the very next."""
        self.push(collection_id, city_id)
        self._queues[collection_id].move_to_end(city_id, last=False)
        self._queues.move_to_end(collection_id, last=False)

    def remove(self, collection_id: str, city_id: int) -> None:
        """Out of its collection's queue, if it stands there."""
        queue = self._queues.get(collection_id, OrderedDict())
        queue.pop(city_id, None)
        if not queue:
            self._queues.pop(collection_id, None)

    def turn(self) -> tuple[str, int] | None:
        """The collection whose turn it is and its first city, or None. Its next turn is after all others."""
        if not self._queues:
            return None
        collection_id, queue = next(iter(self._queues.items()))
        self._queues.move_to_end(collection_id)
        return collection_id, next(iter(queue))


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
        self._together = _Line()
        self._alone = _Line()
        self._rests: list[tuple[float, int]] = []

    def __len__(self) -> int:
        """Cities wanted, those in calls included."""
        return len(self._cities)

    def __contains__(self, ref: BatchRef) -> bool:
        """Whether a batch has unsettled cities here."""
        return ref in self._batches

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
        for city_id in batch.city_ids:
            city = self._cities.setdefault(city_id, _City())
            city.wants[batch.ref] = batch.since
            self._batches.setdefault(batch.ref, set()).add(city_id)
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

    def take(self, most: int) -> tuple[list[Turn], bool]:
        """Up to `most` ready cities, and whether they may ride in one group call. They are out until they come back."""
        alone = self._take(self._alone, most)
        return (alone, False) if alone else (self._take(self._together, most), True)

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

    def settle(self, wants: Iterable[Want]) -> list[BatchRef]:
        """These are stored; answer which batches are settled by it. Cities that are out stay out."""
        settled = []
        for want in wants:
            city = self._cities.get(want.city_id)
            if city is None or city.wants.pop(want.ref, None) is None:
                continue
            left = self._batches[want.ref]
            left.discard(want.city_id)
            if not left:
                del self._batches[want.ref]
                settled.append(want.ref)
            if want.ref.collection_id not in city.collections:
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

    def _take(self, line: _Line, most: int) -> list[Turn]:
        turns: list[Turn] = []
        while len(turns) < most and (entry := line.turn()) is not None:
            collection_id, city_id = entry
            city = self._cities[city_id]
            self._leave_line(city_id, city)
            city.out = True
            turns.append(Turn(city_id, min(city.wants.values()), collection_id))
        return turns

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
        for collection_id in city.collections:
            self._line(city).remove(collection_id, city_id)

    def _forget_if_unwanted(self, city_id: int, city: _City) -> None:
        if not city.wants and not city.out:
            self._cities.pop(city_id, None)

    def _line(self, city: _City) -> _Line:
        return self._alone if city.alone else self._together
