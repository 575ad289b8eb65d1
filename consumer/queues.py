"""What the pool's order rests on: cities queued by collection, and which collections came lately. Pure."""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from itertools import islice

from raingauge.pacing import FIRST_FEW


class Queues:
    """Cities queued by collection, one of each collection in turn. A queue ends with its last city."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, OrderedDict[int, None]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._queues)

    def __contains__(self, collection_id: str) -> bool:
        return collection_id in self._queues

    def push(self, collection_id: str, city_id: int) -> None:
        """To the end of its collection's queue; where it stands already, it stays."""
        if (queue := self._queues.get(collection_id)) is None:
            queue = self._queues[collection_id] = OrderedDict()
        queue[city_id] = None

    def push_front(self, collection_id: str, city_id: int) -> None:
        """Have it be the very next."""
        self.push(collection_id, city_id)
        self._queues[collection_id].move_to_end(city_id, last=False)
        self._queues.move_to_end(collection_id, last=False)

    def remove(self, collection_id: str, city_id: int) -> None:
        """Out of its collection's queue, if it stands there."""
        if (queue := self._queues.get(collection_id)) is not None:
            queue.pop(city_id, None)
            if not queue:
                del self._queues[collection_id]

    def first(self, collection_id: str, most: int) -> list[int]:
        """The first cities of its queue."""
        return list(islice(self._queues.get(collection_id, ()), most))

    def turn(self) -> tuple[str, int] | None:
        """The collection whose turn it is and its first city, or None. Its next turn is after all others."""
        if not self._queues:
            return None
        collection_id, queue = next(iter(self._queues.items()))
        self._queues.move_to_end(collection_id)
        return collection_id, next(iter(queue))


class Newcomers:
    """The collections that have batches here and have not had their first few cities, the oldest first."""

    def __init__(self) -> None:
        self._batches: Counter[str] = Counter()
        self._left: dict[str, int] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._left)

    def came(self, collection_id: str) -> None:
        """One more batch of it is here."""
        if self._batches[collection_id] == 0:
            self._left[collection_id] = FIRST_FEW
        self._batches[collection_id] += 1

    def left(self, collection_id: str) -> None:
        """One of its batches is here no more."""
        self._batches[collection_id] -= 1
        if self._batches[collection_id] == 0:
            del self._batches[collection_id]
            self._left.pop(collection_id, None)

    def settled(self, collection_id: str) -> None:
        """One of its cities is settled: when its first few are, it is one like all others."""
        if collection_id in self._left:
            self._left[collection_id] -= 1
            if self._left[collection_id] == 0:
                del self._left[collection_id]
