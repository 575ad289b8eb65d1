"""Which offset may be committed, and how many deliveries may be unacknowledged."""

import random

from hypothesis import given
from hypothesis import strategies as st

from raingauge.messaging.port import Delivery
from raingauge.messaging.window import PartitionOffsets, Window


def delivered(*numbers: int) -> PartitionOffsets:
    offsets = PartitionOffsets()
    for number in numbers:
        assert offsets.deliver(number)
    return offsets


def test_before_anything_is_delivered_and_after_a_commit_there_is_nothing_to_commit() -> None:
    assert PartitionOffsets().to_commit() is None
    offsets = delivered(7, 8)
    assert offsets.settle(7)
    offsets.committed = 8
    assert offsets.to_commit() is None


def test_settling_twice_or_what_was_never_delivered_does_nothing() -> None:
    offsets = delivered(7, 8)
    assert offsets.settle(7)
    assert not offsets.settle(7)
    assert not offsets.settle(99)
    assert offsets.to_commit() == 8


def test_offsets_that_do_not_rise_are_refused() -> None:
    offsets = delivered(7)
    assert not offsets.deliver(7)
    assert not offsets.deliver(0)
    assert offsets.settle(7)
    assert not offsets.deliver(3)


@given(st.sets(st.integers(0, 10_000), min_size=1, max_size=60), st.randoms(use_true_random=False), st.data())
def test_nothing_unsettled_lies_below_the_offset_to_commit_and_nothing_settled_is_at_it(
    numbers: set[int], shuffler: random.Random, data: st.DataObject
) -> None:
    rising = sorted(numbers)
    offsets = delivered(*rising)
    order = list(rising)
    shuffler.shuffle(order)
    settled = set(order[: data.draw(st.integers(0, len(order)))])
    for number in order:
        if number in settled:
            assert offsets.settle(number)
    expected = min(numbers - settled, default=rising[-1] + 1)
    assert offsets.to_commit() == (None if expected == rising[0] else expected)
    assert len(offsets.open) == len(numbers - settled)


def delivery(window: Window, offset: int, partition: int = 0) -> Delivery:
    return Delivery("cities", partition, offset, b"key", b"%d" % offset, (), window.epoch)


def filled(size: int, count: int, partitions: int = 1) -> tuple[Window, list[Delivery]]:
    window = Window(size)
    for number in range(count):
        assert window.take(delivery(window, number // partitions, number % partitions))
    return window, window.hand_out()


def test_what_is_handed_out_is_not_handed_out_again() -> None:
    window, handed = filled(10, 3)
    assert len(handed) == 3
    assert window.hand_out() == []


def test_a_window_that_is_full_of_waiting_deliveries_stays_full_until_half_of_it_is_settled() -> None:
    window = Window(5)
    assert (window.free, window.full) == (5, False)
    assert all(window.take(delivery(window, number)) for number in range(5))
    assert window.full
    fullness = []
    for item in window.hand_out():
        assert window.acknowledge(item)
        fullness.append(window.full)
    assert fullness == [True, True, False, False, False]
    assert window.free == 5


def test_a_held_delivery_is_never_committed_past() -> None:
    window, handed = filled(10, 4)
    assert window.hold(handed[1])
    for item in (handed[0], handed[2], handed[3]):
        assert window.acknowledge(item)
    assert window.to_commit() == {0: 1}
    assert window.held == (handed[1],)


def test_a_held_partition_takes_no_room_from_the_others() -> None:
    window, handed = filled(4, 4, partitions=2)
    assert window.full
    assert window.hold(handed[0])
    assert not window.full
    assert window.free == 2


def test_a_new_epoch_voids_the_deliveries_of_the_old_one() -> None:
    window, handed = filled(3, 3)
    assert window.hold(handed[0])
    window.begin_epoch()
    assert not window.full
    assert window.held == ()
    assert window.to_commit() == {}
    assert not window.acknowledge(handed[1])
    assert window.take(delivery(window, 1))
    assert len(window.hand_out()) == 1
    assert not window.acknowledge(handed[1])


def test_epochs_of_two_windows_differ() -> None:
    assert Window(1).epoch != Window(1).epoch


def test_commits_are_noted_per_partition() -> None:
    window, handed = filled(10, 4, partitions=2)
    for item in handed:
        assert window.acknowledge(item)
    assert window.to_commit() == {0: 2, 1: 2}
    window.committed({0: 2})
    assert window.to_commit() == {1: 2}
