"""The wanted cities that a consumer holds, served in turn over the collections. Pure: no I/O, no clock of its own.

A city that several batches want stands once: one call settles it for all of them. It is ready (in the turn), out (in a
call), or resting (not before some moment on the caller's monotonic clock).
"""

import heapq
from collections import OrderedDict, deque
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
    """Cities queued by collection, one of each collection in turn."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, deque[int]] = OrderedDict()

    def push(self, collection_id: str, city_id: int) -> None:
        self._queues.setdefault(collection_id, deque()).append(city_id)

    def push_front(self, collection_id: str, city_id: int) -> None:
        self._queues.setdefault(collection_id, deque()).appendleft(city_id)
        self._queues.move_to_end(collection_id, last=False)

    def pop(self) -> tuple[str, int] | None:
        """The next city, or None. Its collection goes to the end."""
        for collection_id, queue in self._queues.items():
            city_id = queue.popleft()
            if queue:
                self._queues.move_to_end(collection_id)
            else:
                del self._queues[collection_id]
            return collection_id, city_id
        return None


@dataclass(slots=True)
class _City:
    """Who wants a city, and how it is to be asked for."""

    wants: dict[BatchRef, datetime] = field(default_factory=dict)
    queued: set[str] = field(default_factory=set)
    """The collections in whose queue it stands."""
    out: bool = False
    resting: bool = False
    alone: bool = False
    """It must not ride in a group call."""

    @property
    def ready(self) -> bool:
        return not self.out and not self.resting and bool(self.wants)


class Pool:
    """The wanted cities. Not thread-safe: it lives on the event loop."""

    def __init__(self) -> None:
        self._cities: dict[int, _City] = {}
        self._batches: dict[BatchRef, set[int]] = {}
        self._together = _Line()
        self._alone = _Line()
        self._ready: set[int] = set()
        self._rests: list[tuple[float, int]] = []

    def __len__(self) -> int:
        """Cities wanted, those in calls included."""
        return len(self._cities)

    def __contains__(self, ref: BatchRef) -> bool:
        """Whether a batch has unsettled cities here."""
        return ref in self._batches

    @property
    def ready(self) -> int:
        """How many cities may be asked for now."""
        return len(self._ready)

    @property
    def next_wake(self) -> float | None:
        """When the first resting city may be asked for again."""
        return self._rests[0][0] if self._rests else None

    def add(self, batch: OpenBatch) -> None:
        """Want the cities of a batch. Adding it again adds nothing."""
        for city_id in batch.city_ids:
            city = self._cities.setdefault(city_id, _City())
            city.wants[batch.ref] = batch.since
            self._batches.setdefault(batch.ref, set()).add(city_id)
            self._queue(city_id, city)

    def wake(self, now: float) -> None:
        """Make the cities ready whose rest is over."""
        while self._rests and self._rests[0][0] <= now:
            _, city_id = heapq.heappop(self._rests)
            city = self._cities.get(city_id)
            if city is not None and city.resting:
                city.resting = False
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
            if any(ref.collection_id == turn.collection_id for ref in city.wants):
                self._line(city).push_front(turn.collection_id, turn.city_id)
                city.queued.add(turn.collection_id)
            self._return(turn.city_id, city)

    def put_back(self, city_ids: Iterable[int], until: float, *, alone: bool = False) -> None:
        """These were asked for in vain: they rest until that moment; `alone`: then they ride in no group call."""
        for city_id in city_ids:
            city = self._cities[city_id]
            city.out, city.resting = False, True
            if alone and not city.alone:
                city.alone = True
                city.queued.clear()
            heapq.heappush(self._rests, (until, city_id))
            self._return(city_id, city)

    def wants(self, city_ids: Iterable[int]) -> list[Want]:
        """Every batch that wants one of these."""
        return [Want(ref, city_id, since) for city_id in city_ids for ref, since in self._cities[city_id].wants.items()]

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
            self._forget_if_unwanted(want.city_id, city)
        return settled

    def come_back(self, city_ids: Iterable[int]) -> None:
        """The call with these is over; who still wants one of them gets it in the next turn."""
        for city_id in city_ids:
            if (city := self._cities.get(city_id)) is not None and city.out:
                city.out = False
                self._return(city_id, city)

    def drop(self, ref: BatchRef) -> bool:
        """Want a batch no more; cities in a call stay wanted until it is over. Whether there are any."""
        left = self._batches.get(ref, set())
        out = {city_id for city_id in left if self._cities[city_id].out}
        self.settle([Want(ref, city_id, self._cities[city_id].wants[ref]) for city_id in left - out])
        return bool(out)

    def _take(self, line: _Line, most: int) -> list[Turn]:
        turns: list[Turn] = []
        while len(turns) < most and (entry := line.pop()) is not None:
            collection_id, city_id = entry
            city = self._cities.get(city_id)
            if city is None or self._line(city) is not line:
                continue
            city.queued.discard(collection_id)
            if city.ready and any(ref.collection_id == collection_id for ref in city.wants):
                city.out = True
                self._ready.discard(city_id)
                turns.append(Turn(city_id, min(city.wants.values()), collection_id))
        return turns

    def _return(self, city_id: int, city: _City) -> None:
        self._queue(city_id, city)
        self._forget_if_unwanted(city_id, city)

    def _queue(self, city_id: int, city: _City) -> None:
        """Have a ready city stand in the queue of every collection that wants it."""
        if not city.ready:
            return
        self._ready.add(city_id)
        for ref in city.wants:
            if ref.collection_id not in city.queued:
                self._line(city).push(ref.collection_id, city_id)
                city.queued.add(ref.collection_id)

    def _forget_if_unwanted(self, city_id: int, city: _City) -> None:
        if not city.wants:
            self._ready.discard(city_id)
            if not city.out:
                self._cities.pop(city_id, None)

    def _line(self, city: _City) -> _Line:
        return self._alone if city.alone else self._together
