"""Which offset of a partition may be committed, although its deliveries are settled in any order.

Pure: no I/O, no clock, no Kafka. Every step costs the same however many offsets are open.
"""

from collections import deque


class PartitionOffsets:
    """The offsets of one partition that were delivered, in the order of delivery.

    Offsets rise but need not follow each other: compaction and transaction markers leave gaps.
    """

    def __init__(self) -> None:
        self._delivered: deque[int] = deque()
        self._open: set[int] = set()
        self._next: int | None = None
        self._committed: int | None = None

    def __len__(self) -> int:
        """How many are not settled."""
        return len(self._open)

    def deliver(self, offset: int) -> bool:
        """Take note of a delivery; False when it does not rise: the partition was cut off or made anew."""
        if self._next is None:
            self._committed = offset  # what stands before the first delivery was settled earlier
        elif offset < self._next:
            return False
        self._delivered.append(offset)
        self._open.add(offset)
        self._next = offset + 1
        return True

    def settle(self, offset: int) -> bool:
        """Take note that a delivery is settled; False when it is not open."""
        if offset not in self._open:
            return False
        self._open.remove(offset)
        while self._delivered and self._delivered[0] not in self._open:
            self._delivered.popleft()
        return True

    def to_commit(self) -> int | None:
        """The lowest unsettled offset (the next one, when all are settled), or None while it has not moved."""
        lowest = self._delivered[0] if self._delivered else self._next
        return None if lowest == self._committed else lowest

    def committed(self, offset: int) -> None:
        """Take note that this offset is stored in the group."""
        self._committed = offset
