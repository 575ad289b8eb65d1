"""What a member of the group has in hand: at most `size` deliveries fetched and not yet acknowledged.

Pure: no I/O, no clock, no Kafka. An epoch is one assignment of partitions; deliveries of an older one are void.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Final

from raingauge.messaging.offsets import PartitionOffsets
from raingauge.messaging.port import Delivery

# Counted over all windows of the process, so that a delivery of an earlier subscription is void for a later one, too.
_EPOCHS: Final = count(1)


class Window:
    """The deliveries of one epoch: waiting to be handed out, in the worker's hands, or held.

    A held delivery and what stands behind it in its partition do not count, so that the other partitions go on.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiting: deque[Delivery] = deque()
        self._in_hand: dict[tuple[int, int], Delivery] = {}
        self._held: dict[tuple[int, int], Delivery] = {}
        self._offsets: dict[int, PartitionOffsets] = {}
        self._full = False
        self.epoch = next(_EPOCHS)

    def take(self, delivery: Delivery) -> bool:
        """Let a fetched delivery wait; False when its offset does not rise."""
        if not self._offsets.setdefault(delivery.partition, PartitionOffsets()).deliver(delivery.offset):
            return False
        self._waiting.append(delivery)
        self._measure()
        return True

    def hand_out(self) -> list[Delivery]:
        """What waits, except behind a held delivery."""
        held = self.held_partitions
        handed = [delivery for delivery in self._waiting if delivery.partition not in held]
        self._waiting = deque(delivery for delivery in self._waiting if delivery.partition in held)
        self._in_hand.update((_key(delivery), delivery) for delivery in handed)
        return handed

    def acknowledge(self, delivery: Delivery) -> bool:
        """Settle a delivery; False when it was settled before or is void."""
        if delivery.epoch != self.epoch or self._in_hand.pop(_key(delivery), None) is None:
            return False
        self._held.pop(_key(delivery), None)
        self._offsets[delivery.partition].settle(delivery.offset)
        self._measure()
        return True

    def hold(self, delivery: Delivery) -> bool:
        """Let the partition wait behind this delivery; False when it is settled or void."""
        if delivery.epoch != self.epoch or _key(delivery) not in self._in_hand:
            return False
        self._held[_key(delivery)] = delivery
        self._measure()
        return True

    def unsettled(self) -> list[Delivery]:
        """What was handed out and is not acknowledged."""
        return list(self._in_hand.values())

    def to_commit(self) -> dict[int, int]:
        """Per partition the lowest unsettled offset, where it has moved since it was committed."""
        moved = ((partition, offsets.to_commit()) for partition, offsets in self._offsets.items())
        return {partition: offset for partition, offset in moved if offset is not None}

    def committed(self, offsets: Mapping[int, int]) -> None:
        """Take note that these offsets are stored in the group."""
        for partition, offset in offsets.items():
            self._offsets[partition].committed(offset)

    def drop_waiting(self) -> None:
        """Forget what nobody has seen yet: it is never settled, so it is not committed and comes again."""
        self._waiting.clear()

    def begin_epoch(self) -> None:
        """Start anew: all deliveries so far are void."""
        self.epoch = next(_EPOCHS)
        self._waiting.clear()
        self._in_hand.clear()
        self._held.clear()
        self._offsets.clear()
        self._full = False

    @property
    def held(self) -> Sequence[Delivery]:
        """The deliveries that this version cannot work on."""
        return tuple(self._held.values())

    @property
    def held_partitions(self) -> frozenset[int]:
        """Their partitions."""
        return frozenset(partition for partition, _ in self._held)

    @property
    def free(self) -> int:
        """How many more may be fetched."""
        held = self.held_partitions
        return self._size - sum(len(o) for partition, o in self._offsets.items() if partition not in held)

    @property
    def full(self) -> bool:
        """Whether fetching has to wait: from the moment nothing is free until half of the window is."""
        return self._full

    def _measure(self) -> None:
        free = self.free
        if free <= 0:
            self._full = True
        elif free >= self._size - self._size // 2:
            self._full = False


def _key(delivery: Delivery) -> tuple[int, int]:
    return delivery.partition, delivery.offset
