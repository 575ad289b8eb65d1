"""The deliveries that a group member has fetched and not yet acknowledged, and the offsets it may commit.

Pure: no I/O, no clock, no Kafka. An epoch is one assignment of partitions; deliveries of an older epoch are void.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Final

from raingauge.messaging.port import Delivery

# Shared by all windows of the process, so that a delivery of an earlier subscription is void for a later one too.
_EPOCHS: Final = count(1)


class PartitionOffsets:
    """The delivered offsets of one partition, settled in any order. Each operation takes amortised constant time.

    Offsets rise but need not be consecutive: compaction and transaction markers leave gaps.
    """

    def __init__(self) -> None:
        self._delivered: deque[int] = deque()
        self.open: set[int] = set()  # not settled
        self.committed: int | None = None
        self.next: int | None = None  # the offset after the last delivery; None before the first

    def deliver(self, offset: int) -> bool:
        """Record a delivery. False if its offset does not rise: the partition was truncated or recreated."""
        if self.next is None:
            self.committed = offset  # everything before the first delivery was settled earlier
        elif offset < self.next:
            return False
        self._delivered.append(offset)
        self.open.add(offset)
        self.next = offset + 1
        return True

    def settle(self, offset: int) -> bool:
        """Mark an offset as settled. False if it is not open."""
        if offset not in self.open:
            return False
        self.open.remove(offset)
        while self._delivered and self._delivered[0] not in self.open:
            self._delivered.popleft()
        return True

    @property
    def lowest(self) -> int | None:
        """The lowest unsettled offset, or the next one if all are settled; None before the first delivery."""
        return self._delivered[0] if self._delivered else self.next

    def to_commit(self) -> int | None:
        """The lowest unsettled offset, or the next one if all are settled. None if that is committed already."""
        return None if self.lowest == self.committed else self.lowest


class Window:
    """The unsettled deliveries of one epoch, at most `size`: waiting to be handed out, handed out, or held.

    A held delivery and those behind it in its partition do not count, so that the other partitions go on.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiting: deque[Delivery] = deque()
        self._held: dict[tuple[int, int], Delivery] = {}
        self._offsets: dict[int, PartitionOffsets] = {}
        self.full = False  # fetching must pause: from the moment the window is full until half of it is free
        self.epoch = next(_EPOCHS)

    def take(self, delivery: Delivery) -> bool:
        """Queue a fetched delivery. False if its offset does not rise."""
        if not self._offsets.setdefault(delivery.partition, PartitionOffsets()).deliver(delivery.offset):
            return False
        self._waiting.append(delivery)
        self._update_full()
        return True

    def hand_out(self) -> list[Delivery]:
        """Return the waiting deliveries, except those behind a held delivery."""
        held = self.held_partitions
        handed = [delivery for delivery in self._waiting if delivery.partition not in held]
        self._waiting = deque(delivery for delivery in self._waiting if delivery.partition in held)
        return handed

    def acknowledge(self, delivery: Delivery) -> bool:
        """Settle a delivery. False if it was settled before or is void."""
        if delivery.epoch != self.epoch or not self._offsets[delivery.partition].settle(delivery.offset):
            return False
        self._held.pop((delivery.partition, delivery.offset), None)
        self._update_full()
        return True

    def hold(self, delivery: Delivery) -> bool:
        """Block the partition behind this delivery. False if it is settled or void."""
        if delivery.epoch != self.epoch or delivery.offset not in self._offsets[delivery.partition].open:
            return False
        self._held[delivery.partition, delivery.offset] = delivery
        self._update_full()
        return True

    def to_commit(self) -> dict[int, int]:
        """The lowest unsettled offset of each partition where it differs from the committed one."""
        moved = ((partition, offsets.to_commit()) for partition, offsets in self._offsets.items())
        return {partition: offset for partition, offset in moved if offset is not None}

    def committed(self, offsets: Mapping[int, int]) -> None:
        """Record that these offsets were committed."""
        for partition, offset in offsets.items():
            self._offsets[partition].committed = offset

    def next_offset(self, partition: int) -> int | None:
        """The offset after the last one taken from a partition; None if none was taken in this epoch."""
        offsets = self._offsets.get(partition)
        return None if offsets is None else offsets.next

    def lowest_offset(self, partition: int) -> int | None:
        """The offset of a partition below which all is settled; None if none was taken in this epoch."""
        offsets = self._offsets.get(partition)
        return None if offsets is None else offsets.lowest

    def begin_epoch(self) -> None:
        """Start a new epoch: all deliveries so far are void."""
        self.epoch = next(_EPOCHS)
        self._waiting.clear()
        self._held.clear()
        self._offsets.clear()
        self.full = False

    @property
    def held(self) -> Sequence[Delivery]:
        """The deliveries that this version cannot process."""
        return tuple(self._held.values())

    @property
    def held_partitions(self) -> frozenset[int]:
        """The partitions with a held delivery."""
        return frozenset(partition for partition, _ in self._held)

    @property
    def free(self) -> int:
        """The number of deliveries that may still be fetched."""
        held = self.held_partitions
        return self._size - sum(len(o.open) for partition, o in self._offsets.items() if partition not in held)

    def _update_full(self) -> None:
        free = self.free
        if free <= 0:
            self.full = True
        elif free >= self._size - self._size // 2:
            self.full = False
